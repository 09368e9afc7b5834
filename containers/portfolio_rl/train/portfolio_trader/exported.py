"""An exported policy as a function, for evaluations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from .values import in_parts

POLICY, CARD = "policy.onnx", "card.json"
AT_ONCE = 32
"""Accounts in a run of the session: for each, a policy of values holds every order's monomials in memory.
Those of more accounts do not fit in a processor's cache."""


class Exported:
    """The policy in a model's folder, for `values.run`; `card` is its card."""

    def __init__(self, folder: Path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # accounts are shared out among threads instead
        options.inter_op_num_threads = 1
        self.card: dict[str, Any] = json.loads((folder / CARD).read_text())
        self.lot = np.array([asset["lot"] for asset in self.card["rules"]["assets"]])
        self.choices = 2 * self.card["rules"]["largest_order"] + 1
        self.session = onnxruntime.InferenceSession(
            str(folder / POLICY), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, step: int, lots: Any, cash: Any, prices: Any, signals: Any) -> Any:
        count, assets = lots.shape
        now = np.full((count, 1), step)
        columns = [lots * self.lot, cash[:, None], prices, now, signals]
        given = {
            "observation": np.concatenate(columns, axis=1, dtype=np.float32),
            "mask": np.ones((count, assets, self.choices), np.bool_),
        }
        actions = np.empty((count, assets), np.int8)

        def some(begin: int, end: int) -> None:
            for at in range(begin, end, AT_ONCE):
                part = slice(at, min(at + AT_ONCE, end))
                found = self.session.run(["actions"], {name: each[part] for name, each in given.items()})
                actions[part] = found[0]

        in_parts(some, count)
        return actions
