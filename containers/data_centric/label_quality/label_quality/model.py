"""Out-of-fold class probabilities by kernel logistic regression, and their calibration."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline

COMPONENTS = 64
"""Maximum number of principal components of the features."""
LANDMARKS = 400
"""Maximum number of examples with which the kernel is approximated (Williams and Seeger, "Using the Nystroem
method to speed up kernel machines", 2000)."""
PENALTY = 0.1
"""L2 penalty. It and the kernel's width were chosen in runs with other random seeds than the benchmark's."""
ROUNDS = 300
START = (0.0, -3.0)
"""Initial values of the calibration: logarithm of the temperature, and log-odds of the share of random
labels."""
LEAST = 1e-12
"""Lower bound for a probability before its logarithm is computed."""
BINS = 10


@dataclass(frozen=True)
class Calibrated:
    probabilities: Any
    """[n, K]"""
    temperature: float
    uniform: float
    """Fitted share of labels that are random"""
    accuracy: float
    """Share of the examples whose label is the most probable class"""
    log_loss: float
    """Mean over the examples"""
    error: float
    """Expected calibration error with respect to the labels"""
    error_before: float
    """Expected calibration error before calibration"""


def embedded(features: Any, seed: int) -> Any:
    """Return the features' principal components, [n, at most `COMPONENTS`]."""
    count = min(COMPONENTS, *features.shape)
    return PCA(count, svd_solver="randomized", random_state=seed).fit_transform(features)


def classifier(points: Any, seed: int) -> Pipeline:
    """Return an untrained classifier for points [n, d].

    The squared width of its Gaussian kernel is the total variance of the points.
    """
    width = 2 * float(points.var(0).sum()) or 1.0
    kernel = Nystroem(gamma=1 / width, n_components=min(LANDMARKS, len(points)), random_state=seed)
    return make_pipeline(kernel, LogisticRegression(C=1 / PENALTY, max_iter=ROUNDS))


def out_of_fold(points: Any, labels: Any, groups: Any, classes: int, folds: int, seed: int) -> Any:
    """Return class probabilities [n, K], predicted for each fold by a model trained on the other folds.

    :param points: [n, d]
    :param labels: [n], from 0 to `classes` - 1; each class occurs at least twice
    :param groups: [n]; examples of one group are in the same fold
    """
    found = np.zeros((len(points), classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The least populated class")
        folded = StratifiedGroupKFold(
            min(folds, int(np.bincount(labels).max())), shuffle=True, random_state=seed
        )
        for train, test in folded.split(points, labels, groups):
            present = np.unique(labels[train])
            if len(present) == 1:
                found[np.ix_(test, present)] = 1
            elif len(test):
                fitted = classifier(points[train], seed).fit(points[train], labels[train])
                found[np.ix_(test, present)] = fitted.predict_proba(points[test])
    return found


def calibrated(probabilities: Any, labels: Any) -> Calibrated:
    """Calibrate probabilities [n, K] with respect to labels [n], some of which are wrong.

    Finds the temperature (Guo et al., "On Calibration of Modern Neural Networks", 2017) and the share of the
    uniform distribution that together give the least log loss. Without the uniform share, wrong labels would
    raise the temperature.
    """

    def mixed(parameters: Any) -> Any:
        temperature, uniform = np.exp(parameters[0]), expit(parameters[1])
        logits = np.log(np.maximum(probabilities, LEAST)) / temperature
        weights = np.exp(logits - logits.max(1, keepdims=True))
        return (1 - uniform) * weights / weights.sum(1, keepdims=True) + uniform / probabilities.shape[1]

    fit = minimize(lambda each: _log_loss(mixed(each), labels), START, method="Nelder-Mead").x
    found = mixed(fit)
    return Calibrated(
        found,
        float(np.exp(fit[0])),
        float(expit(fit[1])),
        float((found.argmax(1) == labels).mean()),
        _log_loss(found, labels),
        calibration_error(found, labels),
        calibration_error(probabilities, labels),
    )


def _log_loss(probabilities: Any, labels: Any) -> float:
    own = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, LEAST)).mean())


def calibration_error(probabilities: Any, labels: Any) -> float:
    """Return the expected calibration error: the mean of |accuracy - confidence| over bins of the confidence,
    each weighted by its number of examples."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    error = np.abs(np.bincount(bins, right - confidence, BINS))
    return float(error.sum() / len(labels))
