"""The pipeline that every user's model starts from, and what it is known by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from .failure import Failure
from .settings import Settings


@dataclass(frozen=True)
class Base:
    """`pipeline` stays as it was loaded, on the CPU; each task works on its own copy of what it trains."""

    id: str
    pipeline: StableDiffusionPipeline
    device: torch.device
    dtype: torch.dtype
    resolution: int
    """Pixels on a side that the pipeline was made for."""


def identity(folder: Path) -> str:
    """16 hexadecimal digits: SHA-256 over the names and bytes of the folder's files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def load(settings: Settings, channel: Path) -> Base:
    """From the channel `base`, else from the Hugging Face Hub. Raises `Failure` when there is neither."""
    for logging in (diffusers_logging, transformers_logging):  # the log is the job's own
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    if settings.base:
        folder, name = _downloaded(settings.base)
    elif (channel / "model_index.json").exists():
        folder, name = channel, identity(channel)
    else:
        raise Failure(
            "there is no base: the channel base has no model_index.json, hyperparameter base is empty"
        )
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            folder, safety_checker=None, requires_safety_checker=False, local_files_only=True
        )
    except Exception as error:
        raise Failure(f"the base {name} is not a Stable Diffusion pipeline: {error}") from None
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.eval().requires_grad_(False)
    dtype = precision(settings.precision, device)
    resolution = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    return Base(name, pipeline, device, dtype, resolution)


def precision(wanted: str, device: torch.device) -> torch.dtype:
    """What is computed in: `auto` is bf16 where the GPU has it, fp16 on older ones, fp32 on the CPU."""
    if device.type == "cpu":
        if wanted in ("bf16", "fp16"):
            raise Failure(f"hyperparameter precision is {wanted!r}: without a GPU it takes auto or fp32")
        return torch.float32
    if wanted == "auto":
        wanted = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[wanted]


def _downloaded(named: str) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download

    name, _, revision = named.partition("@")
    try:
        # Weights as safetensors alone: another format may run code as it is read.
        folder = Path(
            snapshot_download(
                name, revision=revision or None, allow_patterns=["*.json", "*.txt", "*/*.safetensors"]
            )
        )
    except Exception as error:
        raise Failure(f"the base {named} cannot be fetched: {type(error).__name__}: {error}") from None
    return folder, f"{name}@{folder.name}"  # the folder is named by the commit
