"""The measurements of `benchmarks.data_centric.labels`, which run in a separate Python environment."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from benchmarks.data_centric import digits
from benchmarks.data_centric.digits import CLASSES, IMAGES, TRUTH
from benchmarks.data_centric.labels import parse
from data_centric.core.answers import Answer
from data_centric.core.consensus import dawid_skene, majority
from label_quality import model, redundant
from label_quality.job import Found, analyzed
from label_quality.settings import Settings
from tooling.table import print_table

SETTINGS = {"attribute": digits.ATTRIBUTE, "side": "8", "grey": "true"}
LABELS = (3, 5)
"""Numbers of labels for each item"""
SHARES = (0.02, 0.05, 0.1, 0.2)
"""Shares of wrong labels"""
REMOVED = (0.3, 0.5, 0.7)
"""Shares of each class's examples that are removed"""
TESTED = 600
PLANTED = 90
"""Number of planted examples of each kind: duplicates or outliers"""
NOISE = 5
"""Standard deviation of a near-duplicate's noise, in 1/255"""

LEAST_CROWDLAB, LEAST_DAWID_SKENE = 10.0, 4.0
"""Minimum gain of CROWDLAB and of Dawid-Skene over the majority vote, in percentage points of accuracy, with
3 labels for each item"""
LEAST_RECALL, LEAST_PRECISION = 0.82, 0.70
"""Minimum recall and precision of label errors, which are planted in 5 % of the examples"""

Figures = dict[str, Any]
Row = dict[str, float]


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    parts: Mapping[str, Callable[[int], Figures]] = {
        "consensus": consensus,
        "errors": errors,
        "similar": similar_ones,
        "reasons": reasons,
        "redundant": redundant_ones,
    }
    figures: Figures = {"seeds": options.seeds}
    for name in options.only:
        print(f"\n{name}\n", flush=True)
        figures[name] = parts[name](options.seeds)
    missed = bounds(figures)
    for each in missed:
        print(f"\nmissed: {each}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return int(bool(missed))


def bounds(figures: Figures) -> list[str]:
    """Return a message for each bound that a figure misses."""
    found: list[tuple[str, float, float]] = []
    if "consensus" in figures:
        at_three = figures["consensus"]["3"]
        found += [
            ("crowdlab_over_majority", at_three["crowdlab_over_majority"]["low"], LEAST_CROWDLAB),
            ("dawid_skene_over_majority", at_three["dawid_skene_over_majority"]["low"], LEAST_DAWID_SKENE),
        ]
    if "errors" in figures:
        at_five = figures["errors"]["0.05"]
        found += [
            ("recall", at_five["recall"]["mean"], LEAST_RECALL),
            ("precision", at_five["precision"]["mean"], LEAST_PRECISION),
        ]
    return [
        f"{name} must be at least {least}, got {value:.3f}" for name, value, least in found if value < least
    ]


def interval(values: Sequence[float]) -> Row:
    """Return the mean and its 95 % interval by Student's t."""
    each = np.array(values, float)
    half = stats.t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / len(each) ** 0.5
    return {"mean": float(each.mean()), "low": float(each.mean() - half), "high": float(each.mean() + half)}


def summary(rows: Sequence[Row]) -> dict[str, Row]:
    return {name: interval([row[name] for row in rows]) for name in rows[0]}


def shown(found: Row, digits_: int = 1) -> str:
    return f"{found['mean']:.{digits_}f} [{found['low']:.{digits_}f}, {found['high']:.{digits_}f}]"


def table(by_case: Mapping[str, Mapping[str, Row]], head: str, digits_: int = 1) -> None:
    names = list(next(iter(by_case.values())))
    rows = [(case, *(shown(found[name], digits_) for name in names)) for case, found in by_case.items()]
    print_table(rows, [head, *names])


def job(labels: Any, images: Any = IMAGES, answers: Any = None, seed: int = 0, **settings: str) -> Found:
    chosen = Settings.read(SETTINGS | {"seed": str(seed)} | settings)
    return analyzed(digits.examples(images, labels), CLASSES, answers or {}, chosen)


def consensus(seeds: int) -> Figures:
    found = {str(labels): summary([_consensus(labels, seed) for seed in range(seeds)]) for labels in LABELS}
    table(found, "labels per item")
    return found


def _consensus(labels: int, seed: int) -> Row:
    crowd = digits.answered(labels, seed)
    flat = [Answer(f"{item:05}", who, c) for item, own in crowd.answers.items() for who, c in own.items()]
    votes, estimate = majority(flat, len(CLASSES)), dawid_skene(flat, len(CLASSES)).items
    by_majority, by_model = (
        np.array([found[f"{item:05}"].choice for item in crowd.answers]) for found in (votes, estimate)
    )
    answers = {
        digits.source(item): {labeler: CLASSES[choice] for labeler, choice in own.items()}
        for item, own in crowd.answers.items()
    }
    after = job(by_model, answers=answers, seed=seed)
    assert after.crowd  # noqa: S101
    people = after.crowd.labelers
    accused = {each.name for each in people if each.verdict == "spammer"}
    honest = [each for each in people if each.name in crowd.accuracy]
    reviewed = np.zeros(len(TRUTH), bool)
    reviewed[[each.index for each in after.suspects if "consensus" in each.kinds]] = True
    mistaken = after.labels != TRUTH
    return {
        "majority": _right(by_majority),
        "dawid_skene": _right(by_model),
        "crowdlab": _right(after.labels),
        "crowdlab_on_majority": _right(job(by_majority, answers=answers, seed=seed).labels),
        "dawid_skene_over_majority": _right(by_model) - _right(by_majority),
        "crowdlab_over_majority": _right(after.labels) - _right(by_majority),
        "spammers_found": len(accused & crowd.spammers),
        "honest_accused": len(accused - crowd.spammers),
        "quality_correlation": float(
            np.corrcoef([each.quality for each in honest], [crowd.accuracy[each.name] for each in honest])[
                0, 1
            ]
        ),
        "reviewed_percent": 100 * float(reviewed.mean()),
        "errors_reviewed_percent": 100 * float(reviewed[mistaken].mean()) if mistaken.any() else 100.0,
    }


def _right(labels: Any) -> float:
    return 100 * float((labels == TRUTH).mean())


def errors(seeds: int) -> Figures:
    found = {str(share): summary([_errors(share, seed) for seed in range(seeds)]) for share in SHARES}
    table(found, "wrong labels", 3)
    return found


def _errors(share: float, seed: int) -> Row:
    labels, planted = digits.wrong(TRUTH, share, seed)
    after = job(labels, seed=seed)
    flagged = _flagged(after, "label")
    suggested = {each.index: each.suggested for each in after.suspects if "label" in each.kinds}
    caught = np.flatnonzero(planted & flagged)
    return {
        "recall": float(flagged[planted].mean()),
        "precision": float(planted[flagged].mean()),
        "suggestion_right": float(np.mean([suggested[index] == TRUTH[index] for index in caught])),
        "calibration_error": after.predictions.error,
        "calibration_error_before": after.predictions.error_before,
    }


def _flagged(after: Found, kind: str) -> Any:
    found = np.zeros(len(after.labels), bool)
    found[[each.index for each in after.suspects if kind in each.kinds]] = True
    return found


def similar_ones(seeds: int) -> Figures:
    found = {"planted": summary([_similar(seed) for seed in range(seeds)])}
    table(found, "", 3)
    return found


def _similar(seed: int) -> Row:
    """Plant near-duplicates, duplicates with another label, and outliers. Return the share of each that is
    found, and the shares of other pictures that are taken for duplicates or outliers."""
    generator = np.random.default_rng(seed)
    size, chosen = len(TRUTH), generator.permutation(len(TRUTH))[: 3 * PLANTED].reshape(3, PLANTED)
    noisy = np.clip(IMAGES[chosen[0]] + generator.normal(0, NOISE, (PLANTED, 8, 8, 1)), 0, 255)
    random = generator.integers(0, 256, (PLANTED // 2, 8, 8, 1))
    negative = 255 - IMAGES[chosen[2][: PLANTED - PLANTED // 2]]
    images = np.concatenate([IMAGES, noisy, IMAGES[chosen[1]], random, negative]).astype(np.uint8)
    other = (TRUTH[chosen[1]] + generator.integers(1, 10, PLANTED)) % 10
    labels = np.concatenate([TRUTH, TRUTH[chosen[0]], other, generator.integers(0, 10, PLANTED)])
    after = job(labels, images, seed=seed)
    groups, conflicting, outlying = (
        after.similar.groups,
        _flagged(after, "duplicate"),
        _flagged(after, "outlier"),
    )
    untouched = np.setdiff1d(np.arange(size), chosen[:2])
    return {
        "noisy_copies_found": float((groups[chosen[0]] == groups[size : size + PLANTED]).mean()),
        "conflicting_copies_found": float(conflicting[size + PLANTED : size + 2 * PLANTED].mean()),
        "others_in_groups": float((np.bincount(groups)[groups] > 1)[untouched].mean()),
        "outliers_found": float(outlying[size + 2 * PLANTED :].mean()),
        "others_outlying": float(outlying[:size].mean()),
    }


def reasons(seeds: int) -> Figures:
    found = {"planted": summary([_reasons(seed) for seed in range(seeds)])}
    table(found, "", 3)
    return found


def _reasons(seed: int) -> Row:
    """Return how well each signal separates planted errors from right labels that the model would change.

    The values are areas under the ROC curve; 0.5 is chance. The Shapley values are for the log-odds of the
    suggested class over the given class, in a logistic regression on the pixels. They are exact for
    independent pixels (S. Lundberg and S.-I. Lee, 2017).
    """
    labels, planted = digits.wrong(TRUTH, 0.05, seed)
    after = job(labels, seed=seed)
    probabilities = after.predictions.probabilities
    suggested = probabilities.argmax(1)
    asked = np.flatnonzero(suggested != labels)
    rows = np.arange(len(labels))
    margin = np.log(probabilities[rows, suggested] / probabilities[rows, labels])[asked]
    around = labels[after.similar.neighbours[asked]]
    similar_labels = (around == suggested[asked, None]).sum(1) - (around == labels[asked, None]).sum(1)
    pixels = after.examples.features - after.examples.features.mean(0)
    weights = LogisticRegression(C=0.1, max_iter=300).fit(pixels, labels).coef_
    values = (weights[suggested[asked]] - weights[labels[asked]]) * pixels[asked]
    top = np.sort(np.abs(values), 1)[:, -6:].sum(1) / np.abs(values).sum(1)
    signals = {
        "probabilities": margin,
        "neighbours": similar_labels,
        "shapley_sum": values.sum(1),
        "shapley_top_tenth": top,
    }
    return {name: float(roc_auc_score(planted[asked], signal)) for name, signal in signals.items()}


LEARNERS: Mapping[str, Callable[[Any, int], Any]] = {
    "the image's model": lambda points, seed: model.classifier(points, seed),
    "perceptron": lambda _, seed: MLPClassifier((64,), max_iter=60, random_state=seed),
    "forest": lambda _, seed: RandomForestClassifier(100, random_state=seed),
}


def redundant_ones(seeds: int) -> Figures:
    rows = [_redundant(noise, seed) for noise in (0.0, 0.05) for seed in range(seeds)]
    found = {
        f"{name}, {noise:.0%} wrong": summary([row[name] for row in rows[start : start + seeds]])
        for noise, start in ((0.0, 0), (0.05, seeds))
        for name in LEARNERS
    }
    table(found, "accuracy points")
    return found


def _redundant(noise: float, seed: int) -> dict[str, Row]:
    """Return, for each learner, test accuracy and its changes in percentage points.

    `all` is the accuracy after training with all examples. `errors_out` is the change without the examples
    that were found as label errors; the other values are the further changes when redundant or random
    examples are removed too."""
    train, test = train_test_split(np.arange(len(TRUTH)), test_size=TESTED, stratify=TRUTH, random_state=seed)
    labels, _ = digits.wrong(TRUTH[train], noise, seed)
    after = job(labels, IMAGES[train], seed=seed)
    features = IMAGES.reshape(len(IMAGES), -1) / 255
    suspected = np.zeros(len(train), bool)
    suspected[[each.index for each in after.suspects]] = True
    errors_found = _flagged(after, "label")
    generator = np.random.default_rng(seed)

    def accuracy(name: str, kept: Any) -> float:
        points = features[train[kept]]
        fitted = LEARNERS[name](points, seed).fit(points, labels[kept])
        return 100 * float((fitted.predict(features[test]) == TRUTH[test]).mean())

    found: dict[str, Row] = {}
    for name in LEARNERS:
        everything, right = accuracy(name, slice(None)), accuracy(name, ~errors_found)
        row: Row = {"all": everything, "errors_out": right - everything}
        for share in REMOVED:
            surplus = redundant.find(
                labels, after.predictions.probabilities, after.similar.groups, suspected, share
            )
            kept = np.flatnonzero(~errors_found & ~surplus)
            random = generator.permutation(np.flatnonzero(~errors_found))[: len(kept)]
            row[f"redundant_{share:.0%}_out"] = accuracy(name, kept) - right
            row[f"random_{share:.0%}_out"] = accuracy(name, random) - right
        found[name] = row
    return found


if __name__ == "__main__":
    sys.exit(main())
