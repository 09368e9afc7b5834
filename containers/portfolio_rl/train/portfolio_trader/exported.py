"""An exported policy as a function, for evaluations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

POLICY, CARD = "policy.onnx", "card.json"
AT_ONCE = 500
"""Accounts in a run of the session: for each, a policy of values holds every order's monomials in memory."""


class Exported:
    """The policy in a model's folder, for `values.run`; `card` is its card."""

    def __init__(self, folder: Path, threads: int = 1):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
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
        parts = [
            self.session.run(["actions"], {name: each[at : at + AT_ONCE] for name, each in given.items()})[0]
            for at in range(0, count, AT_ONCE)
        ]
        return np.concatenate(parts).astype(np.int8)
