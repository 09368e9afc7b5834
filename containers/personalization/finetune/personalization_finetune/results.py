"""Progress and result files of a task. The supervisor imports this module, so it has no slow imports."""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from toolkit.sagemaker import files, write_json

from .tasks import Task

log = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "Training failed because the machine ran out of memory. Start it again; if it fails again, "
    "use fewer or smaller pictures."
)


@dataclass
class Progress:
    """Writes `progress.json`, at most once a second in each stage, because each write is uploaded to S3."""

    folder: Path
    steps: int
    written: float = field(default=-math.inf)
    stage: str = ""

    def tell(self, stage: str, step: int, loss: float | None) -> None:
        if stage == self.stage and time.monotonic() - self.written < 1:
            return
        self.stage, self.written = stage, time.monotonic()
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told = {"stage": stage, "step": step, "steps": self.steps, "loss": loss, "updated": now}
        write_json(self.folder / "progress.json", told)


def finish(
    task: Task, folder: Path, base: str, reason: str, seconds: float, metrics: dict[str, Any], steps: int
) -> None:
    """Write the result of a task. For a failed task, remove the files that could be taken for a model."""
    shutil.rmtree(folder / "state", ignore_errors=True)
    if reason:
        shutil.rmtree(folder / "adapter", ignore_errors=True)
        shutil.rmtree(folder / "previews", ignore_errors=True)
    found = [*files(folder / "adapter"), *files(folder / "previews")]
    result = {
        "version": 1,
        "status": "failed" if reason else "done",
        "reason": reason,
        "base": base,
        "seconds": round(seconds, 3),
        "metrics": metrics,
        "files": {
            path.relative_to(folder).as_posix(): {
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in found
        },
    }
    Progress(folder, steps).tell(result["status"], 0 if reason else steps, metrics.get("loss"))
    write_json(folder / "result.json", result)
    if reason:
        log.error("[%s] failed: %s", task.request, reason)
    else:
        log.info("[%s] done in %.1f s", task.request, seconds)
