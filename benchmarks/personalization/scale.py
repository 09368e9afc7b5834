"""Simulate `personalization` with 100,000 users: a launch day, the packing of jobs, and serving from memory.

    python -m benchmarks.personalization.scale --users 100000 --seeds 3 --json out/scale.json --pictures out

The launch day runs the code of the deployed dispatcher in virtual time. benchmarks/README.md explains the
figures and the assumptions, docs/personalization/scale.md the conclusions.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.personalization import cache, packing
from benchmarks.personalization.fleet import Terms
from benchmarks.personalization.growth import Account, Outcome, Work
from scenarios import Metric
from scenarios.drawing import FIRST, SECOND, THIRD, picture
from tooling.table import print_table

WANTED = (
    Metric(
        "hit_rate_ratio",
        "share of requests whose model is in memory, adapters divided by full copies in the same memory",
        better="higher",
        bound=5,
    ),
    Metric(
        "makespan_ratio",
        "time of a full job, packed by inexact estimates, divided by the lower bound",
        better="lower",
        bound=1.05,
    ),
    Metric("lost_requests", "requests of the launch day that never ended", better="lower", bound=0),
    Metric("duplicate_jobs", "fine-tunes of the launch day trained more than once", better="lower", bound=0),
)

BY_QUOTA, QUOTAS = "instance quota", (200, 400, 800, 1600, 3200)
REPLICAS = (1, 2, 4, 8)
PART = 0.1
"""Runs with varied settings have this share of the users, quotas and rates."""


def say(line: str = "") -> None:
    print(line, flush=True)


# --- the launch day ---

OUTCOME = ["", "p50", "p99", "last", "jobs", "refused", "GPU hours", "training", "$", "$ a user", "failed"]


def line(name: str, one: Outcome) -> list[str]:
    """Return a row of the table. Waits are in minutes, the time of the last model in hours."""
    return [
        name,
        f"{one.waits[50] / 60:.1f}",
        f"{one.waits[99] / 60:.1f}",
        f"{one.last_ready / 3600:.1f} h",
        f"{one.jobs:,}",
        f"{one.refused:,}",
        f"{one.gpu_hours:,.0f}",
        f"{one.training_share:.1%}",
        f"{one.dollars:,.0f}",
        f"{one.dollars / one.users:.3f}",
        f"{one.failed} ({one.without_room})",
    ]


def both(account: Account) -> Iterator[tuple[str, Account]]:
    yield "packed", account
    yield "one job per user", account.one_per_user


def varied(account: Account) -> Iterator[tuple[str, str, Account]]:
    """Yield each run with varied settings: name of its table, name of its row, configuration."""
    for quota in QUOTAS:
        terms = replace(account.terms, quota=quota, spot_quota=quota, warm_quota=quota)
        for name, one in both(replace(account, terms=terms)):
            yield BY_QUOTA, f"{quota:,} instances, {name}", one
    for hosts, tasks in ((1, 4), (1, 8), (1, 16), (1, 30), (2, 8), (4, 4), (4, 7), (8, 2)):
        yield (
            "shape of a job",
            f"{hosts} x {tasks}",
            replace(account, hosts=hosts, tasks_per_host=tasks),
        )
    wide = replace(account.terms, quota=3200, spot_quota=3200, warm_quota=3200)
    for hosts, tasks in ((1, 4), (1, 16), (2, 8), (4, 7)):
        one = replace(account, hosts=hosts, tasks_per_host=tasks, terms=wide)
        yield "shape of a job, 3,200 instances", f"{hosts} x {tasks}", one
    for rate in (0.25, 0.5, 0.8):
        yield "pace, 3,200 instances", f"{rate:g} jobs a second", replace(account, rate=rate, terms=wide)
    for keep_alive in (0, 60, 300, 600):
        name = f"on demand, warm for {keep_alive} s" if keep_alive else "on demand"
        yield "spot and warm pools", name, replace(account, spot=False, keep_alive=keep_alive)
    for often in (0, 0.05, 0.2, 1):
        terms = replace(account.terms, interruptions=often)
        yield "spot and warm pools", f"spot, {often:g} interruptions an hour", replace(account, terms=terms)


def onboarding(users: int, seeds: int) -> dict[str, Any]:
    """Simulate the full day with packed jobs and with one job per user, and a tenth of the day with several
    seeds and varied settings."""
    account = Account(users=users)
    found: dict[str, Any] = {"full": {}, "tenth": {}, "varied": {}}
    for name, one in both(account):
        found["full"][name] = one.launch_day()
        say(f"  {users:,} users, {name}: {found['full'][name].seconds:.0f} s")
    small = replace(account, part=PART)
    for name, one in both(small):
        found["tenth"][name] = [one.launch_day(seed) for seed in range(seeds)]
    say(f"  {small.users * PART:,.0f} users, {seeds} seeds")
    known: dict[Account, Outcome] = {one: found["tenth"][name][0] for name, one in both(small)}
    for title, name, one in varied(small):
        if one not in known:
            known[one] = one.launch_day()
            say(f"  {title}: {name}")
        found["varied"].setdefault(title, {})[name] = known[one]
    return found


def tell_onboarding(found: dict[str, Any]) -> None:
    users = found["full"]["packed"].users
    say(f"\nA launch day of {users:,} users. Waits until READY in minutes; failed (for lack of capacity):\n")
    print_table([line(name, one) for name, one in found["full"].items()], OUTCOME)
    say("\nThe same at a tenth of the users, quotas and rates, over the seeds:\n")
    rows = []
    for name, outcomes in found["tenth"].items():
        for at in (50, 99):
            waits = [one.waits[at] / 60 for one in outcomes]
            rows.append([f"{name}, p{at}", f"{np.mean(waits):.1f}", f"{min(waits):.1f} to {max(waits):.1f}"])
    print_table(rows, ["", "mean", "least to most"])
    for title, rows in found["varied"].items():
        say(f"\nBy {title}, at a tenth:\n")
        print_table([line(name, one) for name, one in rows.items()], OUTCOME)


def draw_onboarding(found: dict[str, Any], folder: Path) -> list[Path]:
    one, two = folder / "personalization_ready.svg", folder / "personalization_quota.svg"
    colours = {"packed": FIRST, "one job per user": SECOND}
    with picture(one) as axes:
        for name, outcome in found["full"].items():
            axes.plot([max(w, 1) / 60 for w in outcome.waits], range(101), color=colours[name], label=name)
        axes.set(xscale="log", xlabel="minutes from the request to READY", ylabel="% of the users")
        axes.legend(loc="upper left")
    with picture(two) as axes:
        for name, colour in colours.items():
            outcomes = [one for key, one in found["varied"][BY_QUOTA].items() if key.endswith(name)]
            for at, dashes in ((50, "-"), (99, "--")):
                waits = [one.waits[at] / 60 for one in outcomes]
                axes.plot(QUOTAS, waits, "o" + dashes, color=colour, label=f"{name}, p{at}")
        axes.set(
            xscale="log", yscale="log", xlabel="instances that may run at once", ylabel="minutes to READY"
        )
        axes.set_xticks(QUOTAS, [f"{quota:,}" for quota in QUOTAS])
        axes.minorticks_off()
        axes.legend(loc="lower left")
    return [one, two]


# --- packing ---


def packed() -> dict[str, Any]:
    """Return `makespan_ratio` by job size and noise, for our packing and for contiguous chunks."""
    found: dict[str, Any] = {"deployed": packing.makespan_ratio(), "rows": []}
    for tasks, hosts in ((16, 2), (30, 2), (16, 4), (28, 4), (64, 4), (128, 8)):
        for noise in (0.0, 0.05, 0.1, 0.2):
            row = {"tasks": tasks, "hosts": hosts, "noise": noise}
            row |= packing.makespan_ratio(tasks, hosts, noise)
            plain = packing.makespan_ratio(tasks, hosts, noise, packing.chunks)
            found["rows"].append(row | {"chunks": plain["makespan_ratio"]})
    say(f"  packing, {packing.SEEDS} draws")
    return found


def tell_packed(found: dict[str, Any]) -> None:
    say(f"\nPacking: makespan over the lower bound, {packing.SEEDS} draws, mean and 95 % interval:\n")
    rows = [
        [
            f"{row['tasks']} on {row['hosts']}",
            f"{row['noise']:g}",
            f"{row['makespan_ratio']:.3f}",
            f"{row['makespan_ratio_low']:.3f} to {row['makespan_ratio_high']:.3f}",
            f"{row['chunks']:.3f}",
        ]
        for row in found["rows"]
    ]
    print_table(rows, ["tasks", "noise", "ours", "interval", "contiguous chunks"])


# --- serving ---


def serving(adapter_size_ratio: float, seeds: int, users: int = cache.USERS) -> dict[str, Any]:
    """Return hit rates for each seed, and for the first seed also by popularity, memory and adapter size."""
    pairs = [cache.hit_rate_ratio(adapter_size_ratio, users=users, seed=seed) for seed in range(seeds)]
    found: dict[str, Any] = {
        name: {"mean": float(np.mean(values)), "low": min(values), "high": max(values)}
        for name in pairs[0]
        for values in [[pair[name] for pair in pairs]]
    }
    say(f"  hit rate, {seeds} seeds")
    copies, sizes = (
        (2, 5, 10, 20, 40),
        sorted({15.0, 30.0, 60.0, 90.0, 120.0, cache.size_ratio(16), adapter_size_ratio}),
    )
    exponents = (0.6, 0.8, 1.0, 1.2, 1.4)
    by_exponent = {e: cache.caches(cache.stream(users, e, seed=0)) for e in exponents}
    at = by_exponent[cache.EXPONENT]
    found["by_exponent"] = [
        _rates(one, cache.COPIES, adapter_size_ratio) | {"exponent": e} for e, one in by_exponent.items()
    ]
    found["by_memory"] = [_rates(at, c, adapter_size_ratio) | {"copies": c} for c in copies]
    found["by_adapter_size"] = [_rates(at, cache.COPIES, s) | {"adapter_size_ratio": s} for s in sizes]
    say("  sensitivity to popularity, memory and the adapter's size")
    asked = cache.stream(users, cache.EXPONENT, seed=0)
    capacity = cache.places(cache.COPIES, adapter_size_ratio)
    found["replicas"] = []
    for count in REPLICAS:
        for route in cache.ROUTES:
            fleet = cache.replicas(asked, users, count, route)
            rates = {
                "hit_rate": fleet.hit_rate(capacity),
                "hit_rate_full_copies": fleet.hit_rate(cache.COPIES),
            }
            found["replicas"].append({"replicas": count, "route": route, "busiest": fleet.busiest} | rates)
    say("  replicas and routes")
    return found


def _rates(one: cache.Caches, copies: int, adapter_size_ratio: float) -> dict[str, float]:
    full, adapters = one.hit_rate(copies), one.hit_rate(cache.places(copies, adapter_size_ratio))
    return {"full": full, "adapters": adapters, "ratio": adapters / full}


def tell_serving(found: dict[str, Any]) -> None:
    say(f"\nServing, {cache.USERS:,} users, Zipf {cache.EXPONENT:g}, memory of {cache.COPIES} full copies:")
    for name in ("hit_rate_adapters", "hit_rate_full_copies", "hit_rate_ratio"):
        value = found[name]
        say(f"  {name} {value['mean']:.3f} (over the seeds {value['low']:.3f} to {value['high']:.3f})")
    for key, label in (
        ("by_exponent", "exponent"),
        ("by_memory", "copies"),
        ("by_adapter_size", "adapter_size_ratio"),
    ):
        say()
        rows = [
            [
                f"{row[label]:.4g}",
                *(f"{row[name]:.3f}" for name in ("full", "adapters")),
                f"{row['ratio']:.2f}",
            ]
            for row in found[key]
        ]
        print_table(rows, [label, "full copies", "adapters", "ratio"])
    say()
    rows = [
        [
            str(row["replicas"]),
            row["route"],
            f"{row['hit_rate']:.3f}",
            f"{row['hit_rate_full_copies']:.3f}",
            f"{row['busiest']:.2f}",
        ]
        for row in found["replicas"]
    ]
    print_table(rows, ["replicas", "route", "adapters", "full copies", "busiest / mean"])


def draw_serving(found: dict[str, Any], folder: Path) -> list[Path]:
    one, two = folder / "personalization_hit_rate.svg", folder / "personalization_replicas.svg"
    with picture(one) as axes:
        copies = [row["copies"] for row in found["by_memory"]]
        for key, colour, label in (
            ("adapters", FIRST, "adapters, one base"),
            ("full", SECOND, "full copies"),
        ):
            axes.plot(copies, [row[key] for row in found["by_memory"]], "o-", color=colour, label=label)
        axes.set(xscale="log", ylim=(0, 1), xlabel="memory of a replica, in full copies", ylabel="hit rate")
        axes.set_xticks(copies, [str(c) for c in copies])
        axes.minorticks_off()
        axes.legend(loc="center right")
    with picture(two) as axes:
        for route, colour in zip(cache.ROUTES, (SECOND, FIRST, THIRD), strict=True):
            rows = [row for row in found["replicas"] if row["route"] == route]
            dashes = "--" if route == cache.ROUTES[2] else "-"
            axes.plot(REPLICAS, [row["hit_rate"] for row in rows], "o" + dashes, color=colour, label=route)
        axes.set(xscale="log", ylim=(0, 1), xlabel="replicas", ylabel="hit rate of adapters")
        axes.set_xticks(REPLICAS, [str(count) for count in REPLICAS])
        axes.minorticks_off()
        axes.legend(loc="lower right")
    return [one, two]


# --- the whole benchmark ---


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    # the package logs a warning for each rejected job
    logging.getLogger("personalization").setLevel(logging.CRITICAL)
    started, pictures = time.monotonic(), []
    report: dict[str, Any] = {"assumed": {"terms": asdict(Terms()), "work": asdict(Work())}}
    metrics: dict[str, float] = {}
    if "onboarding" in options.only:
        found = report["onboarding"] = onboarding(options.users, options.seeds)
        days = [*found["full"].values(), *(one for outcomes in found["tenth"].values() for one in outcomes)]
        days += [one for rows in found["varied"].values() for one in rows.values()]
        metrics["lost_requests"] = sum(one.lost for one in days)
        metrics["duplicate_jobs"] = sum(one.duplicates for one in days)
        pictures += draw_onboarding(found, options.pictures) if options.pictures else []
    if "packing" in options.only:
        report["packing"] = packed()
        metrics |= report["packing"]["deployed"]
    if "serving" in options.only:
        found = report["serving"] = serving(options.adapter_size_ratio, options.seeds)
        metrics["hit_rate_ratio"] = found["hit_rate_ratio"]["mean"]
        pictures += draw_serving(found, options.pictures) if options.pictures else []
    report["metrics"], report["seconds"] = metrics, round(time.monotonic() - started, 1)
    for name, tell in (("onboarding", tell_onboarding), ("packing", tell_packed), ("serving", tell_serving)):
        if name in report:
            tell(report[name])
    say("\nWanted:")
    for metric in WANTED:
        if metric.name in metrics:
            sign, value = "at least" if metric.better == "higher" else "at most", metrics[metric.name]
            verdict = "reached" if metric.reached(value) else "NOT REACHED"
            say(f"  {metric.name} {value:.4g}, {sign} {metric.bound:g}: {verdict}")
            say(f"    {metric.meaning}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1, default=plainly) + "\n")
    written = [str(path) for path in ([options.json] if options.json else []) + pictures]
    say(f"\nTook {report['seconds']:.0f} s." + (f" Wrote {', '.join(written)}." if written else ""))
    return 0


def plainly(value: Any) -> Any:
    """Convert an `Outcome` for JSON, without the start times of jobs, which are too many."""
    if isinstance(value, Outcome):
        return {name: part for name, part in asdict(value).items() if name != "starts"}
    raise TypeError(type(value).__name__)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.personalization.scale", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--users", type=int, default=100_000, help="number of users of the launch day")
    add(
        "--seeds",
        type=int,
        default=3,
        help="number of repetitions of the small launch day, and of the caches",
    )
    add(
        "--adapter-size-ratio",
        type=float,
        default=cache.size_ratio(),
        metavar="RATIO",
        help="bytes of a full copy divided by an adapter's (Stable Diffusion 1.5 at rank 8: %(default).0f)",
    )
    parts = ["onboarding", "packing", "serving"]
    add("--only", nargs="+", choices=parts, default=parts, help="parts to run")
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    add("--pictures", type=Path, metavar="FOLDER", help="draw the figures to this folder, as SVG")
    options = parser.parse_args(arguments)
    if options.users < 100:
        parser.error("--users must be a whole number from 100: many runs simulate a tenth of the users")
    if options.seeds < 1:
        parser.error("--seeds must be a whole number from 1")
    if options.adapter_size_ratio < 1:
        parser.error(
            "--adapter-size-ratio must be a number from 1: an adapter is not larger than a full copy"
        )
    return options


if __name__ == "__main__":
    sys.exit(main())
