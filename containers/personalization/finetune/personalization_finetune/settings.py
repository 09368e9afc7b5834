"""The hyperparameters of the fine-tune."""

from __future__ import annotations

import re
from dataclasses import dataclass

from toolkit.options import Options, choice, flag, number, option, whole


def _base(text: str) -> str:
    if text and not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", text):
        raise ValueError
    return text


@dataclass(frozen=True)
class Settings(Options):
    base: str = option(_base, "a Hugging Face id as OWNER/NAME or OWNER/NAME@REVISION, or nothing", "")
    method: str = choice("lora", "full", default="lora")
    targets: str = choice("attention", "attention+convolutions", default="attention+convolutions")
    rank: int = whole(1, 256, 8)
    alpha: float = number(0, 1024, 8.0, above=True)
    # a block's rank: rank * (width of the narrowest block / its width) ** rank_falloff
    rank_falloff: float = number(0, 4, 0.0)
    train_text_encoder: bool = flag(False)
    steps: int = whole(1, 100_000, 1000)  # for tasks without `steps`
    batch_size: int = whole(1, 256, 4)
    optimizer: str = choice("adamw", "muon", default="adamw")
    learning_rate: float = number(0, 1, 3e-4, above=True)
    warmup: float = number(0, 0.5, 0.05)
    resolution: int = whole(0, 2048, 0)  # 0: the base's resolution
    variants: int = whole(1, 256, 8)  # cropped and mirrored copies of each picture
    prior_weight: float = number(0, 10, 0.5)
    prior_images: int = whole(0, 1000, 16)
    prior_batch: int = whole(0, 256, 1)
    precision: str = choice("auto", "fp32", "bf16", "fp16", default="auto")
    previews: int = whole(0, 16, 4)
    preview_steps: int = whole(1, 200, 30)
    guidance: float = number(1, 30, 5.0)
    seed: int = whole(0, 2**31 - 1, 0)
    checkpoint_every: int = whole(0, 100_000, 100)  # in steps; 0: only at SIGTERM
    threads: int = whole(0, 1024, 0)  # CPU threads; 0: all
