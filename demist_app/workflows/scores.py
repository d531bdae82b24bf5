"""How well the models of a cross-validation do on participants they were not trained on."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from bids_layout.dataset import write_whole
from bids_layout.names import derivative_path
from bids_layout.pairing import Unit
from demist_app.model.bundle import Bundle
from demist_app.settings import DEFAULT_METHOD
from demist_app.training.folds import Assignment, Splits
from demist_app.workflows.examples import out_of_fold

METRICS = {'PSNR': 'dB', 'SSIM': '', 'MSE': '', 'MAE': 'percentage points of PSR'}
"""Units of the scores that are told to people, by their key in the sidecars."""
_NEEDED = {*METRICS, 'NCC', 'SSIM_ERODED'}


def out_of_fold_scores(
    out_dir: Path, splits: Splits, models: Mapping[int, str], method: str = DEFAULT_METHOD
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Gather the scores of all units from the sidecars of the out-of-fold maps of one method.

    Parameters
    ----------
    out_dir : Path
    splits : Splits
    models : mapping of int to str
        Fold to the sha256 of its model, for the folds that have one.
    method : str

    Returns
    -------
    scores : DataFrame
        One row per unit: ``participant_id``, ``session_id``, ``group``, ``method``, ``fold``, the
        metrics as `demist_app.evaluation.metrics.Scores.columns` names them, ``draws`` and
        ``model_sha256``.
    missing : dict
        Units without scores, and why.
    """
    rows, missing = [], {}
    for assignment in splits.assignments:
        sidecar = _sidecar(out_dir, assignment, method)
        if assignment.fold not in models:
            missing[assignment.unit] = f'fold {assignment.fold} is not trained yet'
        elif not sidecar.exists():
            missing[assignment.unit] = f'{sidecar.name} does not exist'
        else:
            found = json.loads(sidecar.read_text('utf-8'))
            if (found['Fold'], found['Model']['SHA256']) != (
                assignment.fold,
                models[assignment.fold],
            ):
                missing[assignment.unit] = f'{sidecar.name} is of another model than its fold now'
                continue
            if not found['Scores'].keys() >= _NEEDED:
                missing[assignment.unit] = (
                    f'{sidecar.name} was made by an older version of demist, which scored less: '
                    'run the group level again, without --aggregate'
                )
                continue
            participant, _, session = assignment.unit.partition('_')
            rows.append(
                {
                    'participant_id': participant,
                    'session_id': session or 'n/a',
                    'group': assignment.group,
                    'method': method,
                    'fold': assignment.fold,
                    # the sidecar has them in the order of the alphabet
                    **{name.lower(): found['Scores'][name] for name in METRICS},
                    **{name.lower(): value for name, value in found['Scores'].items()},
                    'draws': found['Draws'],
                    'model_sha256': found['Model']['SHA256'],
                }
            )
    return pd.DataFrame(rows), missing


def write_scores(out_dir: Path, scores: pd.DataFrame) -> Path:
    """Write ``group_scores.tsv``: one row per unit and method, as `out_of_fold_scores` does."""
    path = out_dir / 'group_scores.tsv'
    write_whole(path, scores.to_csv(sep='\t', index=False, na_rep='n/a'))
    return path


def summarise(scores: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Return mean and SD of each metric over participants (sessions of one are averaged first).

    Parameters
    ----------
    scores : DataFrame
        Of one method.
    """
    means = scores.groupby('participant_id')[[name.lower() for name in METRICS]].mean()
    return {
        name: (float(means[name.lower()].mean()), float(means[name.lower()].std(ddof=1)))
        for name in METRICS
    }


def in_words(summary: Mapping[str, tuple[float, float]]) -> str:
    """Say a summary in one line.

    Examples
    --------
    >>> in_words({'PSNR': (24.567, 0.891), 'SSIM': (0.8512, float('nan'))})
    'PSNR 24.57 ± 0.891 dB, SSIM 0.8512'
    """
    parts = []
    for name, (mean, sd) in summary.items():
        spread = f' ± {sd:.3g}' if sd == sd else ''  # one participant has no SD
        parts.append(f'{name} {mean:.4g}{spread} {METRICS[name]}'.rstrip())
    return ', '.join(parts)


def write_summary(
    out_dir: Path,
    splits: Splits,
    scores: pd.DataFrame,
    models: Iterable[str],
    bundles: Mapping[str, Sequence[Bundle]],
) -> Path:
    """Write ``models/README.md``.

    Parameters
    ----------
    out_dir : Path
    splits : Splits
    scores : DataFrame
        As `out_of_fold_scores` gives them, of all methods; not empty.
    models : iterable of str
        Names of the bundles in ``models``.
    bundles : mapping of str to sequence of Bundle
        Method to the models of its folds, at least one.
    """
    lines = []
    for method in bundles:
        of_method = scores[scores['method'] == method]
        for fold in range(1, splits.n_splits + 1):
            units = sum(a.fold == fold for a in splits.assignments)
            words = _in_short(of_method[of_method['fold'] == fold])
            lines.append(f'| {method} | {fold} | {units} | {words} |')
        lines.append(f'| **{method}** | all | {len(of_method)} | **{_in_short(of_method)}** |')
    draws = [
        f'{method} {", ".join(str(n) for n in sorted(set(rows["draws"])))}'
        for method, rows in scores.groupby('method', sort=False)
    ]
    text = _README.format(
        recipes='\n'.join(f'- `{method}`: {_words(of[0])}' for method, of in bundles.items()),
        folds=splits.n_splits,
        participants=len({a.participant for a in splits.assignments}),
        units=len(splits.assignments),
        table='\n'.join(lines),
        draws=', '.join(draws),
        budgets='\n'.join(f'| {method} | {_budget(of)} |' for method, of in bundles.items()),
        models=', '.join(f'`{name}`' for name in models),
    )
    path = out_dir / 'models' / 'README.md'
    write_whole(path, text)
    return path


def _in_short(scores: pd.DataFrame) -> str:
    return in_words(summarise(scores)) if len(scores) else 'not there yet'


def _words(bundle: Bundle) -> str:
    return re.sub(r' \[@[^]]*\]', '', bundle.metadata['description'])  # citations are for papers


def _budget(bundles: Sequence[Bundle]) -> str:
    """Return the cells of what training a fold took, all stages together."""
    folds = [bundle.metadata['stages'].values() for bundle in bundles]
    minutes = sum(stage['seconds'] for stages in folds for stage in stages) / len(folds) / 60
    devices = dict.fromkeys(stage['device'] for stages in folds for stage in stages)
    parameters = sum(bundles[0].metadata['parameters'].values())
    updates = round(sum(stage['updates'] for stages in folds for stage in stages) / len(folds))
    return f'{parameters:,} | {updates:,} | {minutes:.3g} | {"; ".join(devices)}'


def _sidecar(out_dir: Path, assignment: Assignment, method: str) -> Path:
    participant, _, session = assignment.unit.partition('_')
    unit = Unit(
        participant=participant.removeprefix('sub-'),
        session=session.removeprefix('ses-') or None,
        t1w=Path(),
        flair=Path(),
    )
    return derivative_path(out_dir, unit, extension='.json', **out_of_fold(method))


_README = """\
# Models trained by demist

{recipes}

{units} units of {participants} participants in {folds} folds (`splits.tsv`), the same for all
methods: each model `fold-<k>` was trained without the participants of fold k, and made their maps
`*_space-T1w_desc-outoffold_PSRmap` (`outoffold<Method>` for methods other than `demist`). These
maps are synthetic, not measured. The scores compare them with the measured maps inside the brain on
the 1 mm grid; one line per unit and method is in `group_scores.tsv`.

| method | fold | units | mean ± SD over participants |
|---|---|---|---|
{table}

Draws averaged in each map: {draws}.

What training a fold took, all stages of a method together, also those that it shares with others:

| method | parameters | updates | minutes | on |
|---|---|---|---|---|
{budgets}

- PSNR, SSIM and MSE: of both maps divided by the 99.5th percentile of the measured one and clipped
  to [0, 1], over the voxels of the brain; SSIM with a Gaussian window of 1.5 voxels SD.
- MAE: percentage points of PSR, unscaled.
- `final`, where it is listed, was trained on all units: it has no score of its own. Never compare
  its maps with the measured maps of these participants.

Models here: {models}. Each has a model card in `docs/README.md`; use one with
`demist … participant --model <folder>`.
"""
