"""From the single stage of a method that is compared with to a bundle and its card."""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from demist_app import __version__
from demist_app.model.bundle import Bundle, write_bundle
from demist_app.model.presets import Preset
from demist_app.training.card import alarm_text, scores_text, spread_text
from demist_app.training.course import WEIGHTS, kept_facts
from demist_app.training.examination import Examination, examined

_LIBRARIES = ('torch', 'monai', 'lightning', 'scikit-learn', 'numpy')


def write_baseline(
    folder: Path,
    preset: Preset,
    out: Path,
    *,
    facts: Mapping[str, Any],
    examination: Examination | None = None,
) -> Bundle:
    """Write the bundle of a trained method, with its card.

    Parameters
    ----------
    folder : Path
        Of its stage, which is done.
    preset : Preset
        As given to it.
    out : Path
        Folder of the bundle; its name becomes the model's.
    facts : mapping
        As for `demist_app.training.export.export`, and ``method``, ``title``, ``description``,
        ``network`` and ``settings``.
    examination : Examination, optional
        What the model learns of its own limits from; see `examined`.
    """
    units = [*facts['training_units'], *facts['validation_units']]
    participants = {unit['participant'] for unit in units}
    stages = kept_facts(facts['stages'])
    (stage,) = stages.values()
    metadata = {
        'training_data': f'{len(units)} scans of {len(participants)} participants with measured '
        'PSR maps',
        'scored_on': 'out of fold: models trained in the same way, on participants they were not '
        'trained on',
        **facts,
        'name': out.name,
        'version': __version__,
        'preset': preset.as_dict(),
        'psr_scale': preset.psr_scale,
        'psr_unit': 'percent',
        'grid': {'spacing_mm': 1.0, 'orientation': 'RAS', 'multiple': 16},
        'stages': stages,
        'parameters': {facts['title']: stage['parameters']},
        'libraries': {'Python': platform.python_version()}
        | {name: version(name) for name in _LIBRARIES},
    }
    tensors = load_file(folder / WEIGHTS)
    metadata = examined(metadata, tensors, out, examination)
    card = _CARD.format(
        **metadata
        | {
            'data': metadata['training_data'],
            'held_out': len(facts['validation_units']),
            'settings': json.dumps(facts['settings']),
            'preset': preset.name,
            'libraries': ', '.join(f'{k} {v}' for k, v in metadata['libraries'].items()),
            'metrics': scores_text(facts['metrics'], metadata['scored_on']),
            'spread': spread_text(metadata),
            'alarm': alarm_text(metadata),
        },
        **{key: stage[key] for key in ('updates', 'seconds', 'device', 'precision')},
        count=stage['parameters'],
    )
    return write_bundle(out, metadata, tensors, card)


_CARD = """\
# Model card: {name}

{title}, a method that demist is compared with: {description}
**Its maps are synthetic, not measured.**

- **Input**: T1w and FLAIR on a 1 mm RAS grid, N4-corrected, scaled so that the 99.5th percentile
  inside the brain is 1.
- **Output**: PSR in percent.
- **Trained on**: {data}; of these, {held_out} units were kept for early stopping, or for the
  standard deviation.
- **Budget**: {updates:,} updates in {seconds:.0f} s on {device} ({precision}); {count:,}
  parameters.
- Settings `{settings}`, preset `{preset}`, seed {seed}, demist {version}, {libraries}.

## Measured
{metrics}
## Limits
- It is here to be compared with. Not for diagnosis, treatment, or any conclusion on the myelin of
  one person.
{spread}
{alarm}
- T1w and FLAIR determine PSR only in part.
"""
