"""Deploy each architecture to a fresh local cloud, run its scenario there, and report."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import boto3

from architectures import Architecture
from demo.outcome import DEPLOY, Outcome, goal, number, shown
from demo.progress import Progress
from demo.report import write_report
from local.names import resolve_localhost
from scenarios import kept
from tooling import envs

ENVIRONMENT = "dev"


class Cloud(Protocol):
    """The part of the local cloud's interface that the demonstration uses."""

    @property
    def endpoint_url(self) -> str: ...

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def env(self) -> dict[str, str]: ...
    def deploy(self, *stacks: str, context: dict[str, str], progress: Callable[[str], None]) -> Any: ...
    def enforce_iam(self, on: bool) -> None: ...


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep other demonstrations with the same home folder from running, because they share one local cloud.

    Raises `SystemExit` if another one runs.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(envs.locked(envs.home() / "locks" / "demo", wait=False))
        except BlockingIOError:
            sys.exit(f"Another demonstration uses {envs.home()}: try again when it has ended.")
        yield


def fresh_cloud() -> Cloud:
    """Stop and delete the local cloud of an earlier demonstration; return an empty one."""
    from local.cloud import LocalCloud

    home = envs.home() / "demo"
    if home.exists():
        LocalCloud(home).stop()
        shutil.rmtree(home)
    return LocalCloud(home)


def demonstrate(
    architectures: list[Architecture],
    out: Path,
    keep: bool,
    progress: Progress,
    make_cloud: Callable[[], Cloud] = fresh_cloud,
) -> int:
    """Run all architectures, even if some fail. Return the exit code: 0 if all succeeded.

    Always writes `results.json` and `report/index.html` to `out`. Unless `keep` is set, the cloud is stopped
    at the end, even after an interrupt.
    """
    out.mkdir(parents=True, exist_ok=True)
    outcomes = [Outcome(architecture, architecture.stack_name(ENVIRONMENT)) for architecture in architectures]
    cloud: Cloud | None = None
    try:
        with interruptible():
            with progress.step("local cloud"):
                cloud = make_cloud()
                cloud.start()
            resolve_localhost()
            os.environ.update(cloud.env())
            for outcome in outcomes:
                attempt(outcome, cloud, out / outcome.architecture.name, progress)
    except KeyboardInterrupt:
        for outcome in outcomes:
            if outcome.status != "ok":
                outcome.reason = outcome.reason or "interrupted"
        progress.say("interrupted")
    except Exception as error:
        for outcome in outcomes:
            outcome.reason = outcome.reason or explain(error, out, "the local cloud did not start: ")
    finally:
        if cloud and not keep:
            cloud.stop()
    page = write_report(outcomes, out / "report" / "index.html")
    (out / "results.json").write_text(json.dumps(results(outcomes), indent=2) + "\n")
    tell(outcomes, page, progress)
    if cloud and keep:
        home, python = shown(envs.home() / "demo"), envs.MACHINE_PYTHON.name
        progress.say(
            f"the local cloud still runs at {cloud.endpoint_url}; to use it in this shell, or to stop it:"
        )
        progress.say(f'  eval "$({python} -m local env --home {home})"')
        progress.say(f"  {python} -m local down --home {home}")
    return int(any(outcome.status != "ok" for outcome in outcomes))


def attempt(outcome: Outcome, cloud: Cloud, folder: Path, progress: Progress) -> None:
    """Deploy one architecture, then run its scenario with IAM enforced. Errors are stored in `outcome`."""
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        scenario = importlib.import_module(outcome.architecture.scenario)
        cloud.enforce_iam(False)  # not during the deployment: the CDK's deployment roles are not tested
        chosen = {"env": ENVIRONMENT, "only": outcome.architecture.name}
        if prepare := getattr(scenario, "prepare", None):
            with progress.step(f"requirements of {outcome.architecture.name}"):
                chosen |= prepare(progress.tell)
        with progress.step(f"cdk deploy {outcome.stack}"):
            deploying = time.monotonic()
            cloud.deploy(outcome.stack, context=chosen, progress=progress.hint)
            outcome.metrics[DEPLOY.name] = time.monotonic() - deploying
            outcome.resources = deployed(outcome.stack)
        cloud.enforce_iam(True)
        with progress.step(outcome.architecture.name):
            result = scenario.run(outcome.stack, folder, progress.tell)
        outcome.metrics |= result.metrics
        outcome.declared = (DEPLOY, *result.declared)
        outcome.artifacts, outcome.report = list(result.artifacts), result.report
        outcome.reason = "; ".join(result.missed())
        outcome.status = "failed" if outcome.reason else "ok"
    except KeyboardInterrupt:
        outcome.reason = "interrupted"
        raise
    except Exception as error:
        outcome.reason = explain(error, folder)
        if measured := kept(folder):
            outcome.metrics |= measured
            outcome.declared = (DEPLOY, *importlib.import_module(outcome.architecture.scenario).METRICS)
        outcome.artifacts = sorted(path for path in folder.rglob("*") if path.is_file())
    finally:
        outcome.seconds = time.monotonic() - started


def explain(error: Exception, folder: Path, before: str = "") -> str:
    """Return the reason of an error in one line, and write the traceback to `error.txt`."""
    (folder / "error.txt").write_text("".join(traceback.format_exception(error)))
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    told = lines[0] if len(lines) == 1 else " … ".join([*lines[:1], *lines[-2:]])
    known = type(error).__name__ in ("ScenarioError", "CloudError", "DataError")
    return f"{before}{told if known and told else f'{type(error).__name__}: {told}'}"[:1000]


def deployed(stack: str) -> dict[str, int]:
    """Return the number of the stack's resources by type."""
    pages = boto3.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
    types = Counter(found["ResourceType"] for page in pages for found in page["StackResourceSummaries"])
    return dict(sorted(types.items()))


def results(outcomes: list[Outcome]) -> dict[str, Any]:
    """Return the content of `results.json`. Paths inside the working directory are relative to it."""
    return {
        outcome.architecture.name: {
            "status": outcome.status,
            "seconds": round(outcome.seconds, 3),
            "metrics": {name: float(value) for name, value in outcome.metrics.items()},
            "artifacts": [shown(path) for path in outcome.artifacts],
        }
        for outcome in outcomes
    }


def tell(outcomes: list[Outcome], page: Path, progress: Progress) -> None:
    """Print the table of figures and the reasons of failures."""
    for outcome in outcomes:
        progress.say()
        progress.say(f"{outcome.architecture.name}: status: {outcome.status}  ({outcome.seconds:.0f} s)")
        if outcome.reason:
            progress.say(f"  {outcome.reason}")
        for metric, value in outcome.figures:
            mark = ("✓" if metric.reached(value) else "✗") if metric.bound is not None else ""
            line = f"  {metric.name:28} {number(value):>10} {metric.unit:10} {goal(metric)} {mark}"
            progress.say(line.rstrip())
    progress.say()
    progress.say(f"report: {shown(page)}")


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Handle SIGTERM as Ctrl-C, so that the demonstration cleans up."""

    def interrupt(signum: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
