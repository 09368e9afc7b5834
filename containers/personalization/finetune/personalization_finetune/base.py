"""The base: the pipeline from which all fine-tunes start, and its id."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from toolkit.failure import FatalError
from toolkit.identity import APART, identity

from .settings import Settings

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


@dataclass(frozen=True)
class Base:
    """The loaded base. `pipeline` stays unchanged; each task trains a copy of its networks."""

    id: str
    pipeline: StableDiffusionPipeline
    device: torch.device
    dtype: torch.dtype
    resolution: int
    """Side in pixels of the square pictures for which the pipeline was trained."""


def load(settings: Settings, channel: Path) -> Base:
    """Load the base that `settings` names from the Hugging Face Hub, or else the one in the channel `base`.

    Raises `FatalError` if there is neither, before the slow import of diffusers.
    """
    device = _device(os.environ.get("GROUNDPLAN_DEVICE", ""))
    dtype = precision(settings.precision, device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if settings.base:
        folder = _downloaded(settings.base)
    elif (channel / "model_index.json").exists():
        folder = channel
    else:
        raise FatalError(
            "hyperparameter base must name a base, or channel base must have model_index.json, got neither"
        )
    named = settings.base or "in the channel base"
    try:
        name = identity(folder)
    except (OSError, ValueError) as error:
        raise FatalError(f"the weights of the base {named} cannot be read: {error}") from None
    pipeline_class = _diffusers()
    try:
        pipeline = pipeline_class.from_pretrained(
            folder,
            safety_checker=None,
            requires_safety_checker=False,
            local_files_only=True,
            use_safetensors=True,  # other formats may execute code while they are read
        )
    except Exception as error:
        raise FatalError(f"the base {named} is not a Stable Diffusion pipeline: {error}") from None
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.eval().requires_grad_(False)
    resolution = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    return Base(name, pipeline, device, dtype, resolution)


def _diffusers() -> type[StableDiffusionPipeline]:
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):  # only errors of libraries in the job's log
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    return StableDiffusionPipeline


def _device(wanted: str) -> torch.device:
    """Return the device that PyTorch finds. Raises `FatalError` if `wanted` is another, non-empty name.

    Without this check, a job on a GPU instance whose GPU is absent, or whose driver is too old for the
    image's CUDA, would train on the CPU.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted and found != wanted:
        said = "; ".join(str(warning.message) for warning in caught)
        raise FatalError(
            f"PyTorch must find the device of GROUNDPLAN_DEVICE, {wanted!r}, got {found!r}"
            f" (PyTorch for CUDA {torch.version.cuda})" + (f": {said}" if said else "")
        )
    return torch.device(found)


def precision(wanted: str, device: torch.device) -> torch.dtype:
    """Return the type for computations. `auto`: bf16 if the GPU supports it, else fp16; fp32 on the CPU."""
    if device.type == "cpu":
        if wanted in ("bf16", "fp16"):
            raise FatalError(f"hyperparameter precision must be auto or fp32 without a GPU, got {wanted!r}")
        return torch.float32
    if wanted == "auto":
        wanted = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[wanted]


def _downloaded(named: str) -> Path:
    from huggingface_hub import snapshot_download

    name, _, revision = named.partition("@")
    try:
        # only weights in safetensors files, without variants such as fp16 and without the safety checker
        folder = snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=["*.json", "*.txt", "*/*.safetensors"],
            ignore_patterns=["*.*.safetensors", f"{APART}/*"],
        )
    except Exception as error:
        raise FatalError(f"could not download the base {named}: {type(error).__name__}: {error}") from None
    return Path(folder)
