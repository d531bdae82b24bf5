"""What training the methods of a cross-validation took, for the evaluation page."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from boilerplate.evaluation_report import Training
from boilerplate.plots import Curves, curves
from demist_app.model.bundle import Bundle
from demist_app.training.methods import METHODS
from demist_app.workflows.evaluation import Evaluation


def training_of(found: Evaluation, method: str) -> Training:
    """Say what training a method took, and how its losses went.

    Parameters
    ----------
    found : Evaluation
    method : str
        One of ``found.folds``.
    """
    bundles = found.folds[method]
    stages: dict[str, list[Mapping[str, Any]]] = {}
    for bundle in bundles.values():
        for name, facts in bundle.metadata['stages'].items():
            stages.setdefault(name, []).append(facts)
    some = next(iter(bundles.values()))
    whole = [facts for of_stage in stages.values() for facts in of_stage]
    draws = found.scores.loc[found.scores['method'] == method, 'draws']
    return Training(
        method=METHODS[method].title,
        curves=tuple(_curves(found.splits.n_splits, stages, bundles)),
        stages=tuple(_stage_row(name, facts) for name, facts in stages.items()),
        totals=(
            f'{sum(some.metadata["parameters"].values()):,}',
            f'{sum(facts["updates"] for facts in whole) / len(bundles):,.0f}',
            f'{sum(facts["seconds"] for facts in whole) / len(bundles) / 60:.3g}',
            ', '.join(str(n) for n in sorted(set(draws))) or '–',
            '; '.join(dict.fromkeys(facts['device'] for facts in whole)),
        ),
    )


def _curves(
    n_splits: int, stages: Iterable[str], bundles: Mapping[int, Bundle]
) -> Iterator[Curves]:
    """Yield the losses of every stage; models of an older version kept none."""
    known = {fold: bundle.metadata['stages'] for fold, bundle in bundles.items()}
    for stage in stages:
        courses = {
            f'fold {fold}': [
                (updates, loss)
                for updates, loss in known.get(fold, {}).get(stage, {}).get('history', ())
            ]
            for fold in range(1, n_splits + 1)
        }
        if any(courses.values()):
            yield curves(stage, courses)


def _stage_row(name: str, folds: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    def mean(key: str, words: str) -> str:
        values = [facts[key] for facts in folds if key in facts]
        return format(sum(values) / len(values), words) if values else '–'

    minutes = sum(facts['seconds'] for facts in folds) / len(folds) / 60
    return (
        name,
        mean('updates', ',.0f'),
        mean('best_update', ',.0f'),
        mean('validation_loss', '.4g').replace('-', '−'),
        f'{minutes:.3g}',
        mean('peak_memory_gb', '.2f'),
    )
