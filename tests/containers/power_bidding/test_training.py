"""`train` and `evaluate`: the model's files, the comparison of two models, and refused input."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest

from settings.power_bidding import NetworkLoss
from tests.support.power_bidding import prices
from tests.support.power_bidding.images import QUICK, Job, packed, run, train, write_histories


def test_job_writes_fits_and_weights_and_logs_the_capture(trained: Job) -> None:
    card = trained.json("model/model.json")
    assert card["trained_to"] == prices.hour(24 * prices.DAYS)
    assert card["version"].startswith(f"{card['trained_to']}-")
    assert card["judged"] == trained.json("output/data/evaluation.json")
    assert {"numpy", "lightgbm", "highspy", "tensorflow_cpu"} <= set(card["packages"])
    fits = card["fits"]["HUB"]
    assert (fits["served"]["before"], fits["judged"]["before"]) == ("2022-04-21", "2022-04-07")
    for name, fit in fits.items():
        assert sum(fit["weights"].values()) == pytest.approx(1)
        assert {"recurrent network", "boosted trees", "external forecast"} < set(fit["weights"])
        assert fit["trees"]["feeds"] == ["load", "temperature"]
        assert (trained.base / "model/HUB" / name / "boosting.txt").read_text().startswith("tree")
    assert "validation:capture=" in trained.log


def test_models_find_a_pattern_that_naive_forecasts_miss(trained: Job) -> None:
    found = trained.json("output/data/evaluation.json")
    assert found["days"] == 14
    assert found["naive_only"] == []
    capture = found["capture"]
    assert capture["candidate"] > 0.93 > capture["best_naive"] + 0.05
    assert found["loss"]["candidate"] < 0.5
    (month,) = found["months"]
    assert (month["month"], month["days"], month["candidate"]) == ("2022-04", 14, capture["candidate"])
    assert (capture["champion"], found["loss"]["champion"]) == (None, None)


def test_decision_loss_trains_another_network(trained: Job, trainer: Path, tmp_path: Path) -> None:
    # given two jobs, one for each value of the setting `network_loss`
    error, decision = get_args(NetworkLoss)
    job = train(tmp_path / "job", trainer, QUICK | {"network_loss": decision}, HUB=prices.csv(prices.rows()))
    assert job.code == 0, job.log[-3000:]
    for each, loss in ((trained, error), (job, decision)):
        assert each.json("model/model.json")["settings"]["network_loss"] == loss
    # then the networks differ, and the trees do not
    for fit in ("served", "judged"):
        networks, trees = (
            [(each.base / "model/HUB" / fit / name).read_bytes() for each in (trained, job)]
            for name in ("network.npz", "boosting.txt")
        )
        assert networks[0] != networks[1]
        assert trees[0] == trees[1]


def changed(trained: Job, base: Path, card: dict[str, Any]) -> Job:
    """Return a copy of a job's model with another `model.json`."""
    shutil.copytree(trained.base / "model", base / "model")
    (base / "model/model.json").write_text(json.dumps(card))
    return Job(base, 0, "")


def compared(base: Path, trainer: Path, candidate: Job, champion: Job | None, *options: str) -> Job:
    packed(candidate.base / "model", base / "processing/candidate")
    if champion:
        packed(champion.base / "model", base / "processing/champion")
    write_histories(base / "processing/history", {"HUB": prices.csv(prices.rows())})
    return run(base, trainer, "evaluate", *options)


def test_candidate_and_champion_are_judged_on_the_same_days(
    trained: Job, server_python: Path, tmp_path: Path
) -> None:
    # given the same model as candidate and champion, when the serving image compares them
    job = compared(tmp_path, server_python, trained, trained)
    assert job.code == 0, job.log
    # then candidate and champion have the capture that the training job measured
    found = job.json("processing/output/evaluation.json")
    expected = trained.json("output/data/evaluation.json")["capture"]["candidate"]
    assert found["capture"]["candidate"] == found["capture"]["champion"] == expected
    assert found["loss"]["over_champion"] == {"value": 0, "low": 0, "high": 0}
    assert (found["accepted"], found["reason"]) == (True, "no worse than the champion")


def test_worse_candidate_is_not_accepted(
    trained: Job, trainer: Path, server_python: Path, tmp_path: Path
) -> None:
    # given a candidate that uses the worst forecast only
    card = trained.json("model/model.json")
    for fit in card["fits"]["HUB"].values():
        fit["weights"] = {"mean of 28 days": 1.0}
    worse = changed(trained, tmp_path / "worse", card)
    # when the candidate is compared with the unchanged model
    job = compared(tmp_path / "job", server_python, worse, trained, "--floor", "0.5")
    # then the candidate is rejected, because its loss is above the champion's
    found = job.json("processing/output/evaluation.json")
    assert found["accepted"] is False
    assert "is above the champion's" in found["reason"]
    assert found["loss"]["over_champion"]["low"] > 0
    # and both fits, `served` and `judged`, are reported to use naive forecasts only
    assert found["naive_only"] == ["HUB/served", "HUB/judged"]
    assert "the fit HUB/judged has weights on naive forecasts only" in job.log
    # and without a champion, the candidate is rejected if its capture is below the minimum
    job = compared(tmp_path / "alone", server_python, worse, None, "--floor", "0.99")
    found = job.json("processing/output/evaluation.json")
    assert (found["accepted"], found["floor"]) == (False, 0.99)
    assert found["reason"].startswith("capture must be at least 0.99, got ")


def test_champion_of_another_kind_does_not_stop_a_candidate(
    trained: Job, server_python: Path, tmp_path: Path
) -> None:
    # given a champion with a kind of network that the serving image does not have any more
    card = trained.json("model/model.json")
    champion = changed(trained, tmp_path / "champion", card | {"kind": f"not {card['kind']}"})
    # when a candidate is compared with it
    job = compared(tmp_path / "job", server_python, trained, champion)
    assert job.code == 0, job.log
    # then the candidate is judged without the champion
    found = job.json("processing/output/evaluation.json")
    assert (found["accepted"], found["capture"]["champion"]) == (True, None)
    assert found["reason"].startswith("not compared: could not read the champion from model.json")
    assert found["reason"] in job.log


def test_failed_processing_job_has_the_reason_in_its_message(server_python: Path, tmp_path: Path) -> None:
    job = run(tmp_path, server_python, "evaluate")
    assert job.code == 1
    assert job.text("output/message") == "folder candidate must have a file model.tar.gz"


@pytest.mark.parametrize(
    ("hyperparameters", "failure"),
    [
        ({"time_zone": "Texas"}, "hyperparameter time_zone must be the time zone of the"),
        (
            {"asset": '{"power": 0}'},
            "hyperparameter asset must be an asset's fields",
        ),
        (
            {"judged_days": "7"},
            "hyperparameter judged_days must be a whole number from 14 to 56",
        ),
        (
            {"network_loss": "profit"},
            "hyperparameter network_loss must be error or decision",
        ),
    ],
)
def test_invalid_hyperparameter_is_the_failure_reason(
    hyperparameters: dict[str, str], failure: str, trainer: Path, tmp_path: Path
) -> None:
    job = train(tmp_path, trainer, QUICK | hyperparameters)
    assert job.code == 1
    assert job.text("output/failure").startswith(failure)


def test_invalid_history_is_the_failure_reason(trainer: Path, tmp_path: Path) -> None:
    job = train(tmp_path / "none", trainer, QUICK)
    assert (
        job.text("output/failure")
        == "folder history must have a file LOCATION.csv for each location, got none"
    )
    job = train(tmp_path / "short", trainer, QUICK, HUB=prices.csv(prices.rows(50)))
    assert job.text("output/failure") == "HUB.csv must have at least 63 whole market days with prices, got 50"
