"""Join what the folds left: scores of all units, their summary, regional tables."""

import re
from dataclasses import dataclass

from bids_layout.query import QueryError
from demist_app.model.bundle import Bundle, BundleError, load_bundle
from demist_app.settings import Settings, SettingsError
from demist_app.training.folds import FoldError, read
from demist_app.workflows.group import report_cohort
from demist_app.workflows.scores import (
    in_words,
    out_of_fold_scores,
    summarise,
    write_scores,
    write_summary,
)


@dataclass(frozen=True)
class Aggregate:
    """What all folds say together.

    Attributes
    ----------
    summary : dict
        Metric to its mean and SD over participants; empty without any score.
    missing : dict
        Units without a score, and why.
    words : str
        Both, for people.
    """

    summary: dict[str, tuple[float, float]]
    missing: dict[str, str]
    words: str


def aggregate(settings: Settings) -> Aggregate | None:
    """Write ``group_scores.tsv`` and ``models/README.md`` from the folds that are there.

    Returns
    -------
    Aggregate or None
        None if no folds were ever drawn here.

    Raises
    ------
    SettingsError
        If ``splits.tsv`` is damaged, or the folds were not all trained in the same way.
    """
    out_dir = settings.inputs.out_dir
    path = out_dir / 'models' / 'splits.tsv'
    if not path.exists():
        return None
    try:
        splits = read(path)
    except FoldError as error:
        raise SettingsError(str(error)) from error
    folds: dict[int, Bundle] = {}
    for fold in range(1, splits.n_splits + 1):
        try:
            folds[fold] = load_bundle(path.parent / f'fold-{fold}')
        except BundleError:
            continue  # its units are reported as missing
    if len({bundle.metadata['request']['recipe'] for bundle in folds.values()}) > 1:
        raise SettingsError(
            f'the folds in {path.parent} were trained with different presets, streams, seeds or '
            'backbones, and say nothing together: train them again with the same options'
        )
    digests = {fold: bundle.sha256 for fold, bundle in folds.items()}
    scores, missing = out_of_fold_scores(out_dir, splits, digests)
    if scores.empty:
        return Aggregate({}, missing, 'no unit has an out-of-fold map yet')
    table = write_scores(out_dir, scores)
    final = path.parent / 'final'
    names = [f'fold-{fold}' for fold in folds] + (['final'] if final.exists() else [])
    description = next(iter(folds.values())).metadata['description']
    recipe = re.sub(r' \[@[^]]*\]', '', f'Each is {description}')  # citations are for methods
    write_summary(out_dir, splits, scores, names, recipe)
    summary = summarise(scores)
    words = f'out of fold, {len(scores)} unit(s): {in_words(summary)}; see {table}'
    if missing:
        words += f'; {len(missing)} without a score'
    return Aggregate(summary, missing, words)


def join_what_is_there(settings: Settings) -> str:
    """Report on what the participant level left here, if it was run, and say so."""
    try:
        return f'participant level, {report_cohort(settings.inputs)}'
    except QueryError as error:
        return f'no group report: {error}'
