"""An exported policy as a function, for the comparison of candidate and champion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from .values import in_parts

POLICY, CARD = "policy.onnx", "card.json"
CHOICES_IN_A_RUN = 2**16
"""Maximum number of values that one run of the ONNX session computes, for all accounts together (see
`export.CHOICES`). More values do not fit into a processor's cache."""


class Exported:
    """The policy in a model's folder, as a function for `values.run`. `card` is the model card."""

    def __init__(self, folder: Path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # the accounts are distributed to threads instead
        options.inter_op_num_threads = 1
        self.card: dict[str, Any] = json.loads((folder / CARD).read_text())
        self.lot = np.array([asset["lot"] for asset in self.card["rules"]["assets"]])
        self.choices = 2 * self.card["rules"]["largest_order"] + 1
        self.session = onnxruntime.InferenceSession(
            str(folder / POLICY), options, providers=["CPUExecutionProvider"]
        )
        # files of earlier versions have inputs in single precision, and no number of choices in the metadata
        single = self.session.get_inputs()[0].type == "tensor(float)"
        self.kind = np.float32 if single else np.float64
        choices = self.session.get_modelmeta().custom_metadata_map.get("choices", CHOICES_IN_A_RUN // 32)
        self.at_once = max(1, CHOICES_IN_A_RUN // int(choices))

    def __call__(self, step: int, lots: Any, cash: Any, prices: Any, signals: Any) -> Any:
        count, assets = lots.shape
        now = np.full((count, 1), step)
        columns = [lots * self.lot, cash[:, None], prices, now, signals]
        given = {
            "observation": np.concatenate(columns, axis=1, dtype=self.kind),
            "mask": np.ones((count, assets, self.choices), np.bool_),
        }
        actions = np.empty((count, assets), np.int8)

        def some(begin: int, end: int) -> None:
            for at in range(begin, end, self.at_once):
                part = slice(at, min(at + self.at_once, end))
                found = self.session.run(["actions"], {name: each[part] for name, each in given.items()})
                actions[part] = found[0]

        in_parts(some, count)
        return actions
