"""Join what the folds left: scores of all units by all methods, their summary, regional tables."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from bids_layout.query import QueryError
from demist_app.model.bundle import Bundle, BundleError, load_bundle
from demist_app.settings import DEFAULT_METHOD, Settings, SettingsError
from demist_app.training.folds import FoldError, Splits, read
from demist_app.training.methods import METHODS
from demist_app.workflows.crossvalidation import model_name
from demist_app.workflows.evaluation import Evaluation
from demist_app.workflows.evaluation_page import report_evaluation
from demist_app.workflows.group import report_cohort
from demist_app.workflows.scores import (
    in_words,
    out_of_fold_scores,
    summarise,
    write_scores,
    write_summary,
)


@dataclass(frozen=True)
class Joined:
    """What all folds of one method say together.

    Attributes
    ----------
    scores : DataFrame
        As `out_of_fold_scores` gives them.
    missing : dict
        Units without a score, and why.
    """

    scores: pd.DataFrame
    missing: dict[str, str]

    @property
    def summary(self) -> dict[str, tuple[float, float]]:
        """Metric to its mean and SD over participants; empty without any score."""
        return {} if self.scores.empty else summarise(self.scores)


@dataclass(frozen=True)
class Aggregate:
    """What all methods say.

    Attributes
    ----------
    methods : dict of str to Joined
        Those that have a model here, by name.
    words : str
        What was found, for people.
    """

    methods: dict[str, Joined]
    words: str

    @property
    def missing(self) -> dict[str, str]:
        """What has no score, and why."""
        return {
            unit if method == DEFAULT_METHOD else f'{unit}, {method}': reason
            for method, joined in self.methods.items()
            for unit, reason in joined.missing.items()
        }


def aggregate(settings: Settings) -> Aggregate | None:
    """Write scores, their evaluation and ``models/README.md`` from the folds that are there.

    Returns
    -------
    Aggregate or None
        None if no folds were ever drawn here.

    Raises
    ------
    SettingsError
        If ``splits.tsv`` is damaged, or the folds of a method were not all trained in the same way.
    """
    out_dir, named = settings.inputs.out_dir, settings.training.methods
    path = out_dir / 'models' / 'splits.tsv'
    if not path.exists():
        return None
    try:
        splits = read(path)
    except FoldError as error:
        raise SettingsError(str(error)) from error
    found = {method: _folds(path.parent, splits, method) for method in METHODS}
    trained = [method for method, bundles in found.items() if bundles]
    # a run that joins what there is misses no method
    wanted = trained if settings.training.aggregate and trained else (*named, *trained)
    folds = {method: found[method] for method in METHODS if method in wanted}
    # what was asked for comes first, and others are compared with it
    first = next((method for method in (*named, *trained) if found[method]), named[0])
    methods = {
        method: _join(out_dir, splits, method, bundles, found[first])
        for method, bundles in folds.items()
    }
    scored = [joined.scores for joined in methods.values() if not joined.scores.empty]
    if not scored:
        return Aggregate(methods, 'no unit has an out-of-fold map yet')
    scores = pd.concat(scored, ignore_index=True)
    table = write_scores(out_dir, scores)
    names = [
        name
        for method in methods
        for part in (*(f'fold-{fold}' for fold in folds[method]), 'final')
        if (path.parent / (name := model_name(part, method))).exists()
    ]
    bundles = {method: tuple(of.values()) for method, of in folds.items() if of}
    write_summary(out_dir, splits, scores, names, bundles)
    together = Aggregate(methods, _in_words(methods, table))
    page = report_evaluation(
        Evaluation(
            out_dir=out_dir,
            splits=splits,
            folds={method: of for method, of in folds.items() if of},
            reference=first,
            scores=scores,
            missing=together.missing,
        )
    )
    return replace(together, words=f'{together.words} and {page}')


def _folds(models: Path, splits: Splits, method: str) -> dict[int, Bundle]:
    folds: dict[int, Bundle] = {}
    for fold in range(1, splits.n_splits + 1):
        try:
            folds[fold] = load_bundle(models / model_name(f'fold-{fold}', method))
        except BundleError:
            continue  # its units are reported as missing
    if len({bundle.metadata['request']['recipe'] for bundle in folds.values()}) > 1:
        raise SettingsError(
            f'the folds of {method} in {models} were trained with different presets, streams, '
            'seeds or backbones, and say nothing together: train them again with the same options'
        )
    return folds


def _join(
    out_dir: Path,
    splits: Splits,
    method: str,
    folds: Mapping[int, Bundle],
    reference: Mapping[int, Bundle],
) -> Joined:
    """Gather the scores of a method, but for the folds that learned from other scans."""
    strange = {
        fold
        for fold in set(folds) & set(reference)
        if folds[fold].metadata['request']['scans'] != reference[fold].metadata['request']['scans']
    }
    digests = {fold: bundle.sha256 for fold, bundle in folds.items() if fold not in strange}
    scores, missing = out_of_fold_scores(out_dir, splits, digests, method)
    for assignment in splits.assignments:
        if assignment.fold in strange:
            missing[assignment.unit] = (
                f'{model_name(f"fold-{assignment.fold}", method)} learned from other scans than '
                'the models it is compared with: train it again'
            )
    return Joined(scores, missing)


def _in_words(methods: Mapping[str, Joined], table: Path) -> str:
    lines = []
    for method, joined in methods.items():
        words = f'{len(joined.scores)} unit(s)'
        if joined.summary:
            words += f': {in_words(joined.summary)}'
        if joined.missing:
            words += f'; {len(joined.missing)} without a score'
        lines.append(f'out of fold, {method}, {words}')
    return '\n'.join([*lines, f'see {table}'])


def join_what_is_there(settings: Settings) -> str:
    """Report on what the participant level left here, if it was run, and say so."""
    try:
        return f'participant level, {report_cohort(settings.inputs)}'
    except QueryError as error:
        return f'no group report: {error}'
