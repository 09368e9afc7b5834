"""What a finished training job left behind: its model and the record that each host kept."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from scenarios import ScenarioError, aws


@dataclass(frozen=True)
class Job:
    """A training job and its two archives, each by the names of the files in it."""

    name: str
    seconds: float
    model: dict[str, bytes]
    output: dict[str, bytes]

    @property
    def preparation(self) -> dict[str, Any]:
        """How the model reads a row: the columns it expects, in order, and how rows were split."""
        return json.loads(self.model["preparation.json"])

    @property
    def metrics(self) -> dict[str, Any]:
        """What the training measured: learning curve and importance among it."""
        return json.loads(self.model["metrics.json"])

    @property
    def summaries(self) -> dict[str, dict[str, Any]]:
        """What each host tells of itself, by host."""
        found = {
            name: json.loads(content) for name, content in self.output.items() if _is(name, "summary", "json")
        }
        return {summary["host"]: summary for _, summary in sorted(found.items())}

    @property
    def rows(self) -> np.ndarray:
        """The hashes of all rows that the hosts pulled, int64 (rows,)."""
        parts = [
            np.load(io.BytesIO(content)) for name, content in self.output.items() if _is(name, "rows", "npy")
        ]
        if len(parts) != len(self.summaries):
            raise ScenarioError(f"{len(parts)} of {len(self.summaries)} hosts recorded their rows")
        return np.concatenate(parts)


def _is(name: str, stem: str, suffix: str) -> bool:
    return name.rpartition("/")[2].startswith(f"{stem}-") and name.endswith(f".{suffix}")


def finished(name: str) -> Job:
    """The training job's archives, fetched from S3."""
    seconds, model, output = aws.job_archives(name)
    return Job(name, seconds, model, output)
