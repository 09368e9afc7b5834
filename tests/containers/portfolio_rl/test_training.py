"""The training job: its results, the input that it refuses, and resuming."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.support.portfolio_rl.images import QUICK, Job, prepared, start, train
from tests.support.portfolio_rl.prices import RULES, history
from tests.support.waiting import until

MANY = json.dumps({"cash": 10000, "assets": [{"name": each} for each in "ABCDEF"]})
MANY_PRICES = "A,B,C,D,E,F\n" + "".join(f"{40 + row % 7},41,42,43,44,{45 + row % 5}\n" for row in range(400))


def test_job_leaves_a_policy_its_card_and_its_comparison(trained: Job) -> None:
    card, results = trained.json("model/card.json"), trained.json("output/data/results.json")
    assert (trained.base / "model" / "policy.onnx").stat().st_size > 1000
    assert card["variant"] == "strict"
    assert card["episodes_seen"] == int(QUICK["observed"])
    assert "not investment advice" in card["advice"]
    table = results["table"]
    assert {"policy", "hold", "random", "1/N", "greedy on estimated moments", "greedy on known means"} <= set(
        table
    )
    assert table["hold"]["mean"] == 1000
    assert table["policy"]["mean"] > 1.5 * table["1/N"]["mean"]
    ratio = table["greedy on known means"]["ratio_of_policy"]
    assert ratio["low"] < ratio["value"] < ratio["high"]
    [logged] = re.findall(r"validation:value=([0-9.]+)", trained.log)
    assert float(logged) == pytest.approx(table["policy"]["mean"], abs=1e-3)


def test_candidate_and_champion_are_judged_on_the_same_prices(
    trained: Job, trainer: Path, tmp_path: Path
) -> None:
    # given the model of a job as both candidate and champion
    base = prepared(tmp_path / "job", QUICK | {"variant": "strict", "mode": "evaluate"}, {})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in (trained.base / "model").iterdir():
            archive.add(path, path.name)
    for side in ("candidate", "champion"):
        folder = base / "input" / "data" / side
        folder.mkdir(parents=True)
        (folder / "model.tar.gz").write_bytes(packed.getvalue())

    # when
    job = train(base, trainer, QUICK | {"variant": "strict", "mode": "evaluate"})

    # then candidate and champion have the value that the training job measured
    assert job.code == 0, job.log
    values = dict(re.findall(r"(candidate|champion):value=([0-9.]+)", job.log))
    assert values["candidate"] == values["champion"]
    validated = trained.json("output/data/results.json")["table"]["policy"]["mean"]
    assert float(values["candidate"]) == pytest.approx(validated, rel=0.002)
    # and a candidate with other rules is refused
    shutil.rmtree(base / "output", ignore_errors=True)
    other = train(base, trainer, QUICK | {"variant": "corrected", "mode": "evaluate"})
    assert other.code == 1
    assert (
        other.failure
        == "the candidate was trained under other rules or on other assets than those of this job"
    )


def test_own_prices_are_split_by_time(trained_on_own_prices: Job) -> None:
    job = trained_on_own_prices
    card = job.json("model/card.json")
    assert (card["variant"], card["signals"], card["look_back"]) == ("own prices", 4, 20)
    low, high = card["signal_range"]
    assert len(low) == 4
    assert all(below < 0 < above for below, above in zip(low, high, strict=True))
    assert card["held_out_episodes"] == 60 - 20 + 1  # windows of 20 rows in the last fifth of 300 rows
    # and the results compare a policy that is refitted at several times with the policy that was fitted once
    walked = job.json("output/data/results.json")["walk_forward"]
    assert walked["gain_over_hold"]["low"] < walked["gain_over_hold"]["value"]
    assert walked["gain_over_fitted_once"]["value"] != 0


@pytest.mark.parametrize(
    ("hyperparameters", "channels", "reason"),
    [
        (
            {"variant": "easy"},
            {},
            "hyperparameter variant must be corrected or strict",
        ),
        (
            {"variant": "published"},
            {},
            "hyperparameter variant must be corrected or strict",
        ),
        (
            {"objective": "cvar"},
            {},
            "hyperparameter objective must be mean with method fitted, got 'cvar': log and cvar need",
        ),
        (
            {},
            {"rules": {"Rules.json": RULES}},
            "channel rules must hold one file, rules.json, got Rules.json",
        ),
        (
            {},
            {"rules": {"rules.json": MANY}, "prices": {"prices.csv": MANY_PRICES}},
            "method must be ppo or rllib for 6 assets with largest_order 5, which have 1771561 joint orders;",
        ),
        ({"observed": "9"}, {}, "hyperparameter observed must be a whole number from 10 to 1000000"),
        ({"metod": "ppo"}, {}, "hyperparameter metod is unknown, must be one of "),
        ({}, {"rules": {"rules.json": "{}"}}, "rules.assets is missing"),
        (
            {},
            {"rules": {"rules.json": RULES}},
            "rules.json has 2 assets, but variant corrected has prices of 3: add a channel",
        ),
        (
            {},
            {"prices": {"prices.csv": history(100)}, "rules": {"rules.json": RULES}},
            "prices.csv must have at least 160 rows of prices, got 100",
        ),
        (
            {},
            {"prices": {"prices.csv": history(200)}, "rules": {"rules.json": RULES}},
            "prices.csv: the held-out part must have at least 59 of the 200 rows, got 40, ",
        ),
    ],
)
def test_wrong_input_is_the_failure_reason(
    trainer: Path, tmp_path: Path, hyperparameters: dict, channels: dict, reason: str
) -> None:
    job = train(tmp_path / "job", trainer, hyperparameters, **channels)
    assert job.code == 1
    assert job.failure.startswith(reason)
    assert job.failure in job.log.splitlines()[-1]


def test_network_learns_to_trade_more_assets_than_can_be_enumerated(trainer: Path, tmp_path: Path) -> None:
    # given six assets, for which there are 1,771,561 orders
    settings = {"method": "ppo", "episodes": "1200"}
    job = train(
        tmp_path / "job", trainer, settings, rules={"rules.json": MANY}, prices={"prices.csv": MANY_PRICES}
    )
    # then a policy is exported, and the results list the missing baselines
    assert job.code == 0, job.log[-3000:]
    assert (job.base / "model" / "policy.onnx").stat().st_size > 1000
    results = job.json("output/data/results.json")
    assert set(results["table"]) == {"policy", "hold", "buy and hold", "1/N"}
    assert set(results["left_out"]) == {"greedy on estimated moments", "random"}
    assert "6 assets with largest_order 5, which have 1771561 joint orders" in results["left_out"]["random"]
    assert "baselines left out: greedy on estimated moments, random; reason: " in job.log


def test_interrupted_job_resumes_from_its_checkpoint(trainer: Path, tmp_path: Path) -> None:
    # given two jobs with PPO: one that is not interrupted, and one that is interrupted after its first
    # checkpoint
    settings = {"method": "ppo", "episodes": "18000", "checkpoint_every": "2", "seed": "4"}
    channels = {"rules": {"rules.json": RULES}, "prices": {"prices.csv": history()}}
    whole = train(tmp_path / "whole", trainer, settings, **channels)
    assert whole.code == 0, whole.log[-3000:]
    base = prepared(tmp_path / "part", settings, channels)
    process = start(base, trainer)
    until(lambda: (base / "checkpoints" / "ppo.pt").exists(), "a checkpoint", process=process)
    process.terminate()
    assert process.wait(60) == 0
    assert not (base / "model").exists()

    # when the interrupted job is restarted
    again = train(base, trainer, settings)

    # then it ends with the same policy as the uninterrupted job
    assert again.code == 0, again.log[-3000:]
    assert "continuing after " in again.log
    results = [job.json("output/data/results.json") for job in (whole, again)]
    every, rest = (
        [(batch["episodes"], batch["mean_final_value"]) for batch in result["curve"]] for result in results
    )
    assert 0 < len(rest) < len(every)
    assert rest == every[-len(rest) :]
    assert results[0]["table"]["policy"]["mean"] == results[1]["table"]["policy"]["mean"]
