"""Results of a completed training job: its model, and the records of its hosts."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from scenarios import ScenarioError, aws


@dataclass(frozen=True)
class Job:
    """A training job with the files of its two archives by name."""

    name: str
    seconds: float
    model: dict[str, bytes]
    output: dict[str, bytes]

    @property
    def preparation(self) -> dict[str, Any]:
        """Return the model's preprocessing: its columns in order, and the split of rows."""
        return json.loads(self.model["preparation.json"])

    @property
    def metrics(self) -> dict[str, Any]:
        """Return the training's metrics, such as learning curve and importance."""
        return json.loads(self.model["metrics.json"])

    @property
    def summaries(self) -> dict[str, dict[str, Any]]:
        """Return each host's summary, by host."""
        found = {
            name: json.loads(content) for name, content in self.output.items() if _is(name, "summary", "json")
        }
        return {summary["host"]: summary for _, summary in sorted(found.items())}

    @property
    def rows(self) -> np.ndarray:
        """Return the hashes of all rows that the hosts read, int64 (rows,)."""
        parts = [
            np.load(io.BytesIO(content)) for name, content in self.output.items() if _is(name, "rows", "npy")
        ]
        if len(parts) != len(self.summaries):
            raise ScenarioError(f"all {len(self.summaries)} hosts must record their rows, got {len(parts)}")
        return np.concatenate(parts)


def _is(name: str, stem: str, suffix: str) -> bool:
    return name.rpartition("/")[2].startswith(f"{stem}-") and name.endswith(f".{suffix}")


def finished(name: str) -> Job:
    """Return a completed training job with its archives from S3."""
    seconds, model, output = aws.job_archives(name)
    return Job(name, seconds, model, output)
