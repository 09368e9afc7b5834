"""Orders over HTTP: admissible orders, refusals with a reason, the audit log and the stop switch."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.support.portfolio_rl.images import (
    SERVE,
    Job,
    Server,
    environment,
    served,
    training,
)
from tests.support.portfolio_rl.prices import history

ACCOUNT = {
    "holdings": {"1": 20, "2": 0, "3": 0},
    "cash": 600.0,
    "prices": {"1": 41.0, "2": 35.0, "3": 47.0},
    "step": 3,
    "mask": "all",
}


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture(scope="module")
def server(trained: Job, server_python: Path) -> Iterator[Server]:
    with served(trained.base, server_python) as server:
        yield server


def test_account_gets_an_order_in_units(server: Server) -> None:
    order = server.order(ACCOUNT)
    assert order["valid"] is True
    assert set(order["units"]) == {"1", "2", "3"}
    assert all(units % 10 == 0 and abs(units) <= 50 for units in order["units"].values())
    assert order["units"]["1"] >= -20
    cost = sum(units * ACCOUNT["prices"][name] for name, units in order["units"].items())
    assert cost < 600


def test_accounts_of_one_request_do_not_affect_each_other(server: Server) -> None:
    alone = server.order(ACCOUNT)
    broken = ACCOUNT | {"cash": -1.0}
    _, answer = server.ask({"accounts": [broken, ACCOUNT, {}, ACCOUNT]})
    assert [order["valid"] for order in answer["orders"]] == [False, True, False, True]
    assert answer["orders"][1] == answer["orders"][3] == alone


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"mask": None}, 'mask must be "all" or 11 booleans for each of 1, 2, 3'),
        (
            {"mask": {"1": [True] * 11, "2": [True] * 11, "3": [True] * 10}},
            'mask must be "all" or 11 booleans',
        ),
        (
            {"mask": {name: [False] * 11 for name in "123"}},
            "the policy has no order for these holdings, cash, prices, step and mask",
        ),
        ({"cash": "much"}, "cash must be a finite number, got 'much'"),
        ({"cash": True}, "cash must be a finite number, got True"),
        ({"cash": -5}, "the policy has no order for these holdings, cash, prices, step and mask"),
        ({"step": 19}, "the policy has no order for these holdings, cash, prices, step and mask"),
        ({"step": 2.5}, "the policy has no order for these holdings, cash, prices, step and mask"),
        (
            {"holdings": {"1": 5, "2": 0, "3": 0}},
            "the policy has no order for these holdings, cash, prices, step and mask",
        ),
        ({"holdings": {"1": 0}}, "holdings must have a number for each of 1, 2, 3"),
        (
            {"prices": {"1": 40, "2": 35, "3": 0}},
            "the policy has no order for these holdings, cash, prices, step and mask",
        ),
        ({"cash": 10**400}, "cash must be a finite number, got "),
        ({"step": 10**400}, "step must be a finite number, got "),
        ({"prices": {"1": 10**400, "2": 35, "3": 47}}, "prices.1 must be a finite number, got "),
        ({"cash": "y" * 30_000}, "cash must be a finite number, got 'yyyyyyyyyyyyyyyyyyy..."),
        ({"cash": nested(700)}, "cash must be a finite number, got a list"),
        ({"note": nested(700)}, "'note' is unknown, must be one of holdings, cash, prices, step, mask"),
        ({"history": {}}, "'history' is unknown, must be one of "),
    ],
)
def test_invalid_account_gets_no_trade(server: Server, change: dict[str, Any], reason: str) -> None:
    order = server.order(ACCOUNT | change)
    assert order["valid"] is False
    assert order["reason"].startswith(reason)
    assert set(order["units"].values()) == {0}


def test_numbers_that_json_does_not_know_are_refused(server: Server) -> None:
    for number in (math.nan, math.inf):
        order = server.order(ACCOUNT | {"cash": number})
        assert (order["valid"], set(order["units"].values())) == (False, {0})
        assert order["reason"].startswith("cash must be a finite number")


def test_memory_does_not_grow_with_the_number_of_accounts(server: Server) -> None:
    # given a request, when another request has ten times as many accounts
    server.ask({"accounts": [ACCOUNT] * 400})
    some = server.peak_mib
    status, answer = server.ask({"accounts": [ACCOUNT] * 4000})
    # then each account gets an order, and the server's memory fits into the smallest serverless endpoint
    assert (status, len(answer["orders"])) == (200, 4000)
    assert server.peak_mib < 1.5 * some
    assert server.peak_mib < 1024


def test_orders_are_affordable_by_the_numbers_given(server: Server) -> None:
    # given large accounts whose cash equals the cost of some order, or is one or two cents less
    fees = {"1": Fraction("0.03"), "2": Fraction("0.045"), "3": Fraction("0.035")}
    generator, accounts = random.Random(0), []
    for _ in range(2000):
        prices = {name: round(generator.uniform(20_000, 80_000), 2) for name in fees}
        bought = {name: 10 * generator.randrange(6) for name in fees}
        cost = sum(count * (Fraction(str(prices[name])) + fees[name]) for name, count in bought.items())
        cash = float(max(cost - Fraction(generator.randrange(3), 100), 0))
        holdings = dict.fromkeys(fees, 0)
        accounts.append(
            ACCOUNT | {"holdings": holdings, "cash": cash, "prices": prices, "step": generator.randrange(19)}
        )
    # when
    _, answer = server.ask({"accounts": accounts})
    # then no order costs more than the cash, and most orders buy something
    left = [
        Fraction(str(account["cash"]))
        - sum(
            count * (Fraction(str(account["prices"][name])) + fees[name])
            for name, count in order["units"].items()
        )
        for account, order in zip(accounts, answer["orders"], strict=True)
    ]
    assert min(left) >= 0
    assert sum(any(order["units"].values()) for order in answer["orders"]) > 500


def test_account_without_a_mask_is_refused(server: Server) -> None:
    account = {name: value for name, value in ACCOUNT.items() if name != "mask"}
    assert server.order(account)["reason"] == "mask is missing"


def test_mask_is_obeyed(server: Server) -> None:
    # given a mask that allows one choice for each asset
    only = {"1": 4, "2": 5, "3": 6}
    mask = {name: [k == allowed for k in range(11)] for name, allowed in only.items()}
    order = server.order(ACCOUNT | {"mask": mask})
    assert (order["valid"], order["units"]) == (True, {"1": -10, "2": 0, "3": 10})


def test_order_warns_of_prices_outside_the_training_range(server: Server) -> None:
    order = server.order(ACCOUNT | {"prices": {"1": 400.0, "2": 35.0, "3": 47.0}})
    assert order["warning"] == "prices outside of the range of the training data: 1"
    assert "warning" not in server.order(ACCOUNT)


def test_every_order_is_in_the_audit_log(server: Server) -> None:
    before = len(server.audit)
    order = server.order(ACCOUNT | {"cash": 599.0})
    refused = server.order(ACCOUNT | {"cash": math.nan})
    first, second = server.audit[before:]
    assert (first["account"]["cash"], first["units"], first["valid"]) == (599.0, order["units"], True)
    assert (second["account"]["cash"], second["reason"]) == ("nan", refused["reason"])


@pytest.mark.parametrize(
    ("change", "written"),
    [
        ({"cash": "-----BEGIN A-----"}, {"cash": "***"}),
        ({"mask": "-----BEGIN A-----"}, {"mask": "***"}),
        ({"note": "x" * 20_000}, {}),
        ({"cash": "y" * 30_000}, {"cash": "y" * 20}),
        ({"cash": nested(700)}, {"cash": "a list"}),
        ({"holdings": {"1": "z" * 30_000, "x": 5}}, {"holdings": {"1": "z" * 20}}),
        ({"mask": {"1": [True] * 20_000, "2": None}}, {"mask": {"1": [True] * 11, "2": None}}),
    ],
)
def test_audit_log_has_each_account_shortened_and_redacted(
    server: Server, change: dict[str, Any], written: dict[str, Any]
) -> None:
    # given a valid account, and an account with a field that is long, deeply nested, or looks like a secret
    before = len(server.audit)
    status, answer = server.ask({"accounts": [ACCOUNT, ACCOUNT | change]})
    # when the lines of the audit log are read
    lines = server.audit[before:]
    # then both accounts are logged, in short lines that show no secret
    assert status == 200
    assert [line["units"] for line in lines] == [order["units"] for order in answer["orders"]]
    assert [line["valid"] for line in lines] == [True, False]
    assert [line["account"] for line in lines] == [ACCOUNT, ACCOUNT | written]
    assert len(json.dumps(lines[1])) < 2000


@pytest.mark.parametrize(
    ("body", "headers", "status", "error"),
    [
        (b"{", {}, 400, "the body must be JSON"),
        (b"[]", {}, 400, "accounts must be a list of 1 to 10000 accounts"),
        (b"[" * 100_000, {}, 400, "the body must be JSON with fewer levels of nesting"),
        (json.dumps({"accounts": []}).encode(), {}, 400, "accounts must be a list"),
        (b"x", {"Content-Type": "text/csv"}, 415, "content type must be application/json, got text/csv"),
        (b"{}", {"Origin": "https://example.com"}, 403, "requests from web pages are not allowed"),
        (b" " * (4 * 2**20 + 1), {}, 413, "the body must have at most 4194304 bytes"),
    ],
)
def test_wrong_request_is_refused_with_a_reason(
    server: Server, body: bytes, headers: dict[str, str], status: int, error: str
) -> None:
    found, answer = server.ask(body, **headers)
    assert found == status
    assert answer["error"].startswith(error)


def test_unreadable_stop_switch_stops_trades(trained: Job, server_python: Path) -> None:
    # given that Systems Manager, which stores the stop switch, does not answer
    nobody = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with served(trained.base, server_python, STOP_PARAMETER="/trading", **nobody, **keys) as server:
        order = server.order(ACCOUNT)
    assert order["valid"] is False
    assert order["reason"] == "the stop switch /trading cannot be read"
    assert set(order["units"].values()) == {0}


def test_server_without_its_switch_does_not_start(trained: Job, server_python: Path) -> None:
    env = environment(SERVE, trained.base)
    command = [server_python, "-m", "portfolio_serve", "serve"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "STOP_PARAMETER must name the stop switch's parameter" in done.stdout


FEWER = """
import json, pathlib
from portfolio_serve.application import application
from portfolio_serve.predictor import Predictor
from portfolio_serve.switch import Switch
predictor = Predictor(pathlib.Path("model"))
found = [predictor.choices, predictor.most_accounts]
predictor.choices = 14641
asked = application(predictor, Switch("")).test_client()
answer = asked.post("/invocations", json={"accounts": [{}] * 1146})
print(json.dumps([*found, answer.status_code, answer.json["error"]]))
"""


def test_more_joint_orders_mean_fewer_accounts_in_a_request(trained: Job, server_python: Path) -> None:
    found = said(server_python, environment(SERVE, trained.base), trained.base, FEWER)
    assert found == [
        1331,
        10_000,
        400,
        "accounts must be a list of 1 to 1145 accounts, because the policy computes 14641 choices for each",
    ]


def said(python: Path, env: dict[str, str], folder: Path, program: str, given: Any = None) -> Any:
    """Run a program in an image's environment; return the JSON that it prints."""
    command = [python, "-c", program]
    done = subprocess.run(
        command, input=json.dumps(given), cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


SIGNALS = """
import json, sys
import numpy as np
from portfolio_trader.market import raw_signals
card, history = json.load(open("model/card.json")), json.load(sys.stdin)
raw = raw_signals(np.array([history["A"], history["B"]]).T)
print(json.dumps(((raw - card["scales"]["mean"]) / card["scales"]["deviation"]).tolist()))
"""


def test_serving_computes_the_signals_that_training_used(
    trained_on_own_prices: Job, trainer: Path, server_python: Path, tmp_path: Path
) -> None:
    # given a copy of a policy that was trained on a price history, and the prices before a decision
    job = Job(tmp_path / "job", 0, "")
    shutil.copytree(trained_on_own_prices.base / "model", job.base / "model")
    rows = [line.split(",") for line in history().splitlines()[100:121]]
    last = {name: [float(row[column]) for row in rows] for column, name in ((1, "A"), (2, "B"))}

    # when the training image and the serving image compute the signals
    prices = {name: column[-1] for name, column in last.items()}
    expected = said(trainer, training(job.base), job.base, SIGNALS, last)
    program = (
        "import json, pathlib, sys; from portfolio_serve.predictor import Predictor;"
        "predictor = Predictor(pathlib.Path('model'));"
        "print(json.dumps(predictor._signals(json.load(sys.stdin))))"
    )
    given = {"history": last, "prices": prices}
    found = said(server_python, environment(SERVE, job.base), job.base, program, given)
    assert found == pytest.approx(expected)

    # then an account with its price history gets an order, and an account without it gets none
    account = {"holdings": {"A": 3, "B": 0}, "cash": 500.0, "prices": prices, "step": 2, "mask": "all"}
    with served(job.base, server_python) as server:
        assert server.order(account | {"history": last})["valid"] is True
        assert (
            server.order(account)["reason"]
            == "history must be an object with the prices of A, B, and nothing else"
        )
        short = last | {"B": last["B"][1:]}
        assert server.order(account | {"history": short})["reason"] == "history.B must be a list of 21 prices"
        # and an account whose history does not end with the current prices gets no order
        for wrong in ([*last["B"][1:], 2 * last["B"][-1]], [last["B"][0], *last["B"][:-1]]):
            reason = server.order(account | {"history": last | {"B": wrong}})["reason"]
            assert reason == "history.B must end with prices.B, the current price"
    # and an order has a warning when its signals are outside of the range in the model card
    card = job.json("model/card.json") | {"signal_range": [[-9.0, -9, -9, -9], [9.0, 9, 9, 9]]}
    (job.base / "model" / "card.json").write_text(json.dumps(card))
    jump = last | {"B": [last["B"][-1] / 2] * 20 + [last["B"][-1]]}
    with served(job.base, server_python) as server:
        assert "warning" not in server.order(account | {"history": last})
        warning = server.order(account | {"history": jump})["warning"]
        assert warning == "signals outside of the range of the training data: B"
