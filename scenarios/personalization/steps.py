"""The scenario, step by step."""

from __future__ import annotations

import contextlib
import json
import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scenarios import Progress, Report, ScenarioError, ScenarioResult, Story, aws, keep
from scenarios.measuring import measure
from scenarios.personalization import figures
from scenarios.personalization.base import small_base
from scenarios.personalization.metrics import METRICS
from scenarios.personalization.onboarding import Onboarding
from scenarios.personalization.people import ApiError, fetched, invited
from scenarios.personalization.pictures import subjects
from scenarios.personalization.tenants import ABSENT, Attempt, Owned, attempts
from scenarios.personalization.training import HYPERPARAMETERS

PEOPLE = ("ada", "ben", "cleo")
PROMPT = "a photo of {trigger}"
SEEDS = (1, 2, 3, 4)
PATIENCE = 1800  # timeout of a fine-tune in seconds


LAPTOP = {
    "training_instance_type": "ml.m5.xlarge",
    "serving_instance_type": "ml.m5.xlarge",
    "serving_memory_mb": "256",
    "hosts_max": "3",
    "tasks_per_host": "1",
    "spot": "false",
    **{f"hyperparameters.{name}": value for name, value in HYPERPARAMETERS.items()},
}
"""Settings for the small base: no GPU, and an instance for each of the three users."""


def prepare(progress: Progress) -> dict[str, str]:
    """Upload the base to a bucket. Return the settings with its address.

    If the base does not exist yet, it is trained on this machine, which takes some minutes.
    """
    folder = small_base()
    s3, region = aws.client("s3"), aws.client("s3").meta.region_name
    account = aws.client("sts").get_caller_identity()["Account"]
    bucket = f"groundplan-bases-{account}-{region}"
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=bucket, **where)
    for path in sorted(filter(Path.is_file, folder.rglob("*"))):
        name = path.relative_to(folder).as_posix()
        progress(f"uploading the base: {name}")
        s3.upload_file(str(path), bucket, f"{folder.name}/{name}")
    chosen = {"base": f"s3://{bucket}/{folder.name}/", **LAPTOP}
    return {f"personalization.{name}": value for name, value in chosen.items()}


def run(stack: str, out: Path, progress: Progress) -> ScenarioResult:
    """Run the scenario on the deployed stack. Files are written to `out`.

    Raises `ScenarioError` if a check fails. Deletes its users and models at the end.
    """
    outputs = aws.outputs(stack)
    brought = subjects(out / "uploads")[: len(PEOPLE)]
    with invited(outputs, *PEOPLE) as people:
        ways = [Onboarding(person, subject) for person, subject in zip(people, brought, strict=True)]
        together(ways, progress)
        for way in ways:
            progress(f"requesting pictures of {way.subject.subject} from the endpoint")
            ask(way)
        sizes = [size(outputs, way) for way in ways]
        progress("trying to access other users' data")
        tried = steal(ways)
        stories = [told(tried), twice(ways[0]), wrong(ways[0]), removed(outputs, ways[0], progress)]
        for way in ways[1:]:
            way.person.ask("DELETE", f"/api/models/{way.model}")
    metrics: dict[str, float] = {
        "users": len(ways),
        "uploads": sum(len(way.subject.images) for way in ways),
        "generated": sum(len(way.generated) for way in ways),
        "seconds_to_first_image": max(way.first_image for way in ways),
        "seconds_to_ready": max(way.ready for way in ways),
        "seconds_cold": statistics.median(way.cold for way in ways),
        "seconds_warm": statistics.median(way.warm for way in ways),
        "adapter_kib": statistics.median(sizes) / 1024,
        "adapter_size_ratio": full_copy() / statistics.median(sizes),
        "tenant_attempts": len(tried),
        "tenant_escapes": sum(attempt.escaped for attempt in tried),
    }
    metrics = keep(out, metrics) | compared(out, progress)
    (out / "attempts.json").write_text(json.dumps([vars(attempt) for attempt in tried], indent=1) + "\n")
    drawn = [figures.gallery(out / f"{way.person.name}.svg", way) for way in ways]
    drawn.append(figures.timeline(out / "timeline.svg", ways))
    report = Report(
        facts={
            "Pictures": "photographs that ship inside scikit-image and scikit-learn",
            "Licence": "CC0; the flower CC BY 2.0 by vultilion",
            "Endpoint": outputs["EndpointName"],
        },
        path=[
            "create",
            "upload",
            "start",
            "queued",
            "launched",
            "training",
            "first pictures",
            "preparing",
            "ready",
        ],
        figures=drawn,
        stories=stories,
    )
    artifacts = [*sorted(out.glob("*.json")), *(figure.path for figure in drawn)]
    return ScenarioResult(metrics, METRICS, artifacts, report)


def compared(out: Path, progress: Progress) -> dict[str, float]:
    """Run the benchmarks that compare this architecture with the published solution. Return the metrics."""
    figures = {}
    for name, arguments in {
        "serving": (
            *("--users", "2", "--rounds", "1", "--ways", "full", "adapter"),
            *("--base", str(small_base())),
        ),
        "scale": ("--only", "packing", "serving"),
    }.items():
        found = measure(f"benchmarks.personalization.{name}", out / f"{name}.json", progress, *arguments)
        figures |= {name: value for name, value in found["metrics"].items() if name in KNOWN}
    return figures


KNOWN = {metric.name for metric in METRICS}


# --- onboarding ---


def together(ways: list[Onboarding], progress: Progress) -> None:
    """Upload pictures, start a model and wait until it is ready, for all users in parallel."""
    line = Board(ways, progress)
    with ThreadPoolExecutor(len(ways)) as pool:
        for done in [pool.submit(onboard, way, line) for way in ways]:
            done.result()


class Board:
    """Progress messages with the states of all users in one line."""

    def __init__(self, ways: list[Onboarding], progress: Progress):
        self._ways, self._progress, self._last, self._lock = ways, progress, "", threading.Lock()

    def tell(self) -> None:
        with self._lock:
            states = (
                f"{way.person.name} {way.seen[-1][1]} {way.seen[-1][2] // 0.1 / 10:.0%}"
                if way.seen
                else f"{way.person.name} uploads"
                for way in self._ways
            )
            line = " · ".join(states)
            if line != self._last:
                self._progress(line)
                self._last = line


def onboard(way: Onboarding, board: Board) -> None:
    person, subject = way.person, way.subject
    way.model = person.create(f"a {subject.subject}", subject.subject, list(subject.images))
    person.start(way.model)
    started = time.monotonic()
    while True:
        now = person.model(way.model)
        seconds = time.monotonic() - started
        done = (now.get("progress") or {}).get("done") or 0.0
        way.seen.append((seconds, now["status"], float(done)))
        board.tell()
        if now.get("previews") and not way.previews:
            way.previews = [fetched(url) for url in now["previews"]]
            way.first_image = seconds
        if now["status"] == "READY":
            way.ready, way.trigger = seconds, now["trigger"]
            way.previews = [fetched(url) for url in now["previews"]]
            way.addresses = list(now["previews"])
            return
        if now["status"] == "FAILED":
            raise ScenarioError(f"{person.name}'s model failed: {now.get('reason')}")
        if seconds > PATIENCE:
            raise ScenarioError(f"{person.name}'s model was still {now['status']} after {seconds:.0f} s")
        time.sleep(1)


def ask(way: Onboarding) -> None:
    """Generate pictures with the endpoint. At the first request, the adapter is not loaded yet."""
    for number, seed in enumerate(SEEDS):
        prompt = PROMPT.format(trigger=way.trigger)
        started = time.monotonic()
        made = way.person.generate(way.model, prompt, seed=seed)
        seconds = time.monotonic() - started
        if number == 0:
            way.cold, way.generation = seconds, made["generation"]
        elif number == 2:
            way.warm = seconds
        way.generated += [fetched(url) for url in made["images"]]
        way.addresses += made["images"]


def size(outputs: dict[str, str], way: Onboarding) -> int:
    """Return the size in bytes of the archive that the endpoint loads for this user."""
    key = f"adapters/{way.person.user}/{way.model}.tar.gz"
    return aws.client("s3").head_object(Bucket=outputs["DataBucket"], Key=key)["ContentLength"]


def full_copy() -> int:
    """Return the size of the base model in bytes; a user's model that is a full copy has the same size."""
    return sum(path.stat().st_size for path in small_base().rglob("*") if path.is_file())


# --- requests that must fail ---


def steal(ways: list[Onboarding]) -> list[Attempt]:
    """Let each user try to access the next user's data."""
    tried = []
    for thief, victim in zip(ways, [*ways[1:], ways[0]], strict=True):
        images = [{"type": "image/png", "bytes": 1000}] * 4
        spare = victim.person.ask(
            "POST", "/api/models", {"name": "spare", "subject": victim.subject.subject, "images": images}
        )
        owned = Owned(
            user=victim.person.user,
            model=victim.model,
            generation=victim.generation,
            words=(f"a {victim.subject.subject}",),
            pictures=tuple(victim.addresses),
            upload=spare["uploads"][0],
        )
        tried += attempts(thief.person, thief.model, owned)
        victim.person.ask("DELETE", f"/api/models/{spare['model']}")
    return tried


def told(tried: list[Attempt]) -> Story:
    statuses = Counter(attempt.status for attempt in tried)
    escaped = [attempt.what for attempt in tried if attempt.escaped]
    return Story(
        "Attempts to access other users' data",
        f"{len(tried)} attempts: other users' ids in every route, forged tokens, forged target models, and "
        "URLs and upload forms that were changed to other keys.",
        f"{len(escaped)} accessed data. Statuses of the responses: "
        + ", ".join(f"{count} × {status}" for status, count in sorted(statuses.items()))  # noqa: RUF001
        + (f". Successful attempts: {'; '.join(escaped[:5])}" if escaped else "."),
    )


def twice(way: Onboarding) -> Story:
    """Start a ready model again, which must change nothing."""
    before = way.person.model(way.model)
    again = way.person.start(way.model)
    if way.person.model(way.model)["status"] != before["status"]:
        raise ScenarioError("a second start of a ready model changed its status")
    return Story(
        "Started twice",
        "The same model was started again after it was ready.",
        f"The response was the same (model {again['model']}), and the model stayed ready.",
    )


def wrong(way: Onboarding) -> Story:
    """Send invalid requests. Each error response must name the invalid field."""
    tries: list[tuple[str, str, Any, str]] = [
        (f"/api/models/{way.model}/generations", "prompt", {"prompt": ""}, "an empty prompt"),
        (
            f"/api/models/{way.model}/generations",
            "prompt",
            {"prompt": "x" * 10_000},
            "a prompt of 10,000 letters",
        ),
        (f"/api/models/{way.model}/generations", "count", {"prompt": "a", "count": 99}, "99 pictures"),
        ("/api/models", "images", {"name": "a", "subject": "cat", "images": []}, "no pictures"),
        (f"/api/models/{ABSENT}/generations", "", {"prompt": "a"}, "an unknown model"),
    ]
    answers = []
    for path, named, body, what in tries:
        try:
            way.person.ask("POST", path, body)
        except ApiError as refused:
            if named and named not in json.dumps(refused.error):
                raise ScenarioError(
                    f"the error response to {what} does not name {named}: {refused.error}"
                ) from None
            answers.append(f"{what}: {refused.status}, “{refused.error.get('message')}”")
        else:
            raise ScenarioError(f"{what} must be rejected, but was accepted")
    return Story("Invalid requests", "Requests with invalid values.", "; ".join(answers) + ".")


def removed(outputs: dict[str, str], way: Onboarding, progress: Progress) -> Story:
    """Delete a model, and check that all its data is deleted."""
    progress("deleting a model with all its data")
    before = kept(outputs, way)
    way.person.ask("DELETE", f"/api/models/{way.model}")
    try:
        way.person.model(way.model)
    except ApiError as refused:
        if refused.status != 404:
            raise
    else:
        raise ScenarioError("a deleted model is still shown")
    until = time.monotonic() + 120
    while left := kept(outputs, way):
        if time.monotonic() > until:
            raise ScenarioError(f"{len(left)} objects of a deleted model still exist, such as {left[0]}")
        time.sleep(1)
    return Story(
        "Deletion of a model and its data",
        f"One model was deleted. It had {len(before)} objects in S3: uploads, adapter, pictures.",
        "Requests for it got 404 at once, and all its objects were deleted.",
    )


def kept(outputs: dict[str, str], way: Onboarding) -> list[str]:
    """Return the keys of all objects of a model."""
    pages = aws.client("s3").get_paginator("list_objects_v2")
    return [
        found["Key"]
        for page in pages.paginate(Bucket=outputs["DataBucket"])
        for found in page.get("Contents", ())
        if way.model in found["Key"]
    ]
