"""The exported policy and its card, asked by ONNX Runtime."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from toolkit.failure import Failure

POLICY, CARD = "policy.onnx", "card.json"
AT_ONCE = 32
"""Accounts in a run of the session: for each, a policy of values holds every order's monomials in memory.
Those of more accounts do not fit in a processor's cache."""


class RequestError(Exception):
    """The request or one of its accounts is invalid. The text names the field and what is allowed."""


class Predictor:
    """A policy file and its card, from a model's folder. Raises `Failure` where they are no model."""

    def __init__(self, folder: Path, threads: int = 1):
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
            self.name = f"{self.card['variant']} {self.card['method']} seed {self.card['seed']}"
        except Exception as error:
            raise Failure(
                f"the model must contain a policy ({POLICY}) and its card ({CARD}): {error}"
            ) from None

    def ask(self, observation: Any, mask: Any) -> tuple[Any, Any]:
        """Return orders in lots, int64 [B, N], and whether each account was accepted, bool [B].

        A wrong shape or type is refused as a whole, without a trade.

        :param observation: float64 [B, 2N + 2 + Z]
        :param mask: bool [B, N, 2K + 1]
        """
        try:
            parts = [
                self.session.run(
                    ["actions", "valid"],
                    {"observation": observation[at : at + AT_ONCE], "mask": mask[at : at + AT_ONCE]},
                )
                for at in range(0, len(observation), AT_ONCE)
            ]
            actions, valid = (np.concatenate(each) for each in zip(*parts, strict=True))
        except Exception:  # ONNX Runtime has no public base class for its refusals
            count = len(observation) if getattr(observation, "ndim", 0) else 1
            return np.zeros((count, len(self.names)), np.int64), np.zeros(count, np.bool_)
        return actions, valid

    def read(self, account: Any) -> tuple[Any, Any]:
        """Return an account's observation, float64 [2N + 2 + Z], and mask. Raises `RequestError`."""
        if not isinstance(account, dict):
            raise RequestError("an account must be an object")
        for field in ("holdings", "cash", "prices", "step", "mask"):
            if field not in account:
                raise RequestError(f"{field} is missing")
        numbers = [
            *self._numbers(account["holdings"], "holdings"),
            _number(account["cash"], "cash"),
            *self._numbers(account["prices"], "prices"),
            _number(account["step"], "step"),
            *self._signals(account),
        ]
        return np.array(numbers, np.float64), self._mask(account["mask"])

    def outside(self, account: Any) -> list[str]:
        """Return the assets whose price lies outside of the range that the policy was trained on."""
        low, high = self.card["price_range"]
        ranges = zip(self.names, low, high, strict=True)
        return [name for name, least, most in ranges if not least <= account["prices"][name] <= most]

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
        """Return the signals of the account's price history; none where the policy was trained without."""
        if not self.card["signals"]:
            return []
        count = self.card["look_back"] + 1
        given = account.get("history")
        if not isinstance(given, dict) or set(given) != set(self.names):
            raise RequestError(f"history must have prices for each of {', '.join(self.names)}")
        columns = []
        for name in self.names:
            prices = given[name]
            if not isinstance(prices, list) or len(prices) != count:
                raise RequestError(f"history.{name} must be a list of {count} prices")
            column = [_number(price, f"history.{name}") for price in prices]
            if min(column) <= 0:
                raise RequestError(f"history.{name} must be prices above 0")
            columns.append(column)
        logs = np.log(np.array(columns, np.float64))  # [N, look_back + 1]
        raw = np.concatenate([logs[:, -1] - logs[:, -2], logs[:, -1] - logs[:, :-1].mean(1)])
        scales = self.card["scales"]
        return ((raw - scales["mean"]) / scales["deviation"]).tolist()


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RequestError(f"{where} must be a finite number, got {value!r}")
    return float(value)
