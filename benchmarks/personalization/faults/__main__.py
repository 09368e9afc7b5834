"""Onboard many users through the deployed pipeline under injected faults, and count lost and repeated work.

    python -m benchmarks.personalization.faults --requests 1000 --json out/faults.json

Deploys the project's stack to a separate local cloud, with IAM enforced and two stub containers that train
nothing, and removes everything at the end. Exits with 1 if a request was lost or a fine-tune was done twice.
benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from benchmarks.personalization.faults.audit import Audit, audit
from benchmarks.personalization.faults.injection import Injection
from benchmarks.personalization.faults.people import Api, Person, Wish, delete, fulfil, sign_in, wishes
from local.cloud import LocalCloud
from local.reaper import Reaper, ended_with_us
from tooling import envs
from tooling.table import print_table

STACK = "groundplan-dev-personalization"
APP = Path(__file__).with_name("app.py")
SETTINGS = {
    "training_instance_type": "ml.m5.xlarge",
    "serving_instance_type": "ml.m5.xlarge",
    "hosts_max": 2,
    "tasks_per_host": 15,
    "sweep_minutes": 1,
    "limits.models": 1000,
    "limits.active": 100,
    "limits.requests_per_minute": 10_000,
    "pace.rate": 1,  # SageMaker's sustained rate
    "pace.max_attempts": 5,
}
PACES = {
    "training_checkpoint_interval": 0.5,
    "training_stop_grace": 2.0,
    "fault_training_after": 0.3,
    "fault_stream_seconds": 2.0,
}
PEOPLE_PER_REQUEST = 0.05
AT_ONCE = 6
"""Number of requests that are sent in parallel."""
LOOK_SECONDS = 2.0
STANDSTILL_SECONDS = 240
"""Seconds without a change after which open requests count as lost."""
ENDS = ("READY", "FAILED", "DELETED")
STATES = ("QUEUED", "LAUNCHED", "TRAINING", "PREPARING", *ENDS)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)

    with tempfile.TemporaryDirectory(prefix="groundplan-faults-") as home, ended_with_us() as reaper:
        cloud = LocalCloud(Path(home))

        def end(number: int, _: object) -> None:
            """Stop the cloud and exit at once: threads may be waiting for the stopped cloud."""
            cloud.stop()
            shutil.rmtree(home, ignore_errors=True)
            os._exit(128 + number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        figures = run(cloud, reaper, options.requests, options.seed, options.stale, say)
    report(figures)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if figures["clean"] else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.personalization.faults",
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--requests", type=int, default=1000, metavar="N", help="number of models to request")
    parser.add_argument("--seed", type=int, default=1, help="seed of the pictures and of the fault plan")
    parser.add_argument(
        "--stale",
        type=int,
        default=10,
        metavar="SECONDS",
        help="time without an event after which the sweeper checks a job; it runs twice in that time",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.requests < 1:
        parser.error("--requests must be a whole number from 1")
    return options


def run(
    cloud: LocalCloud, reaper: Reaper, requests: int, seed: int, stale: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Start the cloud, make one run in it, stop it, and return the run's figures."""
    with cloud:
        reaper.adopt(cloud.status()["pid"])
        say("deploying the stack")
        app = shlex.join([str(envs.environment("app")), str(APP)])
        chosen = SETTINGS | {"pace.stale_seconds": stale}
        context = {f"personalization.{name}": str(value) for name, value in chosen.items()}
        outputs = cloud.deploy(STACK, app=app, context=context)[STACK]
        cloud.enforce_iam(True)
        cloud.configure(**PACES)
        return Run(cloud, outputs, reaper, requests, seed, stale, say).figures()


class Run:
    """A run on a deployed stack: its users, their requests, and the background threads."""

    def __init__(
        self,
        cloud: LocalCloud,
        outputs: dict[str, str],
        reaper: Reaper,
        requests: int,
        seed: int,
        stale: int,
        say: Callable[[str], None],
    ):
        self._cloud, self._outputs, self._reaper = cloud, outputs, reaper
        self._say, self._seed = say, seed
        # The benchmark invokes the sweeper itself, because a scheduled rule can do so at most once a minute
        self._between_sweeps = stale / 2
        self._api = Api(outputs["ApiUrl"], cloud.endpoint_url)
        count = max(2, min(requests, round(requests * PEOPLE_PER_REQUEST)))
        cognito = self._client("cognito-idp")
        self._people: list[Person] = sign_in(
            cognito, outputs["UserPoolId"], outputs["UserPoolClientId"], count
        )
        self._wishes: list[Wish] = wishes(self._people, requests, random.Random(seed))  # noqa: S311 - no secret
        self._queue = subscribe(self._client("sns"), self._client("sqs"), outputs["StateTopicArn"])
        self._states: Counter[str] = Counter()
        self._open = requests
        self._ended = threading.Event()

    @functools.cache  # noqa: B019 - the object exists until the program ends
    def _client(self, service: Any) -> Any:
        """Return a client with the account's root key. It retries for long, because the cloud may be down."""
        patient = Config(
            retries={"mode": "standard", "total_max_attempts": 12}, read_timeout=310, max_pool_connections=32
        )
        env = self._cloud.env()
        return boto3.client(
            service,
            endpoint_url=env["AWS_ENDPOINT_URL"],
            region_name=env["AWS_REGION"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            config=patient,
        )

    def figures(self) -> dict[str, Any]:
        functions = {
            key.removesuffix("FunctionName"): name
            for key, name in self._outputs.items()
            if key.endswith("FunctionName")
        }
        began = time.monotonic()
        faults = Injection(self._cloud, functions, len(self._wishes), self._progress, self._crash, self._seed)
        with (
            self._beside(self._sweep),
            self._beside(self._watch),
            self._beside(self._delete_in_training),
            faults,
        ):
            self._say(f"{len(self._people)} users request {len(self._wishes)} models")
            with ThreadPoolExecutor(AT_ONCE) as serving:
                list(serving.map(functools.partial(fulfil, self._api), self._wishes))
            self._say("all models are started")
            complete = self._await_end()
        if faults.error:
            raise faults.error
        seconds = time.monotonic() - began
        self._say("all requests and jobs have ended" if complete else "no request or job changes any more")
        told = received(self._client("sqs"), self._queue)
        found = audit(self._client, self._outputs, self._api, self._people, self._wishes, told)
        return figures(found, faults, self._wishes, self._api, seconds, self._dead_letters())

    def _crash(self) -> None:
        self._say("killing the local cloud")
        self._cloud.crash()
        self._cloud.start()
        self._reaper.adopt(self._cloud.status()["pid"])
        self._say("the local cloud is running again")

    # Background work during the requests

    @contextlib.contextmanager
    def _beside(self, work: Callable[[], None]) -> Iterator[None]:
        """Repeat `work` in a thread until the end of the `with` block."""

        def repeat() -> None:
            while not self._ended.is_set():
                with contextlib.suppress(BotoCoreError, ClientError):  # the cloud is down
                    work()

        thread = threading.Thread(target=repeat, name=work.__name__)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _sweep(self) -> None:
        if not self._ended.wait(self._between_sweeps):
            self._client("lambda").invoke(FunctionName=self._outputs["SweeperFunctionName"])

    def _watch(self) -> None:
        """Read the states of the requests and jobs, for the progress and to detect the end."""
        rows = self._rows("Requests")
        self._states = Counter(row["status"]["S"] for row in rows)
        open_rows = [row for row in rows if not _done(row)]
        jobs = [row for row in self._rows("Jobs") if row.get("status", {"S": "ENDED"})["S"] != "ENDED"]
        self._open = len(self._wishes) - len(rows) + len(open_rows) + len(jobs)
        shown = [f"{self._states[state]} {state}" for state in STATES if self._states[state]]
        self._say(f"{', '.join(shown) or 'nothing yet'}; {len(jobs)} jobs are open")
        self._ended.wait(LOOK_SECONDS)

    def _delete_in_training(self) -> None:
        if self._ended.wait(LOOK_SECONDS / 8):
            return
        for wish in self._wishes:
            if wish.started and not wish.deleted and wish.delete_at == "TRAINING":
                key = {"request": {"S": wish.model}}
                row = self._client("dynamodb").get_item(TableName=self._outputs["RequestsTable"], Key=key)
                if row.get("Item", {}).get("status", {}).get("S") in STATES[1:]:
                    delete(self._api, wish)

    def _rows(self, table: str) -> list[dict[str, Any]]:
        pages = (
            self._client("dynamodb").get_paginator("scan").paginate(TableName=self._outputs[f"{table}Table"])
        )
        return [row for page in pages for row in page["Items"]]

    def _progress(self) -> float:
        """Return the progress from 0 to 1. A request counts one half when it is started, and the other half
        when it has ended."""
        started = sum(wish.started for wish in self._wishes)
        return (started + sum(self._states[state] for state in ENDS)) / (2 * len(self._wishes))

    def _await_end(self) -> bool:
        """Wait until no request or job is open. Return False if nothing has changed for
        `STANDSTILL_SECONDS`."""
        seen, since = self._open, time.monotonic()
        while self._open:
            time.sleep(LOOK_SECONDS / 4)
            if self._open != seen:
                seen, since = self._open, time.monotonic()
            if time.monotonic() - since > STANDSTILL_SECONDS:
                return False
        return True

    def _dead_letters(self) -> int:
        queue, name = self._outputs["DeadLetterQueueUrl"], "ApproximateNumberOfMessages"
        found = self._client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=[name])
        return int(found["Attributes"][name])


def _done(row: dict[str, Any]) -> bool:
    """Return whether a request needs no more work: its user was notified, or all its data is removed."""
    status = row["status"]["S"]
    if status == "DELETED":
        return "purged" in row
    return status in ENDS and row.get("notified") == row.get("attempt")


def subscribe(sns: Any, sqs: Any, topic: str) -> str:
    """Create a queue that receives the topic's messages; return its URL."""
    queue = sqs.create_queue(QueueName="told")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    return queue


def received(sqs: Any, queue: str) -> Counter[tuple[str, str]]:
    """Return the number of notifications by model and status."""
    told: Counter[tuple[str, str]] = Counter()
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            said = json.loads(message["Body"])
            told[said["model"], said["status"]] += 1
        entries = [{"Id": str(at), "ReceiptHandle": m["ReceiptHandle"]} for at, m in enumerate(messages)]
        sqs.delete_message_batch(QueueUrl=queue, Entries=entries)
    return told


def figures(
    found: Audit, faults: Injection, asked: list[Wish], api: Api, seconds: float, dead_letters: int
) -> dict[str, Any]:
    injected = faults.counts() | {
        "bad_pictures": sum(wish.bad for wish in asked),
        "started_twice_at_once": sum(wish.twice for wish in asked),
        "deleted_before_the_end": sum(wish.deleted for wish in asked),
    }
    metrics = {
        "requests": sum(wish.started for wish in asked),
        "lost_requests": len(found.lost) + sum(not wish.started for wish in asked),
        "duplicate_jobs": len(found.duplicates),
        "faults": sum(injected.values()),
        "ready": found.ends["READY"],
        "failed": found.ends["FAILED"],
        "failed_for_faults": found.failed_for_faults,
        "deleted": found.ends["DELETED"],
        "retries": found.retries,
        "unexplained_retries": len(found.unexplained),
        "wrong_adapters": len(found.wrong),
        "left_behind": len(found.left_behind),
        "counters_off": len(found.counters),
        "not_notified": len(found.untold),
        "notified_again": found.told_again,
        "training_jobs": sum(found.jobs.values()),
        "dead_letters": dead_letters,
        "seconds": round(seconds, 1),
    }
    bad = ("lost_requests", "duplicate_jobs", "unexplained_retries", "wrong_adapters", "left_behind")
    return {
        "metrics": metrics,
        "clean": not any(metrics[name] for name in (*bad, "counters_off", "not_notified")),
        "faults": injected,
        "killed_before_write": faults.kills(),
        "most_writes": faults.most_writes(),
        "jobs": dict(found.jobs),
        "answers": dict(api.answers),
        "found": {name: value for name, value in asdict(found).items() if isinstance(value, list) and value},
    }


def report(figures: dict[str, Any]) -> None:
    print("\nfaults injected")
    print_table(list(figures["faults"].items()))
    print(
        "functions killed, by the number of the write before which they were killed (most writes in a call)"
    )
    killed = figures["killed_before_write"]
    rows = [
        (
            handler,
            f"({most})",
            "  ".join(f"{number}: {count}" for number, count in killed.get(handler, {}).items()),
        )
        for handler, most in figures["most_writes"].items()
    ]
    print_table(rows, left=(0, 2))
    print("jobs  " + ", ".join(f"{count} {status}" for status, count in figures["jobs"].items()))
    print("\nfigures")
    print_table(list(figures["metrics"].items()))
    for name, sentences in figures["found"].items():
        print(f"{name}: {len(sentences)}", *sentences[:10], sep="\n  ")


if __name__ == "__main__":
    sys.exit(main())
