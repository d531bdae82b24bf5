"""What a unit costs in cohorts of several sizes: ``make scaling``.

Cohorts of small phantom heads (2 mm, as in `soak`), each run from nothing: seconds per unit, the
largest resident set of the main process, and what a second processor is worth. Then the time until
a data set of a thousand participants is indexed and its run planned. Prints Markdown. What follows
``--`` is given to demist.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from launch import parse
from soak import write_units

SIZES, LARGE = (1, 10, 50), 1000
SECOND = 10  # units of the run on one processor


def timed(log: Path, *arguments: str | Path) -> tuple[float, float]:
    """Run demist; return seconds and the largest resident set of its main process, GB."""
    command = [sys.executable, '-m', 'demist_app', *map(str, arguments)]
    begun, largest = time.perf_counter(), 0
    with log.open('w') as said:
        process = psutil.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                largest = max(largest, process.memory_info().rss)
            time.sleep(0.2)
    if process.returncode:
        sys.exit(f'{" ".join(command)} ended with {process.returncode}:\n{log.read_text()}')
    return time.perf_counter() - begun, largest / 1e9


def part_of(bids: Path, folder: Path, units: int) -> Path:
    """Make a data set of the first so many participants of another, by links."""
    part = folder / f'bids-{units}'
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    shutil.copy(bids / 'dataset_description.json', part)
    for path in sorted(bids.glob('sub-*'))[:units]:
        (part / path.name).symlink_to(path)
    return part


def skeleton(bids: Path, participants: int) -> None:
    """Write a data set whose scans are empty files: enough to be indexed."""
    for number in range(participants):
        anat = bids / f'sub-{number:04d}' / 'anat'
        anat.mkdir(parents=True)
        for suffix in ('T1w', 'FLAIR'):
            stem = anat / f'sub-{number:04d}_{suffix}'
            stem.with_suffix('.nii.gz').touch()
            stem.with_suffix('.json').write_text('{"MagneticFieldStrength": 3}')
    described = {'Name': 'Skeleton', 'BIDSVersion': '1.10.0'}
    (bids / 'dataset_description.json').write_text(json.dumps(described))


def run(bids: Path, folder: Path, units: int, nprocs: int, extra: Sequence[str]) -> str:
    """Run a cohort from nothing; return its row."""
    out, work = folder / 'out', folder / 'work'
    part = part_of(bids, folder, units)
    seconds, gigabytes = timed(
        folder / 'run.log', part, out, 'participant', '-w', work, '--nprocs', str(nprocs), *extra
    )
    for path in (out, work, part):
        shutil.rmtree(path)
    return f'| {units} | {nprocs} | {seconds:.0f} | {seconds / units:.1f} | {gigabytes:.2f} |'


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument('folder', type=Path, help='emptied before use')
    parser.add_argument('--sizes', type=int, nargs='+', default=SIZES)
    parser.add_argument('--nprocs', type=int, default=2)
    parser.add_argument('--seed', type=int, default=0)
    options, extra = parse(parser)
    folder: Path = options.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    bids = folder / 'bids'
    bids.parent.mkdir(parents=True)
    write_units(bids, max(options.sizes), 0, options.seed)
    print('| units | processors | seconds | per unit | main process (GB) |\n|---|---|---|---|---|')
    cells = [(units, options.nprocs) for units in options.sizes]
    for units, nprocs in [*cells, (min(SECOND, max(options.sizes)), 1)]:
        print(run(bids, folder, units, nprocs, extra), flush=True)
    large, database = folder / 'skeleton', folder / 'database'
    skeleton(large, LARGE)
    plan = (large, folder / 'planned', 'participant', '--dry-run')
    print(f'\nPlanned run of {LARGE} participants, seconds:\n')
    for words, more in (
        ('', ()),
        (', writing --bids-database-dir', ('--bids-database-dir', database)),
        (', reading it', ('--bids-database-dir', database)),
    ):
        print(f'- {timed(folder / "plan.log", *plan, *more)[0]:.1f}{words}', flush=True)


if __name__ == '__main__':
    main()
