"""Fitting gradient boosting with scikit-learn."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from demist_app.model.baselines import load_baselines
from demist_app.model.boosting import Trees, features
from demist_app.training.course import Course, Trained
from demist_app.training.voxelwise import pairs, residual_table, voxelwise_facts


def fit_boosting(course: Course, folder: Path) -> Trained:  # noqa: ARG001 - nothing to resume
    """Fit the trees on voxels drawn from every training scan.

    Their number is fixed; the validation scans give the standard deviation alone.
    """
    started = time.monotonic()
    settings = load_baselines(course.preset.baselines).boosting
    rng = np.random.default_rng(course.seed)
    share = settings.voxels // sum(len(example.images) for example in course.training)
    inputs, targets = [], []
    for images, psr, mask in pairs(course.training):
        rows = features(images, mask)
        chosen = rng.choice(len(rows), min(share, len(rows)), replace=False)
        inputs.append(rows[chosen])
        targets.append(psr[mask][chosen])
    model = HistGradientBoostingRegressor(
        max_iter=settings.trees,
        max_leaf_nodes=settings.leaves,
        max_depth=settings.depth,
        learning_rate=settings.learning_rate,
        early_stopping=False,
        random_state=course.seed,
    ).fit(np.concatenate(inputs), np.concatenate(targets))
    trees = as_arrays(model)

    def predict(images: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        return trees.predict(features(images, mask))

    tensors = trees.tensors() | {'residual_sd': residual_table(predict, course.validation)}
    # a node is a feature, a threshold or a value
    facts = voxelwise_facts(course, started, updates=settings.trees, parameters=len(trees.value))
    return tensors, facts


def as_arrays(model: HistGradientBoostingRegressor) -> Trees:
    """Take the trees of a regressor of scikit-learn apart.

    Parameters
    ----------
    model : HistGradientBoostingRegressor
        Fitted to float32 features without missing values and without categories.
    """
    nodes: list[Any] = [predictor.nodes for (predictor,) in model._predictors]  # no public way
    whole = np.concatenate(nodes)
    itself = np.concatenate([np.arange(len(tree)) for tree in nodes])
    leaf = whole['is_leaf'] == 1
    children = [np.where(leaf, itself, whole[side]) for side in ('left', 'right')]
    exact = whole['num_threshold']
    threshold = exact.astype(np.float32)
    # rounded down, a float32 lies above it if and only if it lies above the exact one
    threshold = np.where(
        threshold > exact, np.nextafter(threshold, np.float32(-np.inf)), threshold
    ).astype(np.float32)
    return Trees(
        roots=np.cumsum([0, *(len(tree) for tree in nodes)]).astype(np.int32),
        feature=whole['feature_idx'].astype(np.int32),
        threshold=threshold,
        children=np.stack(children, axis=1).astype(np.int32),
        value=whole['value'].astype(np.float64),
        constant=np.asarray(model._baseline_prediction, np.float64).reshape(1),
    )
