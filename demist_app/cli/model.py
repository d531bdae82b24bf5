"""The command `demist-model`: look at models, check them, convert the pretrained backbone."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from demist_app import __version__

if TYPE_CHECKING:
    from demist_app.model.bundle import Bundle

REFUSED = 1


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `demist-model`."""
    parser = argparse.ArgumentParser(
        prog='demist-model',
        description='Look at the models of demist, check them, convert a pretrained backbone.',
        epilog='Exit codes: 0 done; 1 the model is refused, with the reason; 2 bad usage.',
        allow_abbrev=False,
    )
    parser.add_argument('--version', action='version', version=f'demist {__version__}')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')
    info = commands.add_parser('info', help='what a model is, and what it was trained on')
    info.add_argument('--json', action='store_true', help='print all metadata, as JSON')
    info.set_defaults(command=_info)
    verify = commands.add_parser(
        'verify', help='check that a model is what its author wrote, and that it can run'
    )
    verify.set_defaults(command=_verify)
    for command in (info, verify):
        command.add_argument('model', metavar='NAME|PATH', help='shipped model or bundle folder')
    convert = commands.add_parser(
        'convert',
        help='write the pretrained backbone of the MONAI model zoo as a bundle without pickles',
    )
    convert.add_argument(
        'source', type=Path, help='folder of brats_mri_generative_diffusion, or its .pt files'
    )
    convert.add_argument('out', type=Path, help='bundle to write, for demist … group --backbone')
    convert.set_defaults(command=_convert)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `demist-model`; return its exit code."""
    options = build_parser().parse_args(argv)
    from demist_app.model.bundle import BundleError

    try:
        for line in options.command(options):
            print(line)
    except (BundleError, OSError) as error:
        print(f'demist-model: {error}', file=sys.stderr)
        return REFUSED
    return 0


def _load(model: str) -> Bundle:
    from demist_app.model.bundle import find_bundle, load_bundle

    return load_bundle(find_bundle(model))


def _info(options: argparse.Namespace) -> Iterator[str]:
    bundle = _load(options.model)
    if options.json:
        yield json.dumps(bundle.metadata, indent=2, sort_keys=True, ensure_ascii=False)
    else:
        lines = [(name, value) for name, value in _lines(bundle) if value]
        width = max(len(name) for name, _ in lines)
        yield from (f'{name:{width}}  {value}' for name, value in lines)


def _lines(bundle: Bundle) -> Iterator[tuple[str, str]]:
    from demist_app.model.bundle import CARD, WEIGHTS

    facts = bundle.metadata
    preset = facts.get('preset', {})
    yield 'name', f'{bundle.name} {facts["version"]}'
    yield 'network', str(facts['network'])
    yield 'preset', str(preset.get('name', ''))
    if facts['network'] == 'demist':  # the preset of a comparison has streams for other methods
        yield 'streams', ', '.join(preset.get('streams', {}).get('active', ()))
    yield 'parameters', _listed(facts.get('parameters', {}))
    yield 'equation', str(facts.get('equation', ''))
    yield 'PSR unit', str(facts.get('psr_unit', ''))
    yield 'trained on', str(facts['training_data'])
    yield 'units', str(len(facts.get('training_units', ())) or '')
    yield 'early stopping', str(len(facts.get('validation_units', ())) or '')
    yield 'backbone', str(facts.get('backbone', ''))
    yield 'scores', _scores(facts.get('metrics', {}))
    yield 'scored', str(facts.get('scored_on', '')) if facts.get('metrics') else ''
    yield 'folder', str(bundle.path)
    yield 'card', str(bundle.path / CARD)
    yield 'weights', f'{(bundle.path / WEIGHTS).stat().st_size:,} bytes'
    yield 'sha256', bundle.sha256


def _listed(counts: Mapping[str, int]) -> str:
    return ', '.join(f'{name} {count:,}' for name, count in counts.items())


def _scores(metrics: Mapping[str, tuple[float, float]]) -> str:
    return ', '.join(f'{name} {mean:.4g} ± {sd:.2g}' for name, (mean, sd) in metrics.items())


def _verify(options: argparse.Namespace) -> Iterator[str]:
    from demist_app.model.backbone_bundle import NETWORK
    from demist_app.model.predictor import load_predictor

    bundle = _load(options.model)
    if bundle.metadata['network'] != NETWORK:  # a backbone predicts nothing by itself
        load_predictor(bundle)
    yield f'{bundle.path}: {bundle.name} {bundle.metadata["version"]} is intact'
    yield f'sha256 {bundle.sha256}'


def _convert(options: argparse.Namespace) -> Iterator[str]:
    from demist_app.model.backbone_bundle import write_backbone
    from demist_app.model.backbone_files import BackboneError, load_backbone
    from demist_app.model.bundle import METADATA, BundleError
    from demist_app.model.presets import load_preset

    if options.out.exists() and not (options.out / METADATA).exists():
        raise BundleError(f'{options.out} exists and is no bundle: give a new folder')
    preset = load_preset('paper')
    try:
        pretrained = load_backbone(options.source, preset)
    except BackboneError as error:
        raise BundleError(str(error).removeprefix('--backbone: ')) from error
    bundle = write_backbone(
        options.out.absolute(), pretrained.denoiser, pretrained.autoencoder, preset
    )
    yield f'Wrote {bundle.path}: {_listed(bundle.metadata["parameters"])} parameters'
    yield f'sha256 {bundle.sha256}'


if __name__ == '__main__':
    sys.exit(main())
