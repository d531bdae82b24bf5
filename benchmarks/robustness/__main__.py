"""How maps suffer when scans do: ``make robustness`` damages phantoms in many ways.

Held-out phantoms (those of ``make bench``) are scanned with more noise, thicker slices, another
coil, motion, at another field strength, without a skull, and with more or fewer lesions; demist is
run on the raw scans from the beginning, and its maps are compared with the measured map of the
scans as they were. A site held out entirely needs training: methods learn from phantoms of 2 mm of
one scanner and are tested on the other. Whatever is done is not done again; `--tables`
shows what there is. What follows ``--`` is given to demist, such as ``-- --device cuda``.
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from launch import ROOT, demist, parse
from robustness import show, sites
from robustness.cells import CELLS, Cell
from robustness.phantoms import Unit, spoil, write
from robustness.scores import judge

from demist_app.phantom.cohort import Cohort
from demist_app.training.methods import METHODS

HELD_OUT = Cohort(6, seed=7)  # those of make bench, bit for bit
MODELS = 'small', 'linear'
UNITS, DRAWS, PEOPLE = 2, 4, 12
PRESET = ROOT / 'benchmarks' / 'table1' / 'table1.json'


def result(folder: Path, cell: Cell, unit: Unit, model: str) -> Path:
    """Where the scores of a map are."""
    return folder / 'cells' / cell.name / f'{unit.name}_desc-{model}.json'


def run(
    folder: Path,
    cell: Cell,
    units: Sequence[Unit],
    models: Mapping[str, str],
    cohort: Cohort,
    arguments: Sequence[str],
) -> None:
    """Make and score the maps of a cell that are not there yet."""
    scratch = folder / 'scratch' / cell.name
    numbers = range(1, len(units) + 1)
    for model, source in models.items():
        missing = [u for u in units if not result(folder, cell, u, model).exists()]
        if not missing:
            continue
        print(f'== {cell.name}, {model}', flush=True)
        bids, known = units[0].bids, missing
        if cell.damage or cell.phantom:
            bids = scratch / 'bids'
        if cell.damage:
            for unit in missing:
                spoil(bids, unit, cell)
        elif cell.phantom:
            write(bids, replace(cohort, **cell.phantom), numbers)
        if 'lesions' in cell.phantom:  # another map would have been measured
            known = [replace(unit, bids=bids) for unit in missing]
        out = scratch / model
        demist(
            *(bids, out, 'participant', '--participant-label', *(u.label for u in missing)),
            *('--model', source, '-w', scratch / 'work', *cell.arguments, *arguments),
        )
        for unit in known:
            path = result(folder, cell, unit, model)
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_suffix('.part')
            aside.write_text(json.dumps(judge(out, unit)) + '\n', 'utf-8')
            aside.replace(path)
    shutil.rmtree(scratch, ignore_errors=True)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog='PYTHONPATH=benchmarks python -m robustness', allow_abbrev=False
    )
    parser.add_argument('folder', type=Path, help='for everything; needs 3 GB')
    parser.add_argument('--units', type=int, default=UNITS, help='phantoms, up to 6')
    parser.add_argument('--resolution', type=float, default=1.0, help='of the phantoms, mm')
    parser.add_argument(
        '--models', nargs='+', default=MODELS, metavar='NAME[=FOLDER]', help='shipped, or bundles'
    )
    parser.add_argument('--n-samples', type=int, default=DRAWS, help='draws of each map')
    parser.add_argument(
        '--cells', nargs='+', default=[c.name for c in CELLS], choices=[c.name for c in CELLS]
    )
    parser.add_argument(
        '--site-methods',
        nargs='*',
        default=['linear', 'boosting', 'unet'],
        choices=METHODS,
        help='to train with a site held out; demist takes three hours more',
    )
    parser.add_argument('--site-people', type=int, default=PEOPLE, help='half of each site')
    parser.add_argument('--site-resolution', type=float, default=2.0, help='of these, mm')
    parser.add_argument('--site-preset', type=Path, default=PRESET, help='sizes of the methods')
    parser.add_argument('--tables', action='store_true', help='run nothing')
    options, extra = parse(parser)
    folder = options.folder.resolve()
    models = dict((text.split('=', 1) * 2)[:2] for text in options.models)
    draws = ['--n-samples', str(options.n_samples)]

    def tell() -> None:
        found = show.read(folder, models)
        (folder / 'robustness.md').write_text(show.page(found, folder / 'sites'), 'utf-8')
        show.draw(found, folder / 'sites', folder / 'robustness')

    if not options.tables:
        cohort = replace(HELD_OUT, resolution=options.resolution)
        numbers = range(1, options.units + 1)
        write(folder / 'bids', cohort, numbers)
        units = [
            Unit(folder / 'bids', cohort.describe(n).label, cohort.site(n).snr) for n in numbers
        ]
        for cell in CELLS:
            if cell.name in options.cells:
                run(folder, cell, units, models, cohort, [*draws, *extra])
                tell()
        if options.site_methods:
            people = Cohort(options.site_people, sites.SEED, options.site_resolution)
            preset = options.site_preset.resolve()
            sites.train(folder / 'sites', people, options.site_methods, preset, [*draws, *extra])
    tell()
    print(f'see {folder / "robustness.md"}')


if __name__ == '__main__':
    main()
