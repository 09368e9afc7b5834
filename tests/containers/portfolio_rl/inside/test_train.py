"""The job: channels, held-out prices, baselines of many assets, and the comparison of two models."""

from __future__ import annotations

import json
import logging
import re
import tarfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from portfolio_trader import baselines, train
from portfolio_trader.export import export
from portfolio_trader.market import LOOK_BACK, Episodes, History
from portfolio_trader.rules import Rules, parse
from portfolio_trader.settings import Settings
from portfolio_trader.train import HELD_OUT_SEED, Task, task_of
from portfolio_trader.values import Fitting, Maximiser, Values, fitted, greedy, least_windows, run, selected
from portfolio_trader.variants import VARIANTS
from toolkit.failure import FatalError

ASSET = {"lot": 25, "buy_rate": 0.001, "sell_rate": 0.001}
RULES = parse({"cash": 10000, "largest_order": 3, "assets": [{"name": each, **ASSET} for each in "AB"]})
QUICK = Fitting(degree=2, states=400, draws=1, passes=1)


def prices(rows: int, volatility: float, assets: int = 2, seed: int = 0) -> Any:
    """Prices whose returns tend to reverse."""
    returns = np.random.default_rng(seed).normal(0, volatility, (rows, assets))
    for row in range(1, rows):
        returns[row] -= 0.4 * returns[row - 1]
    return 40 * np.exp(np.cumsum(returns, axis=0))


def own(rules: Rules, rows: Any, past: int) -> Task:
    scales = History.scales_of(rows[:past])
    later = History(rows[past - LOOK_BACK :], scales)
    return Task("own prices", rules, History(rows[:past], scales), later.every(), later=later)


# --- channels ---


@pytest.mark.parametrize(
    ("channel", "files", "sentence"),
    [
        ("rules", ["Rules.json"], "channel rules must hold one file, rules.json, got Rules.json"),
        ("prices", ["my_prices.csv"], "channel prices must hold one file, prices.csv, got my_prices.csv"),
        ("prices", ["prices.csv", "old.csv"], "channel prices must .* got old.csv, prices.csv"),
        ("rules", [], "channel rules must hold one file, rules.json, got nothing"),
        ("prices", ["prices.csv/part"], "channel prices must hold one file, prices.csv, got prices.csv"),
    ],
)
def test_channel_with_another_content_is_refused(
    tmp_path: Path, channel: str, files: list[str], sentence: str
) -> None:
    (tmp_path / channel).mkdir()
    for name in files:
        (tmp_path / channel / name).parent.mkdir(exist_ok=True)
        (tmp_path / channel / name).write_text("{}")
    with pytest.raises(FatalError, match=sentence):
        task_of(Settings(held_out=1000), tmp_path)


# --- held-out prices ---


@pytest.mark.parametrize("seed", [HELD_OUT_SEED, 0, 1])
def test_no_training_seed_draws_held_out_episodes(tmp_path: Path, seed: int) -> None:
    held_out = task_of(Settings(held_out=1000), tmp_path).held_out.prices
    market = VARIANTS["corrected"].market
    for source in (seed, np.random.SeedSequence(seed), np.random.SeedSequence([seed])):
        assert (
            not np.isin(market.draw(np.random.default_rng(source), 1000).prices, held_out).all((1, 2)).any()
        )


@pytest.mark.parametrize(("rows", "enough"), [(315, True), (314, False)])
def test_history_that_is_too_short_to_choose_from_is_refused(tmp_path: Path, rows: int, enough: bool) -> None:
    # given a history, half of which is held out; the selection of hyperparameters needs 158 rows of the rest
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "rules.json").write_text(json.dumps(RULES.as_dict()))
    (tmp_path / "prices").mkdir()
    lines = [f"{a},{b}" for a, b in prices(rows, 0.01)]
    (tmp_path / "prices" / "prices.csv").write_text("\n".join(["A,B", *lines]))
    settings = Settings(test_fraction=0.5)
    if enough:
        assert task_of(settings, tmp_path).market.assets == 2
    else:
        with pytest.raises(
            FatalError, match=r"fitted needs at least 158 rows before .* got 157 of 314; give more"
        ):
            task_of(settings, tmp_path)
    # and a network, whose hyperparameters are not selected, can be trained on fewer rows
    task_of(replace(settings, method="ppo"), tmp_path)


def test_hyperparameters_are_chosen_on_prices_outside_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    # given the shortest history that is allowed
    steps = 20
    rows = least_windows(steps) + LOOK_BACK + steps - 1
    past = prices(rows, 0.01)
    every = History(past, History.scales_of(past)).every()
    fits, traded = [], []

    def fit(observed: Episodes, rules: Any, *_: Any) -> Values:
        fits.append(observed)
        return greedy(observed.prices.mean(0, dtype=np.float64), rules)

    def trade(policy: Any, rest: Episodes, *given: Any) -> Any:
        traded.append(rest)
        return run(policy, rest, *given)

    monkeypatch.setattr("portfolio_trader.values.fitted", fit)
    monkeypatch.setattr("portfolio_trader.values.run", trade)
    # when the hyperparameters are chosen
    selected(every, RULES.compiled(), RULES.cash, 0, (QUICK, QUICK))
    # then the twenty windows that compare the hyperparameters contain no price of the fit
    assert len(traded[0].prices) == steps
    assert not np.isin(traded[0].prices[..., 0], fits[0].prices[..., 0]).any()
    with pytest.raises(ValueError, match="at least "):
        selected(type(every)(every.prices[1:], every.signals[1:]), RULES.compiled(), RULES.cash, 0)


# --- many assets ---


def test_enumerating_baselines_are_left_out_for_many_assets() -> None:
    # given six assets, for which there are 1,771,561 orders
    rules = parse({"cash": 10000, "assets": [{"name": each, **ASSET} for each in "ABCDEF"]})
    task = own(rules, prices(200, 0.01, assets=6), 120)
    table, _, _ = train.compare(task, baselines.Hold(), None, Settings())
    assert set(table) == {"policy", "hold", "buy and hold", "1/N"}


@pytest.mark.parametrize(("assets", "largest"), [(6, 5), (3, 50), (100, 5)])
def test_fitted_is_refused_for_too_many_joint_orders(assets: int, largest: int) -> None:
    listed = [{"name": str(each), **ASSET} for each in range(assets)]
    task = own(parse({"assets": listed, "largest_order": largest}), prices(200, 0.01, assets), 120)
    with pytest.raises(
        FatalError, match=r"method must be ppo or rllib for .* joint orders; fitted takes at most 200000"
    ):
        train.check_orders(task, Settings())
    train.check_orders(task, Settings(method="ppo"))


# --- candidate and champion ---


def packed(channels: Path, side: str, folder: Path) -> None:
    (channels / side).mkdir(parents=True)
    with tarfile.open(channels / side / "model.tar.gz", "w:gz") as archive:
        for path in folder.iterdir():
            archive.add(path, path.name)


def model(folder: Path, task: Task, seed: int, **changes: Any) -> tuple[Path, Any]:
    """Export a policy that is fitted to the training prices of a task; return the export's folder and the
    policy."""
    assert isinstance(task.market, History)
    rules = task.rules.compiled()
    policy = Maximiser(fitted(task.market.every(), rules, task.rules.cash, seed, QUICK), rules)
    folder.mkdir()
    export(policy, task.market.signals, folder / "policy.onnx")
    card = {
        "rules": task.rules.as_dict(),
        "steps": task.market.steps,
        "signals": task.market.signals,
        "scales": asdict(task.market.scales),
    }
    (folder / "card.json").write_text(json.dumps(card | changes))
    return folder, policy


def evaluated(task: Task, channels: Path, monkeypatch: pytest.MonkeyPatch, log: Any) -> dict[str, float]:
    monkeypatch.setattr(train.sagemaker, "CHANNELS", channels)
    monkeypatch.setattr(train, "task_of", lambda settings: task)
    log.set_level(logging.INFO)
    train.evaluate(Settings(mode="evaluate"))
    return {name: float(value) for name, value in re.findall(r"(\w+):value=([0-9.]+)", log.text)}


def test_each_policy_sees_signals_by_its_own_scales(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # given a champion that was trained on quiet prices, and a candidate that was trained on later prices,
    # which move four times as much
    quiet, wild = prices(300, 0.005), prices(400, 0.02, seed=1)
    old, new = own(RULES, quiet, 200), own(RULES, wild, 250)
    folder, champion = model(tmp_path / "old", old, 0)
    packed(tmp_path / "channels", "champion", folder)
    folder, candidate = model(tmp_path / "new", new, 1)
    packed(tmp_path / "channels", "candidate", folder)

    # when both policies trade on the later prices
    values = evaluated(new, tmp_path / "channels", monkeypatch, caplog)

    # then each policy gets the signals that the endpoint would compute for it
    def traded(policy: Any, scales: Any) -> float:
        assert new.later
        episodes = replace(new.later, scales=scales).every()
        return run(policy, episodes, RULES.compiled(), RULES.cash).final.mean()

    assert isinstance(old.market, History)
    assert isinstance(new.market, History)
    assert values["champion"] == pytest.approx(traded(champion, old.market.scales), abs=0.5)
    assert values["candidate"] == pytest.approx(traded(candidate, new.market.scales), abs=0.5)
    # and with the candidate's signals, the champion's results would differ
    assert abs(traded(champion, old.market.scales) - traded(champion, new.market.scales)) > 5


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rules": RULES.as_dict() | {"cash": 5000.0}}, "under other rules or on other assets"),
        ({"signals": 0, "scales": None}, "on prices of another kind"),
    ],
)
def test_champion_of_another_problem_is_not_compared(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    reason: str,
) -> None:
    task = own(RULES, prices(300, 0.01), 200)
    packed(tmp_path / "channels", "candidate", model(tmp_path / "new", task, 0)[0])
    packed(tmp_path / "channels", "champion", model(tmp_path / "old", task, 0, **changes)[0])
    values = evaluated(task, tmp_path / "channels", monkeypatch, caplog)
    assert values.keys() == {"candidate", "comparable"}
    assert values["comparable"] == 0
    assert f"the champion was trained {reason} than those of this job" in caplog.text


def test_candidate_of_another_problem_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task = own(RULES, prices(300, 0.01), 200)
    other = RULES.as_dict() | {"cash": 5000.0}
    packed(tmp_path / "channels", "candidate", model(tmp_path / "new", task, 0, rules=other)[0])
    with pytest.raises(
        FatalError, match="the candidate was trained under other rules or on other assets than"
    ):
        evaluated(task, tmp_path / "channels", monkeypatch, caplog)


@pytest.mark.parametrize("method", ["fitted", "rllib"])
@pytest.mark.parametrize("objective", ["log", "cvar"])
def test_objective_that_a_method_ignores_is_refused(method: str, objective: str) -> None:
    sentence = f"hyperparameter objective must be mean with method {method}, got '{objective}'"
    with pytest.raises(FatalError, match=sentence):
        train.run(Settings(method=method, objective=objective))
