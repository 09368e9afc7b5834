"""Boosted trees in NumPy compute the same results as LightGBM."""

from __future__ import annotations

import numpy as np
import pytest

from power_forecaster import boosting
from power_forecaster.trees import Trees, TreesError


@pytest.mark.parametrize("missing", [0.0, 0.1])
def test_numpy_gives_the_forecasts_of_lightgbm(missing: float) -> None:
    # given trees that were fitted to features with categories, zeros and missing values
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 24, 8))
    x[..., 3] = generator.integers(0, 3, x.shape[:2])
    x[..., 4] = np.maximum(x[..., 4], 0)
    x[generator.random(x.shape) < missing] = np.nan
    y = np.nan_to_num(x[..., 0] * x[..., 4]) + np.nan_to_num(x[..., 3])
    model = boosting.fit(x, y, 0)
    trees = Trees.read(model.model_to_string())
    # when rows are predicted that include missing values and values equal to a split's threshold
    rows = generator.normal(size=(500, 8))
    for split in range(400):
        rows[split, trees.feature[split % 300, 0]] = trees.threshold[split % 300, 0]
    rows[generator.random(rows.shape) < 0.2] = np.nan
    # then NumPy computes the same predictions
    assert trees(rows) == pytest.approx(np.asarray(model.predict(rows)))


def test_trees_without_a_split_are_constants() -> None:
    x, y = np.zeros((30, 24, 2)), np.full((30, 24), 5.0)
    model = boosting.fit(x, y, 0)
    assert Trees.read(model.model_to_string())(np.zeros((2, 2))) == pytest.approx([5, 5])


@pytest.mark.parametrize(
    "text", ["", "tree", "\nTree=0\nleaf_value=a", "\nTree=0\nthreshold=1\nleaf_value=1"]
)
def test_text_that_is_not_a_model_is_refused(text: str) -> None:
    with pytest.raises(TreesError):
        Trees.read(text)
