"""The resident pipeline with one adapter merged into its weights. Runs inside Triton, in one thread.

An adapter is merged into the base's original weights: `W = W0 + scale * B @ A`. So a picture takes as long as
without adapters, a switch to another adapter takes one matrix product per weight, and repeated switches
accumulate no rounding errors. With separate factors, as in peft, switches would take no time, but every
denoising step would be slower.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from safetensors import safe_open

from . import archive

Factors = dict[str, tuple[torch.Tensor, torch.Tensor, float]]


@dataclass(frozen=True)
class Picture:
    """A picture to make. It depends on these values only, not on other pictures in the batch."""

    adapter: str | None
    prompt: str
    seed: int
    steps: int
    guidance: float


class UnusableModelError(Exception):
    """The model's weights make no valid picture. The message is for the caller."""


class Resident:
    """A pipeline in memory: half precision on a GPU, single on a CPU."""

    def __init__(self, folder: Path, batch: int = 8):
        gpu = torch.cuda.is_available()
        self.device = torch.device("cuda" if gpu else "cpu")
        self.dtype = torch.float16 if gpu else torch.float32
        self.batch = batch
        # Only safetensors, and no code from a repository: neither pickles nor custom pipelines.
        self.pipeline = DiffusionPipeline.from_pretrained(
            folder, dtype=self.dtype, use_safetensors=True, local_files_only=True
        ).to(self.device)
        self.pipeline.set_progress_bar_config(disable=True)
        self.weights = {
            f"{component}.{name.removeprefix('text_model.')}": module.weight
            for component in ("unet", "text_encoder")
            for name, module in getattr(self.pipeline, component).named_modules()
            if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
        }
        self._pristine: dict[str, torch.Tensor] = {}
        self._cache: dict[str, Factors] = {}
        self._merged: set[str] = set()
        self.adapter: str | None = None

    @property
    def targets(self) -> dict[str, list[int]]:
        """Shapes of the weights that an adapter may change."""
        return {name: list(weight.shape) for name, weight in self.weights.items()}

    @property
    def free(self) -> int:
        """Free bytes in the memory that keeps adapters."""
        if self.device.type == "cuda":
            return torch.cuda.mem_get_info(self.device)[0]
        return free_memory()

    def forget(self, adapter: str) -> None:
        """Evict an adapter. If it is merged, restore the base's weights."""
        if self.adapter == adapter:
            self.use(None)
        self._cache.pop(adapter, None)

    @torch.no_grad()
    def use(self, adapter: str | None) -> None:
        """Merge the adapter of this file into the weights; None: restore the base's weights."""
        if adapter == self.adapter:
            return
        factors = self._factors(adapter) if adapter else {}
        self.adapter = None  # set at the end, so that the next switch repairs an incomplete switch
        for name in self._merged - set(factors):
            self.weights[name].copy_(self._pristine[name])
            self._merged.discard(name)
        for name, (a, b, scale) in factors.items():
            weight = self.weights[name]
            if name not in self._pristine:
                self._pristine[name] = weight.detach().clone()
            self._merged.add(name)
            pristine = self._pristine[name].flatten(1)
            torch.addmm(pristine, b, a, alpha=scale, out=weight.detach().flatten(1))
        self.adapter = adapter

    def _factors(self, adapter: str) -> Factors:
        if adapter not in self._cache:
            found = archive.read(Path(adapter))
            with safe_open(found.file, framework="pt", device=str(self.device)) as file:
                self._cache[adapter] = {
                    target: (
                        file.get_tensor(low.a).flatten(1).to(self.dtype),
                        file.get_tensor(low.b).flatten(1).to(self.dtype),
                        low.scale,
                    )
                    for target, low in found.weights.items()
                }
        return self._cache[adapter]

    def make(self, pictures: list[Picture]) -> list[bytes | Exception]:
        """Return each picture as PNG, or its error. Pictures of the same adapter are made in batches."""
        made: list[bytes | Exception] = [RuntimeError("not made")] * len(pictures)
        groups: dict[tuple, list[int]] = {}
        for number, picture in enumerate(pictures):
            groups.setdefault((picture.adapter, picture.steps, picture.guidance), []).append(number)
        # Pictures of the merged adapter come first.
        for (adapter, *_), numbers in sorted(groups.items(), key=lambda group: group[0][0] != self.adapter):
            for start in range(0, len(numbers), self.batch):
                part = numbers[start : start + self.batch]
                try:
                    self.use(adapter)
                    found: Iterable[bytes | Exception] = self._denoise([pictures[number] for number in part])
                except Exception as error:  # an error of one group must not fail other groups
                    found = [error] * len(part)
                for number, picture in zip(part, found, strict=True):
                    made[number] = picture
        return made

    def _denoise(self, pictures: list[Picture]) -> list[bytes | Exception]:
        try:
            found = self.pipeline(
                [picture.prompt for picture in pictures],
                # One generator per picture, on the CPU: the same noise on every device and in every batch.
                generator=[torch.Generator().manual_seed(picture.seed) for picture in pictures],
                num_inference_steps=pictures[0].steps,
                guidance_scale=pictures[0].guidance,
                output_type="np",
            )
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            if len(pictures) == 1:
                raise
            half = len(pictures) // 2
            return self._denoise(pictures[:half]) + self._denoise(pictures[half:])
        return [self._png(image) for image in found.images]

    def _png(self, image: np.ndarray) -> bytes | UnusableModelError:
        """Return the PNG of an image (height, width, 3) from 0 to 1, or an error if a value is not finite."""
        if not np.isfinite(image).all():
            return UnusableModelError("the model's weights overflow: it cannot make a picture of this prompt")
        stream = io.BytesIO()
        self.pipeline.image_processor.numpy_to_pil(image)[0].save(stream, "PNG")
        return stream.getvalue()


def free_memory() -> int:
    """Return the free bytes of this machine, or of this container if that is less."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, max(int(text) - int(used.read_text()), 0))
    return free
