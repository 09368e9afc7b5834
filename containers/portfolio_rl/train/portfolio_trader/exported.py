"""An exported policy as a function, for evaluations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

POLICY, CARD = "policy.onnx", "card.json"


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
        at = np.full((count, 1), step)
        columns = [lots * self.lot, cash[:, None], prices, at, signals]
        given = {
            "observation": np.concatenate(columns, axis=1, dtype=np.float32),
            "mask": np.ones((count, assets, self.choices), np.bool_),
        }
        return np.asarray(self.session.run(["actions"], given)[0]).astype(np.int8)
