"""Make small pipelines and adapters for the serving tests, and the pictures that diffusers draws with them.

    python pipelines.py FOLDER     # in an environment with diffusers and peft

Makes in FOLDER: base/, full/ and wider/, text-to-image pipelines of random weights; adapters/NAME/; and
expected/NAME-SEED.png, drawn by diffusers with its own loader of adapters. The weights are random, because
the tests only check that the right weights are used.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

PROMPT, STEPS, GUIDANCE = "a photo of sks cat", 3, 5.0
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


def pipeline(folder: Path, seed: int, width: int = 32) -> StableDiffusionPipeline:
    """Return a Stable Diffusion pipeline of about a million weights that draws 64 x 64 pixels."""
    torch.manual_seed(seed)
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({word: number for number, word in enumerate(words)}))
    merges.write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(vocabulary), str(merges), model_max_length=32)
    vocabulary.unlink()
    merges.unlink()
    end = len(words) - 1
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        bos_token_id=end - 1,
        eos_token_id=end,
        pad_token_id=end,
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(width, 2 * width),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        latent_channels=4,
        block_out_channels=(16, 16, 32),
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        sample_size=64,
    )
    scheduler = DDIMScheduler(clip_sample=False, steps_offset=1)
    made = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,  # pyright: ignore[reportArgumentType] - diffusers takes none
        requires_safety_checker=False,
    )
    made.save_pretrained(folder)
    return made


def adapter(
    base: Path, folder: Path, seed: int, rank: int, alpha: float, targets: list[str], **more: Any
) -> None:
    """Save an adapter of random weights as diffusers does. `text`: target modules in the text encoder;
    `ranks`: ranks that differ from `rank`, by pattern of module names, as in peft's `rank_pattern`."""
    made = StableDiffusionPipeline.from_pretrained(base)
    torch.manual_seed(seed)
    ranks = more.get("ranks", {})
    made.unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, rank_pattern=ranks))
    parts = {"unet": made.unet}
    if text := more.get("text"):
        made.text_encoder.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=text))
        parts["text_encoder"] = made.text_encoder
    for part in parts.values():
        for name, weight in part.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.1)
    layers = {f"{name}_lora_layers": get_peft_model_state_dict(part) for name, part in parts.items()}
    made.save_lora_weights(
        folder, **layers, weight_name="adapter_model.safetensors", **_collate_lora_metadata(parts)
    )


def draw(base: Path, weights: Path | None, seed: int, path: Path) -> None:
    made = StableDiffusionPipeline.from_pretrained(base)
    if weights:
        made.load_lora_weights(weights, weight_name="adapter_model.safetensors")
    noise = torch.Generator().manual_seed(seed)
    image = made(PROMPT, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=noise).images[0]
    path.parent.mkdir(exist_ok=True)
    image.save(path)


def main(folder: Path) -> None:
    base, full, adapters = folder / "base", folder / "full", folder / "adapters"
    pipeline(base, 0)
    pipeline(full, 1)
    pipeline(folder / "wider", 2, width=64)
    adapter(base, adapters / "alice", 1, 4, 8, ATTENTION, ranks={r"up_blocks\.1.*": 2})
    adapter(base, adapters / "bob", 2, 8, 4, [*ATTENTION, "conv1"], text=["q_proj", "v_proj"])
    adapter(base, adapters / "large", 3, 256, 256, [*ATTENTION, "conv1", "conv2"])
    adapter(folder / "wider", adapters / "wider", 4, 4, 4, ATTENTION)
    for name in ("alice", "bob"):
        for seed in (7, 8):
            draw(base, adapters / name, seed, folder / "expected" / f"{name}-{seed}.png")
    draw(full, None, 7, folder / "expected" / "full-7.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
