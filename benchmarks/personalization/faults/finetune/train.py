"""A stub of the fine-tuning container `personalization_finetune`: writes the same files, but trains nothing.

The benchmark measures the pipeline around the training. Only a task whose first picture ends with the bytes
`bad` fails. Like the real container, this one may be stopped between any two writes.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

BASE = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
CHECKPOINTS = BASE / "checkpoints"
CHANNELS = BASE / "input" / "data"
SECONDS = 0.05
"""Duration of a fine-tune in seconds. A fine-tune that continues from a checkpoint takes half as long."""


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cluster = json.loads((BASE / "input/config/resourceconfig.json").read_text())
    mine = sorted(cluster["hosts"]).index(cluster["current_host"])
    (file,) = (path for path in (CHANNELS / "tasks").rglob("*") if path.is_file())
    for task in json.loads(file.read_text())["tasks"]:
        if task["host"] == mine:
            tune(task)
    print("done", flush=True)


def tune(task: dict) -> None:
    folder = CHECKPOINTS / task["request"]
    if (folder / "result.json").exists():  # written before an interruption
        return
    write(folder / "progress.json", {"stage": "training", "step": 1, "steps": 2, "loss": 1.0})
    images = [(CHANNELS / "images" / name).read_bytes() for name in task["images"]]
    if images[0].endswith(b"bad"):
        reason = "images[0] cannot be read"
        write(folder / "result.json", {"version": 1, "status": "failed", "reason": reason})
        return
    if not (folder / "state/step.json").exists():
        time.sleep(SECONDS / 2)
        write(folder / "state/step.json", {"step": 1})
    time.sleep(SECONDS / 2)
    weights = hashlib.sha256(b"".join(images)).digest()
    about = {"version": 1, "request": task["request"], "base": "0" * 16, "rank": 1, "alpha": 1}
    about |= {"targets": ["x"], "trigger": f"sks {task['subject']}", "resolution": 64}
    files = {
        "adapter/adapter.json": json.dumps(about).encode(),
        "adapter/adapter_model.safetensors": weights,
        "previews/0.png": b"\x89PNG" + weights,
    }
    for name, data in files.items():
        put(folder / name, data)
    told = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
    }
    result = {"version": 1, "status": "done", "reason": "", "base": "0" * 16, "files": told}
    write(folder / "result.json", result | {"seconds": SECONDS, "metrics": {"steps": 2}})


def write(path: Path, value: dict) -> None:
    put(path, json.dumps(value).encode())


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)


main()
