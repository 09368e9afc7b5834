"""Compare Ray RLlib on one and on two instances with PPO in one process: value, speed, sampling nodes.

    .groundplan/envs/app/bin/python -m benchmarks.portfolio_rl.ray_cluster --json out/ray_cluster.json

Deploys the project's stack to a separate local cloud and runs its training jobs there in sequence.
benchmarks/README.md explains each figure.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from scipy.stats import t as student

from benchmarks.portfolio_rl import bounds
from local.cloud import LocalCloud
from scenarios import aws
from scenarios.portfolio_rl.job import PolicyJob, finished
from tooling.table import print_table

STACK = "groundplan-dev-portfolio-rl"
CORES = 2
"""Number of cores of every job, over all its instances."""
FIRST = 3
"""Number of first batches that are not timed, because they include compilation."""
DECISIONS = 19
"""Number of decisions in an episode."""
LONGEST = 7200


@dataclass(frozen=True)
class Way:
    """A way to train."""

    name: str
    hosts: int
    hyperparameters: dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    ours = {"variant": options.variant, "episodes": options.episodes, "program": "true"}
    one = Way("RLlib, 1 instance", 1, ours | {"method": "rllib", "runners": CORES})
    two = Way("RLlib, 2 instances", 2, ours | {"method": "rllib", "runners": CORES // 2})
    plain = Way("one process", 1, ours | {"method": "ppo", "threads": CORES})
    source = Way(
        "RLlib, as the source configured it",
        1,
        ours | {"method": "rllib", "runners": CORES, "recipe": "source", "episodes": options.source_episodes},
    )
    work = [(way, seed) for seed in range(options.seeds) for way in (plain, one, two)]
    if options.source_episodes:
        work.append((source, 0))
    done: dict[str, list[PolicyJob]] = {way.name: [] for way, _ in work}
    with tempfile.TemporaryDirectory(prefix="groundplan-ray-") as home, LocalCloud(Path(home)) as cloud:
        print("deploying ...", flush=True)
        cloud.deploy(STACK)
        os.environ |= cloud.env()
        outputs = aws.outputs(STACK)
        for number, (way, seed) in enumerate(work):
            job = train(outputs, way, seed, f"bench-{number}")
            done[way.name].append(job)
            told = f"${job.mean():,.1f} after {job.card['episodes_seen']:,} episodes in {job.seconds:,.0f} s"
            print(f"  {way.name}, seed {seed}: {told}", flush=True)
    print()
    print_table(
        [
            (
                name,
                len(jobs),
                f"{min(map(PolicyJob.mean, jobs)):,.1f}",
                f"{min(ratio(job) for job in jobs):.4f}",
                f"{statistics.median(map(decisions_a_second, jobs)):,.0f}",
                ", ".join(f"{address} {count}" for address, count in sorted(samplers(jobs[0]).items())),
            )
            for name, jobs in done.items()
        ],
        ("", "seeds", "worst mean $", "divided by the bound", "decisions/s", "env runners by node"),
        left=(0, 5),
    )
    report = {
        "episodes": options.episodes,
        "source_episodes": options.source_episodes,
        "jobs": {
            name: [
                {
                    "mean": job.mean(),
                    "ratio_to_bound": job.ratio(),
                    "seconds": job.seconds,
                    "decisions_a_second": decisions_a_second(job),
                    "samplers": samplers(job),
                    "curve": job.curve[:: max(1, len(job.curve) // 50)],
                }
                for job in jobs
            ]
            for name, jobs in done.items()
        },
        "metrics": figures(done[plain.name], done[one.name], done[two.name], done.get(source.name, [])),
    }
    return bounds.finish(bounds.RAY, report, options.json)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.portfolio_rl.ray_cluster",
        description=(__doc__ or "").partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--variant", choices=("corrected", "strict"), default="corrected", help="variant of the problem")
    add("--seeds", type=int, default=3, help="number of seeds of each way to train")
    add("--episodes", type=int, default=60_000, help="number of episodes that each job trains on")
    add(
        "--source-episodes",
        type=int,
        default=100_000,
        help="number of episodes of the job with the source's hyperparameters; 0: no such job",
    )
    add("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        parser.error(f"--seeds must be a whole number from 2, got {options.seeds}")
    if options.episodes < 10_000:
        parser.error(f"--episodes must be a whole number from 10000, got {options.episodes}")
    if options.source_episodes and options.source_episodes < 10_000:
        parser.error(f"--source-episodes must be 0 or from 10000, got {options.source_episodes}")
    return options


def train(outputs: dict[str, str], way: Way, seed: int, name: str) -> PolicyJob:
    """Run a job to its end. Raises `SystemExit` with the reason if it fails."""
    sagemaker = boto3.client("sagemaker")
    given = way.hyperparameters | {"seed": seed, "checkpoint_every": 0}
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": outputs["ImageUri"], "TrainingInputMode": "File"},
        RoleArn=outputs["ExperimentRoleArn"],
        HyperParameters={key: str(value) for key, value in given.items()},
        OutputDataConfig={"S3OutputPath": f"s3://{outputs['BucketName']}/notebook"},
        ResourceConfig={"InstanceType": "ml.m5.xlarge", "InstanceCount": way.hosts, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": LONGEST},
        EnableNetworkIsolation=True,
    )
    while True:
        found = sagemaker.describe_training_job(TrainingJobName=name)
        if found["TrainingJobStatus"] != "InProgress":
            break
        time.sleep(2)
    if found["TrainingJobStatus"] != "Completed":
        raise SystemExit(f"{way.name}, seed {seed}: {found.get('FailureReason', found['TrainingJobStatus'])}")
    return finished(name)


def decisions_a_second(job: PolicyJob) -> float:
    """Return the number of decisions per second on which a job trained, without its first batches."""
    first, last = job.curve[FIRST], job.curve[-1]
    return DECISIONS * (last["episodes"] - first["episodes"]) / (last["seconds"] - first["seconds"])


def samplers(job: PolicyJob) -> dict[str, int]:
    return job.card["samplers"] or {}


def ratio(job: PolicyJob) -> float:
    return job.ratio()["value"]


def figures(
    plain: list[PolicyJob], one: list[PolicyJob], two: list[PolicyJob], source: list[PolicyJob]
) -> dict[str, float]:
    """Return the figures of `bounds.RAY`. All lists have the same seeds in the same order."""
    differences = [ratio(b) - ratio(a) for a, b in zip(one, two, strict=True)]
    middle = statistics.fmean(differences)
    seeds = len(differences)
    error = float(student.ppf(0.975, seeds - 1)) * statistics.stdev(differences) / seeds**0.5
    speeds = [decisions_a_second(b) / decisions_a_second(a) for a, b in zip(plain, one, strict=True)]
    found = {
        "value_ratio_rllib_1": min(map(ratio, one)),
        "value_ratio_rllib_2": min(map(ratio, two)),
        "rllib_2_over_1": middle,
        "rllib_2_over_1_low": middle - error,
        "rllib_2_over_1_high": middle + error,
        "sampling_nodes": float(min(len(samplers(job)) for job in two)),
        "ray_vs_vectorized_ratio": statistics.median(speeds),
        "value_ratio_one_process": min(map(ratio, plain)),
    }
    if source:
        found |= {"dollars_source": source[0].mean(), "value_ratio_source": ratio(source[0])}
    return found


if __name__ == "__main__":
    sys.exit(main())
