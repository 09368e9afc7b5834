"""Models that run inside Triton's Python backend.

`ResidentPipeline` serves all adapters. `Full` is a full pipeline of one user. Both take a text tensor
`request` and return a text tensor `answer`; the texts are JSON.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb  # pyright: ignore[reportMissingImports] - Triton's own

from .pipeline import Picture, Resident, UnusableModelError


class Full:
    """The full pipeline of a user, without adapters."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        parameters = {name: value["string_value"] for name, value in config["parameters"].items()}
        follow(os.getppid())
        self.resident = Resident(Path(parameters["pipeline"]), int(parameters["batch"]))
        # Warm-up: creates kernels and buffers before the first request.
        self.resident.make([Picture(None, "warm", 0, 1, 7.5)])
        state = {
            "pid": os.getpid(),
            "targets": self.resident.targets,
            "free": self.resident.free,
            "itemsize": self.resident.dtype.itemsize,
            "device": self.resident.device.type,
        }
        path = Path(parameters["state"])
        part = path.with_suffix(".part")
        part.write_text(json.dumps(state))
        part.replace(path)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return the responses to a batch of requests."""
        asked = [json.loads(pb.get_input_tensor_by_name(r, "request").as_numpy().flat[0]) for r in requests]
        answers = self.answer(asked)
        return [
            pb.InferenceResponse(error=pb.TritonError(f"{type(answer).__name__}: {answer}"))
            if isinstance(answer, Exception)
            else pb.InferenceResponse(
                [pb.Tensor("answer", np.array([[json.dumps(answer).encode()]], dtype=np.object_))]
            )
            for answer in answers
        ]

    def answer(self, asked: list[dict[str, Any]]) -> list[dict[str, Any] | Exception]:
        pictures = [
            Picture(each.get("adapter"), each["prompt"], seed, each["steps"], each["guidance"])
            for each in asked
            for seed in range(each["seed"], each["seed"] + each["count"])
        ]
        made = iter(self.resident.make(pictures))
        answers: list[dict[str, Any] | Exception] = []
        for each in asked:
            own = [next(made) for _ in range(each["count"])]
            errors = [picture for picture in own if isinstance(picture, Exception)]
            images = [base64.b64encode(picture).decode() for picture in own if isinstance(picture, bytes)]
            if errors and isinstance(errors[0], UnusableModelError):
                answers.append({"refused": str(errors[0])})
            else:
                answers.append(errors[0] if errors else {"images": images})
        return answers


class ResidentPipeline(Full):
    """The pipeline for all users. Each request names the file of its adapter."""

    def answer(self, asked: list[dict[str, Any]]) -> list[dict[str, Any] | Exception]:
        answers = iter(super().answer([each for each in asked if "prompt" in each]))
        return [next(answers) if "prompt" in each else self._forget(each["forget"]) for each in asked]

    def _forget(self, adapter: str) -> dict[str, Any]:
        self.resident.forget(adapter)
        return {}


def follow(parent: int) -> None:
    """Exit this process when Triton has exited or was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
