"""The exported policy and its card, run by ONNX Runtime."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from toolkit.failure import FatalError

POLICY, CARD = "policy.onnx", "card.json"
MOST_ACCOUNTS = 10_000
CHOICES_IN_A_RUN, CHOICES_IN_A_REQUEST = 2**16, 2**24
"""Maximum number of choices that the policy computes for all accounts, in one run of the ONNX session and in
one request. For each account, a policy from value iteration computes every possible order, a network every
possible size of each leg. A run must fit into a processor's cache, and a request must finish within
SageMaker's 60 seconds."""
SAME = 1e-6
"""Maximum relative difference between an asset's price and the last price of its history. Rounding to single
precision causes a smaller one."""
LONGEST = 20
"""Maximum number of characters of a text from a request, in reasons and in the audit log."""


FIELDS = ("holdings", "cash", "prices", "step", "mask")


class RequestError(Exception):
    """The request or one of its accounts is invalid. The message names the field and what is allowed."""


class Predictor:
    """A policy file and its card, from a model's folder. Raises `FatalError` if they are invalid.

    Shapes of arrays: B accounts, N assets, Z signals, and at most K lots of an asset in an order.
    """

    def __init__(self, folder: Path, threads: int = 1):
        self._one_run = threading.Lock()  # one run at a time, to limit memory: each run allocates its arrays
        try:
            self.card: dict[str, Any] = json.loads((folder / CARD).read_text())
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            self.session = onnxruntime.InferenceSession(
                str(folder / POLICY), options, providers=["CPUExecutionProvider"]
            )
            rules = self.card["rules"]
            self.names = [asset["name"] for asset in rules["assets"]]
            self.lots = [int(asset["lot"]) for asset in rules["assets"]]
            self.largest = int(rules["largest_order"])
            self.look_back = int(self.card["look_back"])
            self.signals = int(self.card["signals"])
            self.choices = int(self.session.get_modelmeta().custom_metadata_map["choices"])
            self.name = f"{self.card['variant']} {self.card['method']} seed {self.card['seed']}"
        except Exception as error:
            raise FatalError(
                f"the model must contain a policy ({POLICY}) and its card ({CARD}): {error}"
            ) from None

    @property
    def most_accounts(self) -> int:
        """Maximum number of accounts in a request."""
        return max(1, min(MOST_ACCOUNTS, CHOICES_IN_A_REQUEST // self.choices))

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of an account."""
        return (*FIELDS, "history") if self.signals else FIELDS

    def ask(self, observation: Any, mask: Any) -> tuple[Any, Any]:
        """Return orders in lots, int64 [B, N], and whether each account was accepted, bool [B].

        If a shape or type is wrong, all accounts are rejected, without a trade.

        :param observation: float64 [B, 2N + 2 + Z]
        :param mask: bool [B, N, 2K + 1]
        """
        size = max(1, CHOICES_IN_A_RUN // self.choices)
        parts = []
        try:
            for at in range(0, len(observation), size):
                given = {"observation": observation[at : at + size], "mask": mask[at : at + size]}
                with self._one_run:
                    parts.append(self.session.run(["actions", "valid"], given))
            actions, valid = (np.concatenate(each) for each in zip(*parts, strict=True))
        except Exception:  # ONNX Runtime has no public base class for its errors
            count = len(observation) if getattr(observation, "ndim", 0) else 1
            return np.zeros((count, len(self.names)), np.int64), np.zeros(count, np.bool_)
        return actions, valid

    def read(self, account: Any) -> tuple[Any, Any]:
        """Return an account's observation, float64 [2N + 2 + Z], and mask. Raises `RequestError`."""
        if not isinstance(account, dict):
            raise RequestError("an account must be an object")
        for field in FIELDS:
            if field not in account:
                raise RequestError(f"{field} is missing")
        for field in account:
            if field not in self.fields:
                raise RequestError(f"{shortened(field)} is unknown, must be one of {', '.join(self.fields)}")
        numbers = [
            *self._numbers(account["holdings"], "holdings"),
            _number(account["cash"], "cash"),
            *self._numbers(account["prices"], "prices"),
            _number(account["step"], "step"),
            *self._signals(account),
        ]
        return np.array(numbers, np.float64), self._mask(account["mask"])

    def warning(self, observation: Any) -> str:
        """Return which values of an account are outside of the range of the training data, or an empty text.

        :param observation: float64 [2N + 2 + Z]
        """
        n = len(self.names)
        found = {"prices": self._outside(self.card["price_range"], observation[n + 1 : 2 * n + 1])}
        if known := self.card.get("signal_range"):  # two signals for each asset
            found["signals"] = self._outside(known, observation[2 * n + 2 :])
        return "; ".join(
            f"{kind} outside of the range of the training data: {', '.join(names)}"
            for kind, names in found.items()
            if names
        )

    def _outside(self, known: Any, values: Any) -> list[str]:
        """Return the assets with a value outside of its range; `values` has one or more values per asset."""
        low, high = known
        wrong = ((values < low) | (values > high)).reshape(-1, len(self.names)).any(0)
        return [name for name, out in zip(self.names, wrong, strict=True) if out]

    def _numbers(self, given: Any, field: str) -> list[float]:
        if not isinstance(given, dict) or set(given) != set(self.names):
            raise RequestError(f"{field} must have a number for each of {', '.join(self.names)}")
        return [_number(given[name], f"{field}.{name}") for name in self.names]

    def _mask(self, given: Any) -> Any:
        choices = 2 * self.largest + 1
        if given == "all":
            return np.ones((len(self.names), choices), np.bool_)
        good = isinstance(given, dict) and set(given) == set(self.names)
        if not good or not all(
            isinstance(row, list) and len(row) == choices and all(isinstance(each, bool) for each in row)
            for row in given.values()
        ):
            raise RequestError(
                f'mask must be "all" or {choices} booleans for each of {", ".join(self.names)}'
            )
        return np.array([given[name] for name in self.names], np.bool_)

    def _signals(self, account: dict[str, Any]) -> list[float]:
        """Return the signals of the account's price history; none if the policy was trained without them."""
        if not self.signals:
            return []
        count = self.look_back + 1
        given = account.get("history")
        if not isinstance(given, dict) or set(given) != set(self.names):
            raise RequestError(
                f"history must be an object with the prices of {', '.join(self.names)}, and nothing else"
            )
        columns = []
        for name in self.names:
            prices = given[name]
            if not isinstance(prices, list) or len(prices) != count:
                raise RequestError(f"history.{name} must be a list of {count} prices")
            column = [_number(price, f"history.{name}") for price in prices]
            if min(column) <= 0:
                raise RequestError(f"history.{name} must be prices above 0")
            if not math.isclose(column[-1], account["prices"][name], rel_tol=SAME):
                raise RequestError(f"history.{name} must end with prices.{name}, the current price")
            columns.append(column)
        logs = np.log(np.array(columns, np.float64))  # [N, look_back + 1]
        raw = np.concatenate([logs[:, -1] - logs[:, -2], logs[:, -1] - logs[:, :-1].mean(1)])
        scales = self.card["scales"]
        return ((raw - scales["mean"]) / scales["deviation"]).tolist()


def _number(value: Any, where: str) -> float:
    try:
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    except OverflowError:  # an integer that is too large for a double
        pass
    raise RequestError(f"{where} must be a finite number, got {shortened(value)}")


def shortened(value: Any) -> str:
    """Return a value of a request as a text of bounded length."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = repr(value[: LONGEST + 1] if isinstance(value, str) else value)
    return text if len(text) <= LONGEST + 2 else f"{text[:LONGEST]}..."
