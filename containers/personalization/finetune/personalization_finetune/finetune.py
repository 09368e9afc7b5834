"""A task: trains a user's adapter on their pictures, and writes the files of the task's folder."""

from __future__ import annotations

import logging
import math
import shutil
import time
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from toolkit.sagemaker import write_json
from toolkit.stopping import Interruption

from . import images
from .base import Base
from .failure import TaskError
from .learner import TARGETS, TEXT, WEIGHTS, Learner, key_of, prior_latents, saved
from .results import OUT_OF_MEMORY, Progress, finish
from .settings import Settings
from .tasks import Task

log = logging.getLogger(__name__)

STATE = Path("state", "state.pt")
FREE_TO_CHANGE = ("checkpoint_every", "threads", "previews", "preview_steps", "guidance")
"""Settings that may differ between a checkpoint and the job that continues from it."""


def run(
    task: Task,
    settings: Settings,
    base: Base,
    pictures: Path,
    scratch: Path,
    folder: Path,
    stop: Interruption,
) -> None:
    """Run a task and write its files to `folder`, with `result.json` last, even if the task fails.

    Raises `Stopped` after SIGTERM. Another call continues from the checkpoint in `folder`, if there is one.
    """
    started = time.monotonic()
    steps = task.steps or settings.steps
    progress = Progress(folder, steps)
    metrics: dict[str, Any] = {}
    reason = ""
    try:
        metrics = _learn(task, settings, base, pictures, scratch, folder, stop, progress, steps)
    except TaskError as failure:
        reason = str(failure)
    except (torch.OutOfMemoryError, MemoryError):
        reason = OUT_OF_MEMORY
    except Exception as error:  # a failed task must not fail other users' tasks
        if "not enough memory" in str(error):  # PyTorch's error on the CPU
            reason = OUT_OF_MEMORY
        else:
            log.exception("[%s] failed", task.request)
            kind = type(error).__name__
            reason = f"Training failed: internal error ({kind}). Start it again; your pictures are kept."
    if base.device.type == "cuda":
        torch.cuda.empty_cache()
    finish(task, folder, base.id, reason, time.monotonic() - started, metrics, steps)


def _learn(
    task: Task,
    settings: Settings,
    base: Base,
    pictures: Path,
    scratch: Path,
    folder: Path,
    stop: Interruption,
    progress: Progress,
    steps: int,
) -> dict[str, Any]:
    progress.tell("training", 0, None)
    if base.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seed = (settings.seed * 1_000_003 + task.seed) % 2**63
    learner = Learner(base, settings, seed)
    side = settings.resolution or base.resolution
    found = images.read(pictures, task.images)
    copies = images.variants(found, settings.variants, side, np.random.default_rng(seed))
    subject = learner.encode(copies)
    stop.check()
    prior = prior_latents(learner, task.subject, scratch)
    learner.begin()

    chosen = {name: value for name, value in asdict(settings).items() if name not in FREE_TO_CHANGE}
    key = key_of(asdict(task) | {"host": 0, "prompts": []}, chosen, base.id, steps)
    begun, loss = _resumed(task, learner, folder / STATE, key)

    def words(subjects: int, priors: int) -> torch.Tensor:
        own, general = embedded if embedded else (learner.embed(own_prompt), learner.embed(class_prompt))
        return torch.cat([own.expand(subjects, -1, -1), general.expand(priors, -1, -1)])

    own_prompt, class_prompt = f"a photo of {task.trigger}", f"a photo of a {task.subject}"
    embedded = None
    if not settings.train_text_encoder:
        with torch.no_grad():
            embedded = learner.embed(own_prompt), learner.embed(class_prompt)

    clock, told = time.monotonic(), -math.inf
    for step in range(begun, steps):
        value = learner.learn(step, steps, subject, prior, words)
        loss = value if loss is None else loss + (value - loss) * max(0.02, 1 / (step + 1))
        if time.monotonic() - told > 1 or step + 1 == steps:
            told = time.monotonic()
            pace = (step + 1 - begun) / (told - clock)
            log.info(
                "[%s] step=%d/%d train:loss=%.6f train:steps_per_second=%.3f",
                task.request,
                step + 1,
                steps,
                loss,
                pace,
            )
        progress.tell("training", step + 1, round(loss, 6))
        every = settings.checkpoint_every
        if stop.wanted or (every and (step + 1) % every == 0 and step + 1 < steps):
            _checkpoint(learner, folder / STATE, key, step + 1, loss)
        stop.check()
    seconds = time.monotonic() - clock

    _write_adapter(task, settings, learner, folder / "adapter", side)
    made = []
    # the prompts are used in turn; each picture has a different seed
    for number, prompt in zip(range(settings.previews), cycle(task.prompts), strict=False):
        progress.tell("previews", steps, loss and round(loss, 6))
        made += learner.generate(prompt, task.seed + number, check=stop.check)
        saved(made, folder / "previews")
    peak = torch.cuda.max_memory_allocated() if base.device.type == "cuda" else None
    return {
        "loss": loss and round(loss, 6),
        "steps": steps,
        "resumed_at": begun,
        "seconds_training": round(seconds, 3),
        "trained_parameters": sum(parameter.numel() for parameter in learner.trained.values()),
        "peak_memory_mib": peak and peak >> 20,
        "images": len(task.images),
    }


def _write_adapter(task: Task, settings: Settings, learner: Learner, folder: Path, side: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)  # exists if SageMaker added a marker file during the removal
    learner.save(folder)
    targets = [*TARGETS[settings.targets], *(TEXT if settings.train_text_encoder else ())]
    about = {"version": 1, "request": task.request, "base": learner.base.id, "trigger": task.trigger}
    about |= {"subject": task.subject, "resolution": side}
    if settings.method == "full":
        about["full"] = True
    else:
        about |= {"rank": settings.rank, "alpha": settings.alpha, "targets": targets, "weights": WEIGHTS}
    write_json(folder / "adapter.json", about)


def _checkpoint(learner: Learner, path: Path, key: str, step: int, loss: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    torch.save({"key": key, "step": step, "loss": loss, "learner": learner.state()}, part)
    part.replace(path)


def _resumed(task: Task, learner: Learner, path: Path, key: str) -> tuple[int, float | None]:
    """Return the next step and the loss of the checkpoint; 0 and None if there is no usable checkpoint."""
    if not path.exists():
        return 0, None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        log.warning("[%s] the checkpoint cannot be read: training starts from the beginning", task.request)
        return 0, None
    if state["key"] != key:
        log.warning(
            "[%s] the checkpoint was made with other settings, pictures or base: training starts from the"
            " beginning",
            task.request,
        )
        return 0, None
    learner.restore(state["learner"])
    log.info("[%s] continuing from the checkpoint of step %d", task.request, state["step"])
    return state["step"], state["loss"]
