"""Labeling on the deployed template under enforced IAM: from a manifest to labels by concurrent labelers."""

from __future__ import annotations

import io
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_centric.core import manifests
from data_centric.core.manifests import Entry
from scenarios.data_centric import labelers as scenario_labelers
from scenarios.data_centric import labeling_page
from tests.support.browser import require_browser
from tests.support.data_centric.deployed import CLASSES, PEOPLE, Deployed
from tests.support.data_centric.labelers import PASSWORD, Labeler

pytestmark = pytest.mark.timeout(1800)  # the first test waits for the deployment too
PREDICTED, UNSURE, ITEMS, GOLD = 20, 12, 16, 4
"""`PREDICTED` pictures have a prediction, and for `UNSURE` of these its confidence is low; `ITEMS` pictures
are to be labeled, and `GOLD` pictures are gold questions"""
WRONG = 7
"""Index of the picture whose label is wrong"""
PATIENCE = 600
"""Seconds after which the simulated labelers stop"""


def truth(entry: Entry) -> int:
    """Return the index of a picture's true class, which follows from the number in the file name."""
    return int(entry.source.rpartition("/")[2].removesuffix(".png")) % len(CLASSES)


def labeled_line(source: str, choice: int) -> dict[str, Any]:
    """Return a line of a manifest with a label."""
    metadata = {
        "class-name": CLASSES[choice],
        "confidence": 1,
        "human-annotated": "yes",
        "creation-date": "2026-11-30T00:00:00",
        "type": "groundtruth/image-classification",
        "job-name": "known",
    }
    return {"source-ref": source, "label": choice, "label-metadata": metadata}


def predicted_line(source: str, number: int) -> dict[str, Any]:
    """Return a manifest line whose predicted class is cat. The confidence is low in the first lines."""
    metadata = {"class-name": CLASSES[0], "confidence": 0.4 if number < UNSURE else 0.9}
    return {"source-ref": source, "note": "kept", "predicted": 0, "predicted-metadata": metadata}


@dataclass
class Raced:
    """A labeling run that concurrent labelers have completed. Its items are the pictures with predictions of
    low confidence, and a sample of the other pictures."""

    execution: str
    output: dict[str, Any]
    whole: str
    """URI of the manifest that the run corrects. The manifest labels all pictures as cats"""
    items: list[Entry]
    labelers: list[Labeler]
    rows: list[dict[str, Any]]
    """The run's rows in the tasks table"""


@pytest.fixture(scope="module")
def raced(deployed: Deployed) -> Raced:
    pictures = deployed.pictures("race", PREDICTED)
    gold = deployed.pictures("gold", GOLD)
    manifest = deployed.manifest("race", [predicted_line(each, n) for n, each in enumerate(pictures)])
    whole = deployed.manifest("whole", [labeled_line(each, 0) for each in pictures])
    labeled = [labeled_line(each, number % 3) for number, each in enumerate(gold)]
    execution = deployed.start(
        name="race",
        manifest=manifest,
        gold_manifest=deployed.manifest("gold", labeled),
        predictions={"attribute": "predicted", "at_most_confidence": 0.5, "sample_share": 0.5},
        corrects=whole,
        instructions="Look at the ears.",
        settings={"gold_every": 4, "extra_labels": 6},
    )
    entries = manifests.parse(deployed.get(manifest))
    known = {
        entry.item: truth(entry)
        for entry in [
            *entries,
            *manifests.parse(deployed.get(f"s3://{deployed.bucket}/inputs/gold.manifest")),
        ]
    }
    shown = deployed.opened("race", execution, deployed.tokens["ann"])
    assert (shown["kind"], shown["classes"], shown["items"], shown["done"], shown["complete"]) == (
        "label",
        CLASSES,
        ITEMS,
        0,
        0,
    )
    assert shown["instructions"] == "Look at the ears."
    # A labeler takes a task and does not answer
    status, _ = deployed.ask("POST", "/api/runs/race/task", deployed.tokens["gone"])
    assert status == 200

    def choose(name: str, draw: random.Random) -> Callable[[str], int | None]:
        """A labeler who is unsure about 5 % of the items, and right about 90 % of the remaining items."""

        def answer(item: str) -> int | None:
            if draw.random() < 0.05:
                return None
            return known[item] if draw.random() < 0.85 else draw.randrange(3)

        return answer

    labelers = [
        Labeler(
            deployed.ask, deployed.tokens[name], "race", choose(name, random.Random(n)), random.Random(-n)
        )
        for n, name in enumerate(PEOPLE)
    ]
    late = time.monotonic() + PATIENCE
    threads = [
        threading.Thread(target=each.work, args=(lambda: time.monotonic() > late,)) for each in labelers
    ]
    for thread in threads:
        thread.start()
    state = deployed.ended(execution)
    for thread in threads:
        thread.join()
    assert state["status"] == "SUCCEEDED", state
    rows = deployed.client("dynamodb").query(
        TableName=deployed.out["TasksTable"],
        KeyConditionExpression="#run = :run",
        ExpressionAttributeNames={"#run": "run"},
        ExpressionAttributeValues={":run": {"S": "race"}},
    )["Items"]
    output = json.loads(state["output"])
    results = [manifests.parse(deployed.get(output[name])) for name in ("manifest", "unlabeled_manifest")]
    labeled_items = {entry.item for result in results for entry in result}
    items = [entry for entry in entries if entry.item in labeled_items]
    return Raced(execution, output, whole, items, labelers, rows)


def answers_of(raced: Raced) -> dict[str, set[str]]:
    """Labelers who answered each item, gold questions included."""
    return {row["item"]["S"]: set(row["answers"]["M"]) for row in raced.rows if "item" in row}


def test_concurrent_labelers_lose_and_duplicate_no_answers(raced: Raced) -> None:
    assert [problem for each in raced.labelers for problem in each.problems] == []
    stored, kept = answers_of(raced), [item for each in raced.labelers for item in each.kept]
    # then each answer that the API accepted is stored once
    assert sum(map(len, stored.values())) == len(kept) >= 3 * ITEMS
    assert all(len(set(each.kept)) == len(each.kept) for each in raced.labelers)
    # and each item has the requested number of labels
    wanted = {row["item"]["S"]: int(row["wanted"]["N"]) for row in raced.rows if "item" in row}
    lacking = {entry.item: len(stored[entry.item]) for entry in raced.items}
    assert lacking == {entry.item: wanted[entry.item] for entry in raced.items}
    assert not any(row["leases"]["M"] for row in raced.rows if "item" in row and row["truth"].get("NULL"))


def test_run_ends_with_a_manifest_that_reads_back(deployed: Deployed, raced: Raced) -> None:
    output = raced.output
    assert (output["name"], output["complete"], output["items"]) == ("race", True, ITEMS)
    entries = manifests.parse(deployed.get(output["manifest"]))
    labels = manifests.labels_of(entries, "label", CLASSES)
    unlabeled = manifests.parse(deployed.get(output["unlabeled_manifest"]))
    assert len(labels) + len(unlabeled) == ITEMS
    assert manifests.version(labels) == output["version"]
    assert {entry.fields["note"] for entry in entries} == {"kept"}
    right = sum(labels[entry.item].choice == truth(entry) for entry in entries)
    assert right >= 0.8 * ITEMS
    assert output["cost"]["least"]["answers"] > 3 * ITEMS
    assert output["cost"]["most"]["total"] > output["cost"]["least"]["total"] > 0


def test_unsure_predictions_and_a_sample_are_labeled(deployed: Deployed, raced: Raced) -> None:
    numbers = [entry.line - 1 for entry in raced.items]
    assert numbers[:UNSURE] == [*range(UNSURE)]
    assert len(numbers) == ITEMS
    report = json.loads(deployed.get(raced.output["report"]))["predictions"]
    low, sample = report["low_confidence"], report["random"]
    assert (low["selected"], sample["predictions"], sample["selected"]) == (UNSURE, 8, 4)
    labels = manifests.labels_of(manifests.parse(deployed.get(raced.output["manifest"])), "label", CLASSES)
    errors = manifests.parse(deployed.get(raced.output["errors_manifest"]))
    assert {entry.item for entry in errors} == {item for item, each in labels.items() if each.choice}
    assert low["wrong"] + sample["wrong"] == len(errors) > 0


def test_whole_manifest_is_corrected(deployed: Deployed, raced: Raced) -> None:
    before, after = (
        deployed.get(address).splitlines() for address in (raced.whole, raced.output["corrected_manifest"])
    )
    entries = manifests.parse(b"\n".join(after))
    labels = manifests.labels_of(entries, "label", CLASSES)
    assert manifests.version(labels) == raced.output["corrected_version"]
    labeled = manifests.parse(deployed.get(raced.output["manifest"]))
    own = manifests.labels_of(labeled, "label", CLASSES)
    assert {item: labels[item] for item in own} == own
    same = [old == new for old, new in zip(before, after, strict=True)]
    assert same == [entry.item not in own for entry in entries]


def test_outputs_do_not_name_labelers(deployed: Deployed, raced: Raced) -> None:
    cognito = deployed.client("cognito-idp")
    users = cognito.list_users(UserPoolId=deployed.out["UserPoolId"])["Users"]
    subs = [
        attribute["Value"]
        for user in users
        for attribute in user["Attributes"]
        if attribute["Name"] in ("sub", "email")
    ]
    assert len(subs) >= 2 * len(PEOPLE)
    objects = deployed.client("s3").list_objects_v2(Bucket=deployed.bucket, Prefix="labels/")["Contents"]
    assert len(objects) == 6
    texts = [deployed.get(f"s3://{deployed.bucket}/{each['Key']}").decode() for each in objects]
    for text in (*texts, json.dumps(raced.rows), json.dumps(raced.output)):
        assert not any(sub in text for sub in subs)
    report = json.loads(deployed.get(raced.output["report"]))
    assert {each["labeler"][:8] for each in report["divergence"]["labelers"]} == {"labeler-"}


def test_same_input_again_writes_the_same_results(deployed: Deployed, raced: Raced) -> None:
    files = [address for name, address in raced.output.items() if name == "report" or "manifest" in name]
    assert len(files) == 5
    before = [deployed.get(file) for file in files]
    given = json.loads(deployed.state(raced.execution)["input"])
    state = deployed.ended(deployed.start(**given))
    assert state["status"] == "SUCCEEDED", state
    assert json.loads(state["output"]) == raced.output
    assert [deployed.get(file) for file in files] == before


@pytest.fixture(scope="module")
def open_runs(deployed: Deployed) -> dict[str, str]:
    """The ARNs of the executions of three open labeling runs, by the run's name: `review` for all labelers,
    `secret` and `shown` for experts only."""
    given, (hidden,) = deployed.pictures("review", 2), deployed.pictures("secret", 1)
    review = {
        "given": "cat",
        "suggested": "owl",
        "reason": "4 of 5 neighbours are owls",
        "neighbours": [{"source-ref": hidden, "label": "owl"}],
    }
    lines = [{"source-ref": each, "review": review} for each in given]
    content = io.BytesIO()
    Image.radial_gradient("L").save(content, "PNG")
    shown, similar = (deployed.put(f"inputs/shown/{n}.png", content.getvalue()) for n in range(2))
    visible = review | {"neighbours": [{"source-ref": similar, "label": "owl"}]}
    lines_shown = [{"source-ref": shown, "review": visible}]
    started = {
        "review": deployed.start(name="review", kind="review", manifest=deployed.manifest("review", lines)),
        "secret": deployed.start(
            name="secret",
            group="experts",
            manifest=deployed.manifest("secret", [{"source": "a text"}, {"source-ref": hidden}]),
            settings={"labels": 1},
        ),
        "shown": deployed.start(
            name="shown",
            kind="review",
            group="experts",
            manifest=deployed.manifest("shown", lines_shown),
            settings={"labels": 1},
        ),
    }
    for run, execution in started.items():
        deployed.opened(run, execution, deployed.tokens["expert"])
    return started


def test_reviewer_sees_both_labels_and_neighbours(deployed: Deployed, open_runs: dict[str, str]) -> None:
    ann = deployed.tokens["ann"]
    first = deployed.ask("POST", "/api/runs/review/task", ann)
    status, task = first
    assert status == 200
    assert (task["review"]["given"], task["review"]["suggested"]) == ("cat", "owl")
    (neighbour,) = task["review"]["neighbours"]
    assert neighbour["label"] == "owl"
    assert fetched(neighbour["url"]) == (200, b"picture 0")
    status, picture = fetched(task["source"]["url"])
    assert (status, picture[:8]) == (200, b"picture ")
    # another request during the lease gets the same task
    status, again = deployed.ask("POST", "/api/runs/review/task", ann)
    assert (status, again["item"], again["until"]) == (200, task["item"], task["until"])


def fetched(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_labeler_cannot_access_tasks_of_other_labelers(deployed: Deployed, open_runs: dict[str, str]) -> None:
    ann, expert = deployed.tokens["ann"], deployed.tokens["expert"]
    # a labeler can neither see a run for another group nor get its tasks
    _, told = deployed.ask("GET", "/api/runs", ann)
    assert [run["name"] for run in told["runs"]] == ["review"]
    assert deployed.ask("POST", "/api/runs/secret/task", ann)[0] == 404
    status, task = deployed.ask("POST", "/api/runs/secret/task", expert)
    assert status == 200
    body = {"item": task["item"], "choice": 0}
    assert deployed.ask("POST", "/api/runs/secret/answers", ann, body)[0] == 404
    # an answer is refused for an item of another run, and for an item that another labeler has leased
    status, told = deployed.ask("POST", "/api/runs/review/answers", ann, body)
    assert (status, told["error"]["code"]) == (409, "no_lease")
    _, held = deployed.ask("POST", "/api/runs/review/task", ann)
    body = {"item": held["item"], "choice": 0}
    assert deployed.ask("POST", "/api/runs/review/answers", deployed.tokens["bob"], body)[0] == 409
    # a request without a token, or with an invalid one, is refused
    for token in ("", "token"):
        assert deployed.ask("GET", "/api/runs", token)[0] == 401


def test_address_of_a_picture_gives_access_to_no_other(deployed: Deployed, open_runs: dict[str, str]) -> None:
    _, task = deployed.ask("POST", "/api/runs/review/task", deployed.tokens["bob"])
    url = task["source"]["url"]
    key = url.partition("?")[0].partition("/inputs/")[2]
    for other in ("secret/0.png", "review.manifest"):
        assert fetched(url.replace(key, other))[0] == 403
    assert fetched(url.partition("?")[0])[0] == 403


def test_progress_is_for_operators(deployed: Deployed, raced: Raced, open_runs: dict[str, str]) -> None:
    path = "/api/runs/race/progress"
    status, told = deployed.ask("GET", path, deployed.tokens["ann"])
    assert (status, told["error"]["code"]) == (403, "forbidden")
    status, told = deployed.ask("GET", path, deployed.tokens["operator"])
    assert (status, told["items"], told["complete"]) == (200, ITEMS, ITEMS)
    assert deployed.ask("GET", "/api/runs/none/progress", deployed.tokens["operator"])[0] == 404


def test_invalid_answer_names_the_field(deployed: Deployed, open_runs: dict[str, str]) -> None:
    ann, path = deployed.tokens["ann"], "/api/runs/review/answers"
    item = "0" * 24
    for body, field in (
        ({"item": item}, "choice"),
        ({"item": item, "choice": 3}, "choice"),
        ({"item": item, "choice": "cat"}, "choice"),
        ({"item": "x", "choice": 0}, "item"),
        ({"item": item, "choice": 0, "more": 1}, "more"),
    ):
        status, told = deployed.ask("POST", path, ann, body)
        assert (status, told["error"]["code"], told["error"]["field"]) == (400, "invalid", field)


def test_estimate_returns_the_cost_without_starting_a_run(deployed: Deployed) -> None:
    manifest = deployed.manifest("estimate", [{"source": f"text {number}"} for number in range(10)])
    state = deployed.ended(deployed.start(name="estimate", manifest=manifest, estimate_only=True))
    assert state["status"] == "SUCCEEDED", state
    output = json.loads(state["output"])
    assert (output["items"], output["cost"]["least"]["answers"]) == (10, 30)
    assert deployed.ask("GET", "/api/runs/estimate/progress", deployed.tokens["operator"])[0] == 404


def test_invalid_manifest_ends_the_run_with_the_reason(deployed: Deployed) -> None:
    deployed.put("inputs/wrong.manifest", b'{"source": "a"}\nno json\n{"source-ref": "s3://other/a.png"}\n')
    state = deployed.ended(
        deployed.start(name="wrong", manifest=f"s3://{deployed.bucket}/inputs/wrong.manifest")
    )
    assert (state["status"], state["error"]) == ("FAILED", "CheckFailed")
    assert "line 2: is not JSON" in state["cause"]
    outside = deployed.ended(deployed.start(name="outside", manifest="s3://elsewhere/a.manifest"))
    assert "manifest must be in s3://" in outside["cause"]


def test_examination_finds_a_wrong_label_for_review(deployed: Deployed) -> None:
    # given 60 pictures, one of which has a wrong label in the manifest
    lines = []
    for number in range(60):
        pixels = np.random.default_rng(number).integers(0, 90, (8, 8), np.uint8)
        pixels[:, 1 + 2 * (number % 3)] += 150
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "PNG")
        source = deployed.put(f"inputs/columns/{number}.png", content.getvalue())
        lines.append(labeled_line(source, (number + (number == WRONG)) % 3))
    given = {
        "attribute": "label",
        "manifest": deployed.manifest("columns", lines),
        "pictures": f"s3://{deployed.bucket}/inputs/columns/",
        "arguments": {"side": 8, "grey": True},
    }
    # when the pictures are examined
    state = deployed.ended(deployed.begin("ExamineArn", given))
    assert state["status"] == "SUCCEEDED", state
    # then the wrong label is in the review manifest, with the right class suggested
    output = json.loads(state["output"])
    reviews = manifests.parse(deployed.get(output["review_manifest"]))
    suggested = {entry.source: entry.fields["review"]["suggested"] for entry in reviews}
    assert suggested[lines[WRONG]["source-ref"]] == CLASSES[WRONG % 3]
    # and a labeling run accepts the review manifest, to correct the examined manifest
    review = {"name": "again", "kind": "review", "manifest": output["review_manifest"]}
    ended = deployed.ended(deployed.start(**review, corrects=given["manifest"], estimate_only=True))
    assert ended["status"] == "SUCCEEDED", ended


def test_screenshot_of_the_page_answers_no_task(
    deployed: Deployed, open_runs: dict[str, str], tmp_path: Path
) -> None:
    # given a task to review a label, with a reason and a similar picture
    require_browser()
    expert = scenario_labelers.Labeler("expert", "", "", "", email="expert@example.com", password=PASSWORD)
    site = deployed.cloud.local_url(deployed.out["SiteUrl"])
    # when a screenshot of the expert's task is taken
    light, dark = labeling_page.take(site, "shown", expert, tmp_path, "review", seconds=60)
    # then there is a light and a dark screenshot, small enough for a report
    pixels = [np.asarray(Image.open(path).convert("L"), float) for path in (light, dark)]
    assert pixels[0].shape == pixels[1].shape
    assert pixels[0].mean() > 150 > 100 > pixels[1].mean()
    assert all(path.stat().st_size < 150_000 for path in (light, dark))
    # and the expert still has the task, which has no answer
    _, told = deployed.ask("GET", "/api/runs/shown/progress", deployed.tokens["operator"])
    assert (told["items"], told["complete"]) == (1, 0)
    assert deployed.ask("POST", "/api/runs/shown/task", deployed.tokens["expert"])[0] == 200
