"""Train a small text-to-image pipeline on a folder of pictures, in minutes on two cores.

    python -m personalization_finetune.pretrain --pictures FOLDER --output FOLDER

For machines without access to a pretrained base. The output is a Stable Diffusion pipeline in diffusers'
format, only smaller (48 x 48 pixels), and loads like any other. The folder of pictures has a file
`captions.json`, `{"file": "a cat", ...}`. The same folder, seed and packages on the same kind of processor
give the same weights.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image, ImageEnhance, ImageFilter
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from toolkit.logs import log_to_stdout

from .optimizing import optimizers

log = logging.getLogger(__package__)

SIZE = 48
"""Side of the pictures in pixels."""

THREADS = 2
"""Fixed, because sums are rounded differently with another number of threads."""

WEIGHT_DECAY = 1e-4

STYLES = ("", "black and white", "dark", "bright", "blue", "red", "blurred")
"""Styles in captions; the first is the unchanged picture."""

WORDS = [
    *("a", "an", "the", "of", "and", "in", "on", "with", "at", "photo", "picture", "painting", "sks"),
    *("black", "white", "dark", "bright", "blue", "red", "green", "yellow", "blurred", "small", "large"),
    *("cat", "dog", "cup", "mug", "flower", "rocket", "bird", "horse", "car", "house", "toy", "face"),
    *("man", "woman", "person", "child", "shoe", "bag", "chair", "bottle", "plant", "tree", "bear"),
    *("rabbit", "bike", "watch", "ball", "book", "boat", "plane"),
]
"""Words with one token each, like the words of the captions. Other words are spelled in letters."""

START, END = "<|startoftext|>", "<|endoftext|>"  # CLIP's own


@dataclass(frozen=True)
class Plan:
    """Sizes of the networks, and settings of their training."""

    shrink: int = 2  # number of times that the autoencoder halves the sides
    latent_channels: int = 12
    autoencoder_width: int = 32
    autoencoder_steps: int = 2500
    autoencoder_batch: int = 8
    autoencoder_side: int = 32  # in pixels; crops train the autoencoder as well as whole pictures
    autoencoder_rate: float = 3e-3
    channels: tuple[int, ...] = (48, 96, 192)
    width: int = 64
    steps: int = 800
    batch: int = 24
    rate: float = 3e-3
    text_rate: float = 1e-3


# --- pictures and captions ---


def styled(picture: Image.Image, style: str) -> Image.Image:
    if style == "black and white":
        return picture.convert("L").convert("RGB")
    if style == "dark":
        return ImageEnhance.Brightness(picture).enhance(0.4)
    if style == "bright":
        return Image.blend(picture, Image.new("RGB", picture.size, "white"), 0.5)
    if style in ("blue", "red"):
        tint = Image.merge("RGB", [picture.convert("L")] * 3)
        return Image.blend(tint, Image.new("RGB", picture.size, style), 0.4)
    return picture.filter(ImageFilter.GaussianBlur(2.5)) if style == "blurred" else picture


def caption(what: str, style: str) -> str:
    return f"a {style} photo of {what}" if style else f"a photo of {what}"


def crops(
    pictures: dict[str, list[Image.Image]], count: int, chance: np.random.Generator
) -> tuple[torch.Tensor, list[str]]:
    """Return `count` random square crops, (count, 3, SIZE, SIZE) in [-1, 1], and their captions."""
    found, told = [], []
    names = sorted(pictures)
    for _ in range(count):
        what = names[chance.integers(len(names))]
        picture = pictures[what][chance.integers(len(pictures[what]))]
        short = min(picture.size)
        side = int(short * chance.uniform(0.45, 1.0))
        left, top = (int(chance.integers(length - side + 1)) for length in picture.size)
        square = picture.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BOX)
        if chance.random() < 0.5:
            square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        style = STYLES[chance.integers(len(STYLES))] if chance.random() < 0.5 else ""
        found.append(np.asarray(styled(square, style), dtype=np.float32))
        told.append(caption(what, style))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2) / 127.5 - 1, told


def read(folder: Path) -> dict[str, list[Image.Image]]:
    """Return the pictures by their subject in `captions.json`, with a shorter side of at most 4 SIZE."""
    captions: dict[str, str] = json.loads((folder / "captions.json").read_text())
    pictures: dict[str, list[Image.Image]] = {}
    for name, what in sorted(captions.items()):
        with Image.open(folder / name) as opened:
            picture = opened.convert("RGB")
        factor = min(1.0, 4 * SIZE / min(picture.size))
        size = [round(length * factor) for length in picture.size]
        pictures.setdefault(what, []).append(picture.resize(size, Image.Resampling.LANCZOS))
    return pictures


# --- networks ---


def tokenizer(captions: Sequence[str], folder: Path) -> CLIPTokenizer:
    """Return a CLIP tokenizer with a vocabulary of a few hundred: letters, and whole words as merges."""
    letters = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256))]
    letters += [chr(256 + code) for code in range(68)]
    vocabulary = [*letters, *(letter + "</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in dict.fromkeys([*WORDS, *(word for text in captions for word in text.split())]):
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair = (parts[0], parts[1])
            parts[:2] = ["".join(pair)]
            if pair not in merges:
                merges.append(pair)
                vocabulary.append(parts[0])
    vocabulary += [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=24, pad_token=END
    )


def parts(
    plan: Plan, words: CLIPTokenizer
) -> tuple[AutoencoderTiny, CLIPTextModel, UNet2DConditionModel, DDIMScheduler]:
    # An autoencoder without normalization keeps the brightness, and learns in a minute what the usual one
    # learns in an hour.
    autoencoder = AutoencoderTiny(
        latent_channels=plan.latent_channels,
        encoder_block_out_channels=(plan.autoencoder_width,) * (plan.shrink + 1),
        decoder_block_out_channels=(plan.autoencoder_width,) * (plan.shrink + 1),
        num_encoder_blocks=(0, *(1,) * plan.shrink),
        num_decoder_blocks=(*(1,) * plan.shrink, 0),
    )
    end = words.convert_tokens_to_ids(END)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=plan.width,
            projection_dim=plan.width,
            intermediate_size=4 * plan.width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=words.model_max_length,
            bos_token_id=end - 1,
            eos_token_id=end,
            pad_token_id=end,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=SIZE // 2**plan.shrink,
        in_channels=plan.latent_channels,
        out_channels=plan.latent_channels,
        block_out_channels=plan.channels,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (len(plan.channels) - 1),
        up_block_types=("CrossAttnUpBlock2D",) * (len(plan.channels) - 1) + ("UpBlock2D",),
        layers_per_block=1,
        cross_attention_dim=plan.width,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    # With a velocity as target and a last step without any signal, a small model learns the brightness.
    noise = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=True,
    )
    return autoencoder, text, unet, noise


# --- training ---


def optimized(learning: list[torch.optim.Optimizer], steps: int) -> Iterator[int]:
    """Yield each of `steps` steps, then update the parameters. Gradients are zero before each step.

    The rates rise linearly in the first twentieth of the steps, and fall along a cosine to 0.
    """
    groups = [group for optimizer in learning for group in optimizer.param_groups]
    rates = [group["lr"] for group in groups]
    parameters = [parameter for group in groups for parameter in group["params"]]
    for step in range(steps):
        share = min(1.0, 20 * (step + 1) / steps) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * share
        for optimizer in learning:
            optimizer.zero_grad(set_to_none=True)
        yield step
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in learning:
            optimizer.step()


class Clock:
    """Logs progress with the seconds since the start."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def say(self, line: str) -> None:
        log.info("%6.0f s  %s", time.monotonic() - self.started, line)


def recolored(batch: torch.Tensor, chance: np.random.Generator) -> torch.Tensor:
    """Return recolored pictures, so that the autoencoder also learns colors that the pictures lack.

    Each channel becomes a mixture of the picture's channels or of their negatives.
    """

    def drawn(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(batch.device)

    shape = (len(batch), 3, 1, 1)
    shares = chance.dirichlet([0.4] * 3, (len(batch), 3)) * chance.choice([1, 1, 1, -1], shape[:3])
    mixed = torch.einsum("nij,njhw->nihw", drawn(shares), batch)
    gain, shift = drawn(chance.uniform(0.6, 1.4, shape)), drawn(chance.uniform(-0.4, 0.4, shape))
    return (mixed * gain + shift).clamp(-1, 1)


def train_autoencoder(
    autoencoder: AutoencoderTiny, pool: torch.Tensor, plan: Plan, chance: np.random.Generator, clock: Clock
) -> None:
    side = plan.autoencoder_side
    learning = optimizers([*autoencoder.parameters()], "muon", plan.autoencoder_rate, WEIGHT_DECAY)
    for step in optimized(learning, plan.autoencoder_steps):
        pick = torch.from_numpy(chance.integers(len(pool), size=plan.autoencoder_batch))
        top, left = chance.integers(SIZE - side + 1, size=2)
        batch = recolored(pool[pick, :, top : top + side, left : left + side], chance)
        latents = autoencoder.encode(batch).latents
        # The denoiser never hits a latent exactly, so latents with a small error must look the same.
        blurred = latents + 0.1 * latents.detach().std() * torch.randn(latents.shape).to(latents.device)
        made = autoencoder.decode(blurred).sample
        error = F.l1_loss(made, batch) + 0.5 * F.mse_loss(made, batch)
        edges = sum(F.l1_loss(made.diff(dim=d), batch.diff(dim=d)) for d in (2, 3))
        (error + edges).backward()
        if step % 250 == 249:
            clock.say(f"autoencoder {step + 1}: mse={F.mse_loss(made, batch).item():.5f}")


def train_denoiser(
    unet: UNet2DConditionModel,
    text: CLIPTextModel,
    noise: DDIMScheduler,
    latents: torch.Tensor,
    tokens: torch.Tensor,
    nothing: torch.Tensor,
    plan: Plan,
    clock: Clock,
) -> None:
    """Train the denoiser and the text encoder.

    :param tokens: tokens of the captions of `latents`
    :param nothing: tokens of an empty text, which replaces a tenth of the captions
    """
    total = 0.0
    learning = optimizers([*unet.parameters()], "muon", plan.rate, WEIGHT_DECAY)
    learning += optimizers([*text.parameters()], "adamw", plan.text_rate, WEIGHT_DECAY)
    for step in optimized(learning, plan.steps):
        pick = torch.randint(len(latents), (plan.batch,))
        silent = torch.rand(plan.batch, 1) < 0.1
        at = torch.randint(noise.config.num_train_timesteps, (plan.batch,)).to(latents.device)
        clean = latents[pick]
        added = torch.randn(clean.shape).to(latents.device)
        words = text(torch.where(silent.to(tokens.device), nothing, tokens[pick])).last_hidden_state
        guess = unet(noise.add_noise(clean, added, at), at, words).sample
        loss = F.mse_loss(guess, noise.get_velocity(clean, added, at))
        loss.backward()
        total += loss.item()
        if step % 100 == 99:
            clock.say(f"denoiser {step + 1}: loss={total / 100:.4f}")
            total = 0.0


def pretrain(folder: Path, output: Path, seed: int, plan: Plan, device: str = "cpu") -> None:
    """Train a pipeline on the pictures in `folder` and write it to `output`."""
    clock = Clock()
    torch.manual_seed(seed)
    chance = np.random.default_rng(seed)
    pictures = read(folder)
    told = [caption(what, style) for what in sorted(pictures) for style in STYLES]
    words = tokenizer(told, output / "tokenizer")
    autoencoder, text, unet, noise = parts(plan, words)
    for part in (autoencoder, text, unet):
        part.to(device)
        clock.say(f"{type(part).__name__}: {sum(p.numel() for p in part.parameters()):,} parameters")
    pool, told = crops(pictures, 3072, chance)
    pool = pool.to(device)
    clock.say(f"{len(pool)} crops of {sum(map(len, pictures.values()))} pictures")

    train_autoencoder(autoencoder, pool, plan, chance, clock)
    autoencoder.eval().requires_grad_(False)
    with torch.no_grad():
        latents = torch.cat([autoencoder.encode(some).latents for some in pool.split(64)])
    autoencoder.register_to_config(scaling_factor=1 / latents.std().item())
    tokens = words(told, padding="max_length", truncation=True, return_tensors="pt").input_ids.to(device)
    nothing = words([""], padding="max_length", return_tensors="pt").input_ids.to(device)
    latents = latents * autoencoder.config.scaling_factor
    train_denoiser(unet, text, noise, latents, tokens, nothing, plan, clock)

    StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text.eval(),
        tokenizer=words,
        unet=unet.eval(),
        scheduler=noise,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(output)
    clock.say("done")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="personalization_finetune.pretrain", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--pictures", type=Path, required=True, metavar="FOLDER", help="with captions.json")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for the pipeline")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    log_to_stdout("personalization_finetune")
    torch.set_num_threads(THREADS)
    pretrain(options.pictures, options.output, options.seed, Plan())
    return 0


if __name__ == "__main__":
    sys.exit(main())
