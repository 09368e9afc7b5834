"""A processing job that examines labels: its results, and the input that it refuses."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_centric.core import manifests
from tests.support.data_centric.label_image import PREFIX, Job, prepared, run

CLASSES = ("left", "middle", "right")
COUNT, WRONG, COPY, BROKEN = 91, 7, 90, 89
"""Number of pictures. Picture 7 has a wrong label, picture 90 is a copy of picture 0 with another label, and
picture 89 is unreadable."""
CREATED = "2026-11-30T04:00:00.000000"


def picture(number: int) -> bytes:
    """A picture of noise with a bright column, whose position is the class."""
    number = 0 if number == COPY else number
    pixels = np.random.default_rng(number).integers(0, 90, (8, 8), np.uint8)
    pixels[:, 1 + 2 * (number % 3)] += 150
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()[: 40 if number == BROKEN else None]


def label(number: int) -> int:
    return {WRONG: 2, COPY: 1}.get(number, number % 3)


def line(number: int) -> dict[str, Any]:
    metadata = {
        "class-name": CLASSES[label(number)],
        "confidence": 0.6,
        "type": "groundtruth/image-classification",
        "job-name": "columns",
        "human-annotated": "yes",
        "creation-date": CREATED,
    }
    return {"source-ref": f"{PREFIX}{number}.png", "column": label(number), "column-metadata": metadata}


def answers() -> bytes:
    """Answers of four labelers who are right, two of whom answer each picture, and of one who answers at
    random."""
    draw = np.random.default_rng(0)

    def annotation(labeler: int, choice: int) -> dict[str, Any]:
        content = json.dumps({"crowd-image-classifier": {"label": CLASSES[choice]}})
        return {"workerId": f"labeler-{labeler}", "annotationData": {"content": content}}

    return json.dumps(
        [
            {
                "dataObject": {"s3Uri": f"{PREFIX}{number}.png"},
                "annotations": [
                    annotation(number % 2, number % 3),
                    annotation(2 + number % 2, number % 3),
                    annotation(4, int(draw.integers(3))),
                ],
            }
            for number in range(COPY)
        ]
    ).encode()


def lines(*more: dict[str, Any]) -> bytes:
    return "".join(json.dumps(each) + "\n" for each in [*map(line, range(COUNT)), *more]).encode()


FILES = {"manifest/columns.manifest": lines()} | {
    f"pictures/{number}.png": picture(number) for number in range(COUNT)
}
ARGUMENTS = ("--attribute", "column", "--grey", "true", "--side", "8", "--most-unreadable", "1")


@pytest.fixture(scope="module")
def job(examiner: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A completed job without labelers' answers. Tests must not change it."""
    base = prepared(tmp_path_factory.mktemp("label_quality") / "job", FILES)
    done = run(base, examiner, *ARGUMENTS)
    assert done.code == 0, done.log
    return done


def manifest(job: Job, name: str) -> dict[str, dict[str, Any]]:
    """Return the lines of an output manifest by picture number, parsed with the labeling functions' code."""
    entries = manifests.parse((job.base / "processing/output" / name).read_bytes())
    return {each.source.removeprefix(PREFIX).removesuffix(".png"): dict(each.fields) for each in entries}


def test_review_manifest_has_suspects_with_reasons(job: Job) -> None:
    found = manifest(job, "review.manifest")
    wrong, copy = found[str(WRONG)], found[str(COPY)]
    # the line of the manifest is unchanged, except for the review
    review = wrong.pop("review")
    assert wrong == line(WRONG)
    assert (review["kinds"], review["given"], review["suggested"]) == (["label"], "right", "middle")
    assert review["reason"].startswith("The model gives middle a probability of 0.")
    assert {each["label"] for each in review["neighbours"]} == {"middle"}
    assert all(each["source-ref"].startswith(PREFIX) for each in review["neighbours"])
    # and the copy with another label is suspected, also as a duplicate
    assert copy["review"]["suggested"] == "left"
    assert "duplicate" in copy["review"]["kinds"]


def test_report_counts_the_findings(job: Job) -> None:
    report = job.json("processing/output/report.json")
    assert (report["items"], report["unlabeled"]) == (COUNT - 1, 0)
    assert report["unreadable"] == {"count": 1, "sources": [f"{PREFIX}{BROKEN}.png"]}
    assert [each["name"] for each in report["classes"]] == list(CLASSES)
    assert sum(each["items"] for each in report["classes"]) == COUNT - 1
    assert report["duplicates"] == {"groups": 1, "items": 2, "equal_items": 2}
    assert report["suspects"]["count"] == len(manifest(job, "review.manifest"))
    assert report["consensus"] is None
    assert not (job.base / "processing/output/labels.manifest").exists()
    assert report["model"]["accuracy"] > 0.9


def test_versions_are_those_of_the_labelling_service(job: Job) -> None:
    # given the labels of the lines whose pictures are readable
    entries = [each for each in manifests.parse(lines()) if not each.source.endswith(f"/{BROKEN}.png")]
    expected = manifests.version(manifests.labels_of(entries, "column", CLASSES))
    # then
    report = job.json("processing/output/report.json")
    assert report["given_version"] == report["labels_version"] == expected


def test_kept_manifest_lacks_the_redundant_examples(job: Job) -> None:
    report, kept = job.json("processing/output/report.json"), manifest(job, "kept.manifest")
    assert len(kept) == COUNT - 1 - report["redundant"]
    assert report["redundant"] == 3 * 9
    # suspected examples are never redundant, so they are kept
    assert manifest(job, "review.manifest").keys() <= kept.keys()


def test_page_shows_the_suspects(job: Job) -> None:
    text = job.text("processing/output/suspects.html")
    assert "right, perhaps middle" in text
    assert f"{PREFIX}{WRONG}.png" in text
    assert text.count("<li>") == job.json("processing/output/report.json")["suspects"]["count"]


def test_consensus_of_answers_replaces_the_labels(examiner: Path, tmp_path: Path) -> None:
    # given
    base = prepared(tmp_path / "job", FILES | {"answers/0.json": answers()})
    # when
    done = run(base, examiner, *ARGUMENTS)
    # then the wrong label is corrected, and labels without answers are unchanged
    assert done.code == 0, done.log
    found = manifest(done, "labels.manifest")
    metadata = found[str(WRONG)]["column-metadata"]
    assert (found[str(WRONG)]["column"], metadata["class-name"], metadata["human-annotated"]) == (
        1,
        "middle",
        "yes",
    )
    assert 0.5 < metadata["confidence"] <= 1
    assert (metadata["job-name"], metadata["creation-date"]) == ("columns", CREATED)
    assert found[str(COPY)] == line(COPY)
    # and the spammer is named
    report = done.json("processing/output/report.json")
    assert report["consensus"]["spammers"] == ["labeler-4"]
    assert (report["consensus"]["items"], report["consensus"]["ignored_answers"]) == (COUNT - 2, 3)
    assert report["labels_version"] != report["given_version"]


@pytest.mark.parametrize(
    ("files", "arguments", "reason"),
    [
        ({}, ("--attribute",), "arguments must be pairs of --NAME VALUE, got --attribute"),
        ({}, ("--attribute", "row"), "columns.manifest must have labels of at least 2 classes"),
        (
            {},
            ARGUMENTS[:2],
            "at most 0 items may be missing or unreadable (most_unreadable), "
            f"got more, the first: {PREFIX}89",
        ),
        (
            {"manifest/columns.manifest": lines({"source-ref": f"{PREFIX}x.png", "column": -1})},
            ARGUMENTS,
            "columns.manifest: line 92: column must be a whole number from 0, got -1",
        ),
        ({"answers/0.json": b"{"}, ARGUMENTS, "0.json must be JSON"),
    ],
)
def test_refused_job_has_the_reason_in_its_exit_message(
    files: dict[str, bytes], arguments: tuple[str, ...], reason: str, examiner: Path, tmp_path: Path
) -> None:
    done = run(prepared(tmp_path / "job", FILES | files), examiner, *arguments)
    assert done.code == 1
    assert done.text("output/message").startswith(reason)
    assert not (done.base / "processing/output").exists()
