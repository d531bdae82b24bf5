"""Quality beside speed: ``PYTHONPATH=benchmarks python -m speed BUNDLE BIDS DEMIST FOLDER``.

The stock recipe of MONAI (`speed.reference`) and demist with several samplers, on the same weights
and the same brains: held-out phantoms that demist has prepared. With ``--student BUNDLE`` also the
same model after stage 3. Every arm runs in a process of its
own, all arms of a brain one after the other, so that ratios are of the same minutes. Writes
``FOLDER/speed.md`` and ``FOLDER/speed.svg``; started again, it makes what is missing.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import cases
from speed.arms import ARMS, Stock, student
from speed.pareto import draw_pareto
from speed.quality import Brain

from demist_app.evaluation.lesions import pair_scores
from demist_app.evaluation.roc import auc
from demist_app.imaging.conform import brain_box
from demist_app.model.bundle import load_bundle
from demist_app.training.linear import examples

REFERENCE, COSTLIEST = 'stock-ddim-50', 'stock-ddpm-1000'
COLUMNS = {
    'seconds': ('seconds', '.3g'),
    'over_ddim': ('times faster than stock DDIM', '.1f'),
    'over_ddpm': ('than stock DDPM', '.0f'),
    'tflop': ('TFLOP', '.3g'),
    'peak_gb': ('peak (GB)', '.2f'),
    'psnr_1': ('PSNR, one draw (dB)', '.2f'),
    'ssim_1': ('SSIM, one draw', '.3f'),
    'draws': ('draws', '.0f'),
    'psnr': ('PSNR of their mean (dB)', '.2f'),
    'ssim': ('SSIM', '.3f'),
    'mae': ('MAE (pp)', '.3f'),
    'auc': ('lesions, AUC', '.3f'),
    'sd_factor': ('factor on the SD', '.2f'),
    'seams': ('seams', '.3f'),
}
"""Of the table: title and format of what is known of an arm."""


def brains(bids: Path, demist: Path, folder: Path, units: int) -> dict[str, Brain]:
    """Cut out the brains, as demist does it, and keep them for the arms."""
    held_out = {case.name: case for case in cases(bids)}
    found = {}
    for example in list(examples(demist, bids / 'derivatives' / 'qmt'))[:units]:
        box = brain_box(example.mask)
        path = folder / f'{example.name}.npz'
        np.savez(path, images=example.images[:, *box], mask=example.mask[box])
        case = held_out[example.name]
        found[example.name] = Brain.of(case, box, example.mask, example.images[0])
    return found


def run(name: str, bundle: Path, example: Path, out: Path, extra: list[str]) -> None:
    """Run one arm on one brain, unless it is done."""
    if out.exists():
        return
    part = out.with_suffix('.part')
    command = [sys.executable, '-m', 'speed.measure', name, bundle, example, part, *extra]
    print(f'{example.stem}: {name}', flush=True)
    subprocess.run([str(word) for word in command], check=True)
    part.replace(out)


def judged(out: Path, brain: Brain) -> dict[str, Any]:
    """Return facts and scores of one arm on one brain."""
    with np.load(out) as stored:
        facts: dict[str, Any] = json.loads(str(stored['facts']))
        maps = stored['maps']
    return facts | (brain.judge(maps) if len(maps) else {})


def table(results: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """Return one row per arm: means over brains, and medians of the ratios of their seconds."""
    rows = {}
    for name, facts in results.items():
        found = pd.DataFrame(facts)
        row = found.select_dtypes('number').mean().to_dict()
        for arm, column in ((REFERENCE, 'over_ddim'), (COSTLIEST, 'over_ddpm')):
            if arm in results:
                ratios = [
                    a['seconds'] / b['seconds'] for a, b in zip(results[arm], facts, strict=True)
                ]
                row[column] = np.median(ratios)
        pairs = np.concatenate([np.reshape(one.get('lesions', []), (-1, 3)) for one in facts])
        if len(pairs):
            labels, scores, _ = pair_scores(pairs, 'combined')
            row['auc'] = auc(labels, scores)
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient='index').reindex(columns=[*COLUMNS])


def page(made: pd.DataFrame, options: argparse.Namespace, some: dict[str, Any]) -> str:
    """Return the page."""
    machine = some['device']
    if machine == 'CPU':
        machine = f'{_processor()}, {some["threads"]} threads'
    head = ('arm', 'steps', *(title for title, _ in COLUMNS.values()))
    lines = [
        '# Quality beside speed\n',
        f'{machine}, torch {some["torch"]}; weights of `{options.bundle.name}`; {options.units} '
        'held-out phantoms. Seconds are of one draw of one brain: encoding, all steps, decoding.\n',
        '| ' + ' | '.join(head) + ' |',
        '|---' * len(head) + '|',
    ]
    for name, row in made.iterrows():
        arm = ARMS[str(name)]
        cells = [arm.title, str(arm.steps or '–')]
        for key, (_, words) in COLUMNS.items():
            cells.append('–' if pd.isna(row[key]) else format(row[key], words))
        if not arm.whole:
            cells[2] += f' (scaled from {arm.limit} steps)'
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def _processor() -> str:
    for line in Path('/proc/cpuinfo').read_text('utf-8').splitlines():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.machine()


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog='PYTHONPATH=benchmarks python -m speed')
    parser.add_argument('bundle', type=Path)
    parser.add_argument('bids', type=Path, help='held-out phantoms')
    parser.add_argument('demist', type=Path, help='demist’s output for them')
    parser.add_argument('folder', type=Path)
    parser.add_argument('--student', type=Path, help='bundle of the same model after stage 3')
    parser.add_argument('--arms', nargs='+', choices=ARMS, help='default: all')
    parser.add_argument('--units', type=int, default=2)
    parser.add_argument('--draws', type=int, default=8, help='of ours, for the spread')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.student:
        preset = load_bundle(options.student).metadata.get('preset', {})
        if not preset.get('training', {}).get('distill'):
            parser.error(f'{options.student} has no stage 3')
    elif 'student' in (options.arms or ()):
        parser.error('the arm student needs --student BUNDLE')
    options.folder.mkdir(parents=True, exist_ok=True)
    found = brains(options.bids, options.demist, options.folder, options.units)
    bundles = {name: options.student if student(name) else options.bundle for name in ARMS}
    chosen = options.arms or [name for name, bundle in bundles.items() if bundle]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    for unit, brain in found.items():
        for name in chosen:
            weights = load_bundle(bundles[name]).sha256[:12]
            out = options.folder / f'{unit}_{name}_{weights}.out.npz'
            once = isinstance(ARMS[name], Stock) or student(name)
            draws = 1 if once else options.draws
            extra = ['--device', options.device, '--threads', str(options.threads)]
            example = options.folder / f'{unit}.npz'
            run(name, bundles[name], example, out, [*extra, '--draws', str(draws)])
            results[name].append(judged(out, brain))
    made = table(results)
    some = next(iter(results.values()))[0]
    (options.folder / 'speed.md').write_text(page(made, options, some), 'utf-8')
    draw_pareto(made, options.folder / 'speed')
    print(f'see {options.folder / "speed.md"}')


if __name__ == '__main__':
    main()
