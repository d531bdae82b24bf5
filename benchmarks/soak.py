"""Run a cohort in which something is always wrong, and check every promise made of it.

Small phantom heads, each with noise of its own, some of them broken in one of ten ways; one worker
is killed while the run is under way. Then: every good unit is bit for bit what it is when run
alone, every bad one is named with its reason, the exit code is 1, and a rerun computes only what is
missing (results are put in their place anew, from the work folder). Prints a table of Markdown; the
first promise that is not kept ends it.
"""

import argparse
import csv
import gzip
import random
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np
import psutil

from demist_app.phantom.cohort import write_cohort

HEADS = 2
LONG_STEPS = ('brain_mask', 'register_flair', 'conform', 'segment_tissue', 'synthesise')
WRITING = re.compile(r'ds_|summarise$|report$')
"""Steps that put results in their place, from the work folder, in every run."""


class BrokenPromiseError(AssertionError):
    """What demist promises did not happen."""


def promise(kept: object, text: str) -> None:
    """End the soak unless a promise was kept."""
    if not kept:
        raise BrokenPromiseError(text)


def _rewrite(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> None:
    affine = nb.load(path).affine if affine is None else affine
    nb.Nifti1Image(data, affine, dtype=data.dtype).to_filename(path)


def _data(path: Path) -> np.ndarray:
    return nb.load(path).get_fdata(dtype=np.float32)


def _with_nan(path: Path) -> None:
    data = _data(path)
    data[10:20] = np.nan
    _rewrite(path, data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _colours(path: Path) -> None:
    _rewrite(path, np.zeros(_data(path).shape, [('R', 'u1'), ('G', 'u1'), ('B', 'u1')]))


WAYS: dict[str, tuple[Callable[[Path], object], str]] = {
    'cut short': (_cut, 'truncated or damaged'),
    'text': (lambda path: path.write_bytes(gzip.compress(b'hello')), 'is not a NIfTI file'),
    'empty': (lambda path: path.write_bytes(b''), 'is an empty file'),
    'four volumes': (lambda path: _rewrite(path, np.stack([_data(path)] * 4, -1)), '4 volumes'),
    'not a number': (_with_nan, 'NaN or infinite'),
    'one value': (lambda path: _rewrite(path, _data(path) * 0), 'every voxel'),
    'huge voxels': (lambda path: _rewrite(path, _data(path), np.diag([400, 400, 400, 1])), 'mm'),
    'too small': (lambda path: _rewrite(path, _data(path)[:20, :20, :20]), 'too little'),
    'colours': (_colours, 'holds colours'),
    'complex': (lambda path: _rewrite(path, _data(path).astype('c8')), 'complex numbers'),
}
"""How a scan is broken, and what its user must be told."""


@dataclass(frozen=True)
class Done:
    """One run of the app that ended."""

    out: Path
    code: int
    seconds: float
    killed: str = ''

    @property
    def _log_dir(self) -> Path:
        return max(self.out.glob('logs/2*'), key=lambda path: path.stat().st_mtime_ns)

    @property
    def status(self) -> dict[str, dict[str, str]]:
        """Rows of status.tsv by participant."""
        with (self._log_dir / 'status.tsv').open() as file:
            rows = csv.DictReader(file, delimiter='\t')
            return {row['unit'].split('_')[0]: row for row in rows}

    @property
    def computed(self) -> dict[str, set[str]]:
        """Steps that were really run, by participant, without those that only write."""
        log = (self._log_dir / 'demist.log').read_text()
        begun, cached = (
            set(re.findall(rf'\[Node\] {word} "demist_wf\.(sub_\w+?)_ses_([\w.]+)"', log))
            for word in ('Setting-up', 'Cached')
        )
        steps: defaultdict[str, set[str]] = defaultdict(set)
        for unit, step in begun - cached:
            if not WRITING.match(step.rpartition('.')[2]):
                steps[unit.replace('_', '-')].add(step)
        return steps


def write_units(bids: Path, units: int, broken: int, seed: int) -> dict[str, str]:
    """Write a cohort; return the broken participants and what each must be told."""
    write_cohort(bids, HEADS, seed, resolution=2.0, nprocs=HEADS)
    shutil.rmtree(bids / 'derivatives')
    heads = [path.rename(bids.parent / path.name) for path in sorted(bids.glob('sub-*'))]
    (bids / 'participants.tsv').unlink()
    rng = random.Random(seed)
    ways = list(WAYS.values())
    bad = {}
    for number in sorted(rng.sample(range(units), broken)):
        bad[f'sub-{number + 1:03d}'] = ways[len(bad) % len(ways)]
    for number in range(units):
        head, label = heads[number % HEADS], f'sub-{number + 1:03d}'
        for source in sorted(head.rglob('*_*.*')):
            target = bids / str(source.relative_to(head.parent)).replace(head.name, label)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        for path in sorted((bids / label).rglob('*.nii.gz')):
            data = _data(path)
            noise = np.random.default_rng([seed, number]).standard_normal(data.shape, np.float32)
            _rewrite(path, data + 0.005 * data.std() * noise)
        if label in bad:
            suffix = rng.choice(['T1w', 'FLAIR'])
            (scan,) = (bids / label).rglob(f'*_{suffix}.nii.gz')
            bad[label][0](scan)
    return {label: reason for label, (_, reason) in bad.items()}


def demist(bids: Path, folder: Path, *options: str, kill_at: int = 0) -> Done:
    """Run the app; kill a worker when so many participants have come to a long step."""
    command = [
        sys.executable, '-m', 'demist_app', bids, folder / 'out', 'participant', '-w',
        folder / 'work', '--sloppy', '--model', 'linear', '--omp-nthreads', '1', *options,
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    start, killed = time.monotonic(), ''
    with (folder / 'output.txt').open('a') as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        seen: set[str] = set()
        while kill_at and not killed:
            promise(process.poll() is None, 'the run ended before a worker could be killed')
            time.sleep(0.05)
            for label, worker in _long_steps(process.pid):
                seen.add(label)
                if len(seen) >= kill_at and not killed:
                    worker.kill()
                    killed = label
        code = process.wait()
    return Done(folder / 'out', code, time.monotonic() - start, killed)


def _long_steps(pid: int) -> Iterator[tuple[str, psutil.Process]]:
    """Yield the workers that are at a long step, and the participants they work on."""
    for worker in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):
            folder = Path(worker.cwd())
            found = re.search(r'/(sub_\w+?)_ses', str(folder))
            if found and folder.name in LONG_STEPS:
                yield found[1].replace('_', '-'), worker


def differences(one: Path, other: Path) -> list[str]:
    """List the files of a participant that are not the same in two output folders."""
    names = {
        str(path.relative_to(folder))
        for folder in (one, other)
        for path in folder.rglob('*')
        if path.is_file() and 'figures' not in path.parts
    }
    promise(names, f'{one} and {other} are empty')
    return sorted(name for name in names if not _same(one / name, other / name))


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.read_bytes() == other.read_bytes()


def check_cohort(run: Done, units: int, bad: dict[str, str]) -> None:
    """Check that all are accounted for, and the bad ones with their reasons."""
    status = run.status
    failed = {label for label, row in status.items() if row['status'] == 'failed'}
    promise(run.code == 1, f'the exit code is {run.code}')
    promise(len(status) == units, f'{len(status)} units of {units} are accounted for')
    promise(failed == {*bad, run.killed}, f'failed: {failed}, not {bad} and {run.killed}')
    done = sum(row['status'] == 'done' for row in status.values())
    promise(done == units - len(failed), f'{done} units are done')
    for label, reason in bad.items():
        said = status[label]['reason']
        promise(reason in said and label in said, f'{label}: {said!r} does not say {reason!r}')
    said = status[run.killed]['reason']
    promise('killed by signal 9' in said and '--low-mem' in said, f'{run.killed}: {said!r}')


def check_rerun(run: Done, first: Done, bad: dict[str, str]) -> None:
    """Check that nothing was computed but for the killed unit; the bad ones fail as before."""
    failed = {label for label, row in run.status.items() if row['status'] == 'failed'}
    promise(run.code == 1, f'the exit code of the rerun is {run.code}')
    promise(failed == set(bad), f'failed again: {failed}')
    for label, steps in run.computed.items():
        allowed = label == first.killed or (
            label in bad and {step.rpartition('.')[2] for step in steps} == {'check_inputs'}
        )
        promise(allowed, f'the rerun computed {", ".join(sorted(steps))} of {label} again')
    promise(first.killed in run.computed, 'the rerun did not mend the killed unit')


def soak(folder: Path, units: int, broken: int, solo: int, seed: int) -> str:
    """Run all; return a row of Markdown."""
    random.seed(seed)
    bids = folder / 'bids'
    bad = write_units(bids, units, broken, seed)
    # broken units may fail before they come to a long step
    run = demist(bids, folder / 'all', kill_at=random.randint(1, (units - broken + 1) // 2))
    check_cohort(run, units, bad)
    again = demist(bids, folder / 'all')
    check_rerun(again, run, bad)
    good = sorted(set(run.status) - set(bad))
    for label in {run.killed, *random.sample(good, min(solo, len(good)))}:
        alone = demist(bids, folder / f'solo-{label}', '--participant-label', label)
        promise(alone.code == 0, f'{label} alone ended with {alone.code}')
        unlike = differences(run.out / label, alone.out / label)
        promise(not unlike, f'{label} alone differs in {", ".join(unlike)}')
    return _row(
        units, f'{broken} and 1 killed ({run.killed})', f'{run.seconds:.0f}',
        f'{run.seconds / units:.1f}', f'{again.seconds:.0f}',
    )  # fmt: skip


def _row(*cells: object) -> str:
    return f'| {" | ".join(map(str, cells))} |'


def _lines(result: str) -> Iterable[str]:
    yield _row('units', 'broken', 'seconds in all', 'per unit', 'seconds of the rerun')
    yield _row(*['---'] * 5)
    yield result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='new folder for all of it')
    parser.add_argument('--units', type=int, default=40)
    parser.add_argument('--broken', type=int, default=4, help='of them; 10 is every way there is')
    parser.add_argument('--solo', type=int, default=5, help='good units to run alone')
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    result = soak(
        options.folder.absolute(), options.units, options.broken, options.solo, options.seed
    )
    print('\n'.join(_lines(result)))


if __name__ == '__main__':
    main()
