"""The paper's Table 1 on phantoms: ``make table1`` trains and scores every method.

Phantoms, the scans as demist prepares them, and ``demist … group --method NAME`` for each method on
the same folds; then ``table1.md`` with its tables, ``comparison.tsv`` with every test, and the
figures. Whatever is done is not done again; `--tables` makes tables of what there is. What follows
``--`` is given to demist, such as ``-- --device cuda --nprocs 16``.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from table1 import cohort
from table1.gather import Results, gather
from table1.pictures import draw_examples, draw_roc
from table1.tables import comparisons, page

from demist_app.training.methods import METHODS

HERE = Path(__file__).resolve().parent
PARTICIPANTS, FOLDS, DRAWS = 15, 5, 4
SOME_FAILED = 1  # exit code of demist; what is done counts


def demist(*arguments: str | Path) -> int:
    """Run demist from the root of the repository, where the preset finds its baselines."""
    command = [sys.executable, '-m', 'demist_app', *map(str, arguments)]
    code = subprocess.run(command, cwd=HERE.parents[1], check=False).returncode
    if code not in (0, SOME_FAILED):
        sys.exit(code)
    return code


def train(folder: Path, options: argparse.Namespace, extra: Sequence[str]) -> int:
    """Make the maps of all methods; return the largest exit code."""
    bids, out = folder / 'bids', folder / 'demist'
    for line in cohort.write(bids, options.participants, options.resolution, os.cpu_count() or 1):
        print(line, flush=True)
    common = ('-w', folder / 'work', *extra)
    codes = [demist(bids, out, 'participant', '--anat-only', *common)]
    preset = Path(options.preset)
    for name in options.methods:
        print(f'== {name}', flush=True)
        codes.append(
            demist(
                *(bids, out, 'group', '--method', name, '--no-final'),
                *('--preset', preset.resolve() if preset.is_file() else preset),
                *('--n-splits', str(options.folds), '--n-samples', str(options.n_samples)),
                *common,
            )
        )
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
    parser.add_argument('--n-samples', type=int, default=DRAWS, help='draws of each map')
    parser.add_argument('--tables', action='store_true', help='train nothing')
    own, extra = sys.argv[1:], []
    if '--' in own:
        cut = own.index('--')
        own, extra = own[:cut], own[cut + 1 :]
    options = parser.parse_args(own)
    folder = options.folder.resolve()
    code = 0 if options.tables else train(folder, options, extra)
    write(folder, gather(folder))
    print(f'see {folder / "table1.md"}')
    return code


if __name__ == '__main__':
    sys.exit(main())
