"""The backtest command: its results on a history with a known pattern, and what it refuses."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from power_forecaster import backtest
from power_forecaster.__main__ import main

START = round(datetime(2022, 1, 1, tzinfo=UTC).timestamp())


def written(path: Path, first: int, days: int, capacity: str = "") -> Path:
    """Write a history of hourly prices. The daily peak is in the evening on even days and in the morning on
    odd days.

    :param capacity: names of additional columns, each after a comma; a column has the same price in all hours
    """
    generator = np.random.default_rng(first)
    lines = ["hour_utc,price" + capacity]
    for hour in range(24 * first, 24 * (first + days)):
        moment = datetime.fromtimestamp(START + 3600 * hour, UTC)
        peak = 19 if hour // 24 % 2 else 8
        price = 30 + 40 * np.exp(-((hour % 24 - peak) ** 2) / 8) + generator.normal(0, 1)
        lines.append(f"{moment:%Y-%m-%dT%H:00Z},{price:.3f}" + ",12" * capacity.count(","))
    path.write_text("\n".join(lines) + "\n")
    return path


def command(folder: Path, **options: str) -> list[str]:
    given = {
        "history": str(folder / "a.csv"),
        "evaluate": str(folder / "b.csv"),
        "json": str(folder / "results.json"),
    } | options
    return ["backtest", *(word for name, value in given.items() for word in (f"--{name}", value))]


def with_histories(folder: Path) -> Path:
    written(folder / "a.csv", 0, 74)
    written(folder / "b.csv", 74, 10)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return with_histories(tmp_path)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of a backtest with two networks: one is trained with the forecast error, the other with the
    decision loss."""
    folder = with_histories(tmp_path_factory.mktemp("backtest"))
    assert main([*command(folder), "--decision-loss"]) == 0
    return json.loads((folder / "results.json").read_text())


def test_backtest_finds_a_pattern_that_naive_forecasts_miss(found: dict[str, Any]) -> None:
    assert (found["days"], found["days_left_out"]) == (10, 0)
    capture = {row["forecast"]: row["capture"]["value"] for row in found["rows"]}
    assert capture[backtest.COMBINED] > 0.97
    assert capture[found["best_naive"]] < 0.9
    (row,) = (row for row in found["rows"] if row["forecast"] == backtest.COMBINED)
    assert row["over_best_naive"]["low"] > 0
    assert row["dollars"] < found["perfect_foresight_dollars"]
    assert "regulation" not in found


def test_regulation_is_reported_with_energy(folder: Path) -> None:
    # given files with regulation prices, and an asset that offers regulation
    for name, first, days in (("a.csv", 0, 74), ("b.csv", 74, 7)):
        written(folder / name, first, days, ",regulation_up,regulation_down")
    (folder / "asset.toml").write_text("power = 4\n[regulation]\ncalled_up = 0.1\n")
    # when
    assert main(command(folder, asset=str(folder / "asset.toml"))) == 0
    # then
    report = json.loads((folder / "results.json").read_text())
    found, energy = report["regulation"], {row["forecast"]: row["dollars"] for row in report["rows"]}
    assert found["terms"] == {"called_up": 0.1, "called_down": 0.25, "sustained": 1.0, "shared_power": False}
    assert found["days"] == 7
    for row in found["rows"]:
        assert row["dollars_without"] == pytest.approx(energy[row["forecast"]])
        assert row["dollars_without"] < row["dollars"] < found["perfect_foresight_dollars"] + 1e-6
    assert len(found["hours"]) == 7 * 24
    assert max(hour["regulation_up"] + hour["mw"] for hour in found["hours"]) == pytest.approx(4)


def test_regulation_without_its_prices_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "asset.toml").write_text("[regulation]\n")
    assert main(command(folder, asset=str(folder / "asset.toml"))) == 1
    said = capsys.readouterr().out
    assert "ERROR b.csv must have the columns regulation_up and regulation_down for an asset with" in said


def test_decision_loss_is_compared_on_the_same_days(found: dict[str, Any]) -> None:
    capture = {row["forecast"]: row["capture"]["value"] for row in found["rows"]}
    for name in ("recurrent network", backtest.COMBINED):
        gain = found["decision_loss_gain"][name]
        assert gain["value"] == pytest.approx(capture[name + backtest.DECIDED] - capture[name])
        assert gain["low"] <= gain["value"] <= gain["high"]


def test_day_without_a_price_is_left_out(folder: Path) -> None:
    lines = (folder / "b.csv").read_text().splitlines()
    (folder / "b.csv").write_text("\n".join(lines[:30] + lines[31:]) + "\n")
    assert main(command(folder)) == 0
    found = json.loads((folder / "results.json").read_text())
    assert (found["days"], found["days_left_out"]) == (9, 1)
    assert "decision_loss_gain" not in found


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("power = 0", "asset: power must be a number above 0 and up to 1e+06, got 0"),
        ("power = true", "asset.toml: power must be a number, got True"),
        ("charge_efficiency = 1.2", "asset: charge_efficiency must be a number above 0 and up to 1, got 1.2"),
        ("energy = 10\nlowest = 11", "asset: lowest must be a number from 0 and up to 10, got 11"),
        ("ramp = 0", "asset: ramp must be a number above 0 and up to 1e+06, got 0"),
        ("final = 40", "asset: final must be a number from 0 and up to 32, got 40"),
        ("capacity = 3", "asset.toml: capacity is unknown, must be one of power, energy, "),
        ("power =", "asset.toml must be TOML: "),
        ("regulation = true", "asset.toml: regulation must be a table such as [regulation], got True"),
        (
            "[regulation]\ncalled_up = 2",
            "regulation: called_up must be a number from 0 to 1, got 2",
        ),
    ],
)
def test_invalid_asset_is_refused(
    folder: Path, toml: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "asset.toml").write_text(toml)
    assert main(command(folder, asset=str(folder / "asset.toml"))) == 1
    assert f"ERROR {message}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"zone": "Texas"}, "--zone must be a time zone such as America/Chicago, got 'Texas'"),
        ({"zone": "../etc/passwd"}, "--zone must be a time zone"),
        ({"seeds": "0"}, "--seeds must be a whole number from 1, got 0"),
        ({"price": "lmp"}, "the prices must be in column lmp, got the columns price; set price_column"),
    ],
)
def test_invalid_option_is_refused(
    folder: Path, options: dict, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(folder, **options)) == 1
    assert f"ERROR {message}" in capsys.readouterr().out


def test_history_that_is_too_short_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(folder / "a.csv", 54, 20)
    assert main(command(folder)) == 1
    said = capsys.readouterr().out
    assert "b.csv must have at least 7 whole market days, and a.csv 35 before them; got 10 and 20" in said
