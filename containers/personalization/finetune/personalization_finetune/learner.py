"""Training of a user's model: its networks, training steps, checkpoints, and generation of pictures."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, StableDiffusionPipeline
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image

from .base import Base
from .failure import TaskError
from .optimizing import optimizers
from .settings import Settings

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut", "conv", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj")
TARGETS = {"attention": ATTENTION, "attention+convolutions": ATTENTION + CONVOLUTIONS}

WEIGHTS = "adapter_model.safetensors"


class Learner:
    """A copy of the base's UNet (and text encoder), with the trained parameters.

    All random numbers come from the generator `random`, on the CPU. So a seed gives the same model on any
    device up to rounding, and a training that continues from a checkpoint gives the same model too.
    """

    def __init__(self, base: Base, settings: Settings, seed: int):
        self.base, self.settings = base, settings
        self.random = torch.Generator().manual_seed(seed)
        self.noise = DDPMScheduler.from_config(base.pipeline.scheduler.config)
        full = settings.method == "full"
        # Frozen weights may have 16 bits. Trained weights need 32 bits, or small updates are lost.
        dtype = torch.float32 if full else base.dtype
        self.unet = copy.deepcopy(base.pipeline.unet).to(base.device, dtype)
        self.text = base.pipeline.text_encoder.to(base.device)
        if settings.train_text_encoder:
            self.text = copy.deepcopy(self.text).to(dtype)
        self.vae = base.pipeline.vae.to(base.device)
        self.configs: dict[str, LoraConfig] = {}

    def begin(self) -> None:
        """Add the trained parameters and their optimizers. Before this call, the networks are equal to the
        base's."""
        settings = self.settings
        networks = {"unet": (self.unet, TARGETS[settings.targets])}
        if settings.train_text_encoder:
            networks["text_encoder"] = (self.text, TEXT)
        for name, (network, targets) in networks.items():
            if settings.method == "full":
                network.requires_grad_(True)
                continue
            ranks = block_ranks(network.config.block_out_channels, settings) if name == "unet" else {}
            scale = settings.alpha / settings.rank
            config = LoraConfig(
                r=settings.rank,
                lora_alpha=settings.alpha,
                target_modules=list(targets),
                rank_pattern=ranks,
                alpha_pattern={block: rank * scale for block, rank in ranks.items()},
            )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**62, (), generator=self.random)))
                network.add_adapter(config)
            cast_training_params(network, torch.float32)
            self.configs[name] = config
        self.optimizers = optimizers([*self.trained.values()], settings.optimizer, settings.learning_rate)
        self.scaler = torch.amp.GradScaler(enabled=self.base.dtype == torch.float16)

    @property
    def trained(self) -> dict[str, torch.nn.Parameter]:
        networks = {"unet": self.unet} | ({"text": self.text} if self.settings.train_text_encoder else {})
        return {
            f"{name}.{key}": parameter
            for name, network in networks.items()
            for key, parameter in network.named_parameters()
            if parameter.requires_grad
        }

    def autocast(self) -> torch.autocast:
        dtype = self.base.dtype
        return torch.autocast(self.base.device.type, dtype, enabled=dtype != torch.float32)

    # --- encoding ---

    @torch.no_grad()
    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Return the latents of pictures (n, 3, side, side) in [-1, 1], on the CPU."""
        made = []
        for some in pictures.split(8):
            encoded = self.vae.encode(some.to(self.base.device, self.vae.dtype))
            latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
            made.append((latents * self.vae.config.scaling_factor).float().cpu())
        return torch.cat(made)

    def embed(self, prompt: str) -> torch.Tensor:
        """Return the embedding of a prompt, (1, tokens, width)."""
        words = self.base.pipeline.tokenizer(
            [prompt],
            padding="max_length",
            truncation=True,
            max_length=self.base.pipeline.tokenizer.model_max_length,
            return_tensors="pt",
        )
        return self.text(words.input_ids.to(self.base.device))[0]

    # --- training ---

    def errors(
        self, clean: torch.Tensor, noise: torch.Tensor, at: torch.Tensor, words: torch.Tensor
    ) -> torch.Tensor:
        """Return the denoiser's mean squared error for each of n latents, (n,)."""
        device = self.base.device
        clean, noise, at = clean.to(device), noise.to(device), at.to(device)
        with self.autocast():
            guess = self.unet(self.noise.add_noise(clean, noise, at), at, words.to(device)).sample
        velocity = self.noise.config.prediction_type == "v_prediction"
        wanted = self.noise.get_velocity(clean, noise, at) if velocity else noise
        return F.mse_loss(guess.float(), wanted.float(), reduction="none").mean(dim=(1, 2, 3))

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step: linear warm-up, cosine decay to a tenth of the maximum."""
        warm = min(1.0, (step + 1) / max(1.0, self.settings.warmup * steps))
        return self.settings.learning_rate * warm * (0.55 + 0.45 * math.cos(math.pi * step / steps))

    def learn(
        self,
        step: int,
        steps: int,
        subject: torch.Tensor,
        prior: torch.Tensor | None,
        words: Callable[[int, int], torch.Tensor],
    ) -> float:
        """Run one training step and return the loss of the subject's batch.

        Raises `TaskError` if the loss is not finite.

        :param subject: latents of the subject, from which a batch is drawn
        :param prior: latents of the subject's class, from which a second batch is drawn; None: no prior loss
        :param words: returns embedded prompts for the given numbers of subject latents and of class latents
        """
        settings = self.settings

        def drawn(latents: torch.Tensor, count: int) -> torch.Tensor:
            return latents[torch.randint(len(latents), (count,), generator=self.random)]

        clean = drawn(subject, settings.batch_size)
        if prior is not None:
            clean = torch.cat([clean, drawn(prior, settings.prior_batch)])
        noise = torch.randn(clean.shape, generator=self.random)
        at = torch.randint(self.noise.config.num_train_timesteps, (len(clean),), generator=self.random)
        own = settings.batch_size
        with self.autocast():
            text = words(own, len(clean) - own)
        errors = self.errors(clean, noise, at, text)
        loss = errors[:own].mean()
        whole = loss + settings.prior_weight * errors[own:].mean() if prior is not None else loss
        value = loss.item()
        if not math.isfinite(value):
            raise TaskError(
                "Training failed because its numbers became too large. Start it again; if it fails again, "
                "use pictures that show the subject more clearly."
            )
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group in groups:
            group["lr"] = self.rate(step, steps)
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(whole).backward()
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_([each for group in groups for each in group["params"]], 1.0)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        return value

    # --- generation of pictures ---

    def generate(
        self,
        prompt: str,
        seed: int,
        count: int = 1,
        latent: bool = False,
        check: Callable[[], None] | None = None,
    ) -> Any:
        """Return `count` pictures made with the current weights.

        :param latent: whether to return latents, on the CPU, instead of pictures
        :param check: called after each denoising step
        """
        pipeline = StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.text,
            tokenizer=self.base.pipeline.tokenizer,
            unet=self.unet,
            scheduler=copy.deepcopy(self.base.pipeline.scheduler),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)

        def between(_: Any, __: int, ___: int, values: dict[str, Any]) -> dict[str, Any]:
            if check:
                check()
            return values

        side = self.settings.resolution or self.base.resolution
        with torch.no_grad(), self.autocast():
            made = pipeline(
                prompt,
                height=side,
                width=side,
                num_inference_steps=self.settings.preview_steps,
                guidance_scale=self.settings.guidance,
                num_images_per_prompt=count,
                generator=torch.Generator().manual_seed(seed),
                output_type="latent" if latent else "pil",
                callback_on_step_end=between,
            ).images
        return made.float().cpu() if latent else list(made)

    # --- checkpoints and results ---

    def state(self) -> dict[str, Any]:
        return {
            "trained": {name: parameter.detach().cpu() for name, parameter in self.trained.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
            "random": self.random.get_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(state["trained"][name])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.scaler.load_state_dict(state["scaler"])
        self.random.set_state(state["random"])

    def save(self, folder: Path) -> None:
        """Write the adapter in the format of diffusers' `load_lora_weights`; with method `full`, write the
        whole pipeline."""
        if self.settings.method == "full":
            unet = copy.deepcopy(self.unet).to(self.base.dtype)
            text = self.text.to(self.base.dtype)
            components = self.base.pipeline.components | {"unet": unet, "text_encoder": text}
            StableDiffusionPipeline(**components, requires_safety_checker=False).save_pretrained(
                folder / "pipeline"
            )
            return
        layers: dict[str, Any] = {}
        for name, config in self.configs.items():
            network = self.unet if name == "unet" else self.text
            layers[f"{name}_lora_layers"] = {
                key: value.detach().to(self.base.dtype).cpu().contiguous()
                for key, value in _one_alpha(get_peft_model_state_dict(network), config).items()
            }
            # Sets are sorted, so that equal adapters give equal files.
            layers[f"{name}_lora_adapter_metadata"] = {
                key: sorted(value) if isinstance(value, set) else value
                for key, value in (config.to_dict() | {"alpha_pattern": {}}).items()
            }
        StableDiffusionPipeline.save_lora_weights(folder, weight_name=WEIGHTS, **layers)


def block_ranks(widths: Sequence[int], settings: Settings) -> dict[str, int]:
    """Return the ranks of a UNet's blocks, by peft's patterns for their names; empty if all have rank `rank`.

    With `rank_falloff`, narrow blocks get a higher rank than wide ones. Narrow blocks process more pixels and
    have fewer weights, so an adapter of the same size learns more (figures in benchmarks/README.md).

    :param widths: number of channels of each block, from the outermost block to the innermost
    """
    if not settings.rank_falloff:
        return {}
    blocks = {f"down_blocks.{number}": width for number, width in enumerate(widths)}
    blocks |= {f"up_blocks.{number}": width for number, width in enumerate(reversed(widths))}
    blocks["mid_block"] = widths[-1]
    share = {block: (min(widths) / width) ** settings.rank_falloff for block, width in blocks.items()}
    return {rf"{re.escape(block)}\..*": max(1, round(settings.rank * part)) for block, part in share.items()}


def _one_alpha(weights: dict[str, torch.Tensor], config: LoraConfig) -> dict[str, torch.Tensor]:
    """Rescale the weights so that each layer's scale is `lora_alpha` divided by the layer's rank.

    In training, all layers have the same scale, `lora_alpha` / `r`. After rescaling, the layers can be merged
    without peft's `alpha_pattern`.
    """
    return {
        key: value * (value.shape[1] / config.r) if ".lora_B." in key else value
        for key, value in weights.items()
    }


def key_of(*parts: Any) -> str:
    """Return a hash of the values that must be equal to reuse earlier work."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=asdict).encode()).hexdigest()[:16]


def prior_latents(learner: Learner, subject: str, scratch: Path) -> torch.Tensor | None:
    """Return latents of the subject's class made by the base; None if the settings disable the prior loss.

    They are generated once for each base, class and generation settings, and stored in `scratch`.
    """
    settings = learner.settings
    if not (settings.prior_weight and settings.prior_images and settings.prior_batch):
        return None
    side = settings.resolution or learner.base.resolution
    named = key_of(
        learner.base.id, subject, settings.prior_images, side, settings.preview_steps, settings.guidance
    )
    path = scratch / f"prior-{named}.pt"
    if path.exists():
        return torch.load(path, weights_only=True)
    # the seed does not depend on the task, because later tasks use the same pictures
    seed, made = int(named[:8], 16), []
    for start in range(0, settings.prior_images, 8):
        count = min(8, settings.prior_images - start)
        made.append(learner.generate(f"a photo of a {subject}", seed + start, count, latent=True))
    latents = torch.cat(made)
    scratch.mkdir(parents=True, exist_ok=True)
    torch.save(latents, path)
    return latents


def saved(pictures: Sequence[Image.Image], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        picture.save(folder / f"{number}.png")
