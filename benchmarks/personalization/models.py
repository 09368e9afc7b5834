"""Make the models for `benchmarks.personalization.serving`, in the serving image's environment.

    python models.py FOLDER USERS [BASE]

Writes to FOLDER the base, `base/` (a copy of BASE, or else a pipeline of random weights), and for each user
`adapters/N/`, an adapter of the U-Net's attention layers with rank 8 in diffusers' format. Random models
generate noise, which is sufficient to measure sizes and times.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

RANK = 8


def random_pipeline(folder: Path) -> None:
    """Write a pipeline with Stable Diffusion's architecture for 64 x 64 pixels, with about 17 million
    weights."""
    torch.manual_seed(0)
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
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        bos_token_id=end - 1,
        eos_token_id=end,
        pad_token_id=end,
    )
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(64, 128, 256),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    vae = AutoencoderKL(
        latent_channels=4,
        block_out_channels=(32, 64, 64),
        norm_num_groups=16,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        sample_size=64,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,  # pyright: ignore[reportArgumentType] - diffusers accepts None
        requires_safety_checker=False,
    ).save_pretrained(folder)


def adapter(unet: UNet2DConditionModel, folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    weights = {}
    for name, module in unet.named_modules():
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
            rows, columns = module.weight.shape
            weights[f"{name}.lora_A.weight"] = torch.randn(RANK, columns) / columns**0.5
            weights[f"{name}.lora_B.weight"] = torch.randn(rows, RANK) * 0.02
    StableDiffusionPipeline.save_lora_weights(
        folder, unet_lora_layers=weights, weight_name="adapter_model.safetensors"
    )


def main(folder: Path, users: int, base: str = "") -> None:
    if base:
        shutil.copytree(base, folder / "base")
    else:
        random_pipeline(folder / "base")
    unet = UNet2DConditionModel.from_pretrained(folder / "base", subfolder="unet")
    for user in range(users):
        adapter(unet, folder / "adapters" / str(user), user)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
