"""The paper's Table 1 on phantoms: ``make table1`` trains and scores every method.

Phantoms, the scans as demist prepares them, and ``demist … group --method NAME …`` for all methods
on the same folds; then ``table1.md`` with its tables, ``comparison.tsv`` with every test, and the
figures. Whatever is done is not done again; `--tables` makes tables of what there is. What follows
``--`` is given to demist, such as ``-- --device cuda --nprocs 16``.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launch import demist, parse
from table1 import cohort
from table1.gather import Results, gather
from table1.pictures import draw_examples, draw_roc
from table1.tables import comparisons, page

from demist_app.training.methods import METHODS

HERE = Path(__file__).resolve().parent
PARTICIPANTS, FOLDS, DRAWS, JOBS = 15, 5, 2, 2


def train(folder: Path, options: argparse.Namespace, extra: Sequence[str]) -> int:
    """Make the maps of all methods; return the largest exit code.

    On processors several folds at once, each in a process of its own, take less time than one fold
    on all of them: the patches of a training are too small to be shared out.
    """
    bids, out, cpus = folder / 'bids', folder / 'demist', os.cpu_count() or 1
    for line in cohort.write(bids, options.participants, options.resolution, cpus):
        print(line, flush=True)
    work = ('-w', folder / 'work', '-d', f'lesions={cohort.write_lesions(bids)}')
    codes = [demist(bids, out, 'participant', '--anat-only', *work, *extra)]
    preset = Path(options.preset)
    group = (
        *(bids, out, 'group', '--method', *options.methods, '--no-final'),
        *('--preset', preset.resolve() if preset.is_file() else preset),
        *('--n-splits', str(options.folds), '--n-samples', str(options.n_samples)),
        *work,
    )
    codes.append(demist(*group, '--prepare', *extra))
    share = ('--nprocs', str(max(1, cpus // options.jobs)), *extra)

    def fold(number: int) -> int:
        log = folder / f'fold-{number}.log'
        print(f'fold {number}: see {log}', flush=True)
        return demist(*group, '--fold', str(number), *share, log=log)

    with ThreadPoolExecutor(options.jobs) as pool:
        codes += pool.map(fold, range(1, options.folds + 1))
    codes.append(demist(*group, *extra))  # joins what the folds have made
    return max(codes)


def write(folder: Path, found: Results) -> None:
    """Write tables and figures."""
    compared = comparisons(found)
    compared.to_csv(folder / 'comparison.tsv', sep='\t', index=False, na_rep='n/a')
    (folder / 'table1.md').write_text(page(found, compared), 'utf-8')
    draw_roc(found, folder / 'roc')
    draw_examples(found, folder / 'examples')


def main() -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog='PYTHONPATH=benchmarks python -m table1', allow_abbrev=False
    )
    parser.add_argument('folder', type=Path, help='for everything: 0.5 GB for each scan')
    parser.add_argument(
        '--preset', default=HERE / 'table1.json', help='as for demist (default: for 2 cores)'
    )
    parser.add_argument('--participants', type=int, default=PARTICIPANTS)
    parser.add_argument('--resolution', type=float, default=1.0, help='of the phantoms, mm')
    parser.add_argument('--folds', type=int, default=FOLDS)
    parser.add_argument('--methods', nargs='+', default=list(METHODS), choices=METHODS)
    parser.add_argument(
        '--jobs', type=int, help=f'folds trained at once (default: {JOBS}, on a GPU 1)'
    )
    parser.add_argument('--n-samples', type=int, default=DRAWS, help='draws of each map')
    parser.add_argument('--tables', action='store_true', help='train nothing')
    options, extra = parse(parser)
    if options.jobs is None:
        options.jobs = 1 if any(word.startswith('cuda') for word in extra) else JOBS
    if options.jobs < 1:
        parser.error('--jobs must be at least 1')
    folder = options.folder.resolve()
    code = 0 if options.tables else train(folder, options, extra)
    write(folder, gather(folder))
    print(f'see {folder / "table1.md"}')
    return code


if __name__ == '__main__':
    sys.exit(main())
