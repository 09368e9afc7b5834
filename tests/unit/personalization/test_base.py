"""The identity of a base model depends on its weights only."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from personalization_serve.base import Base
from toolkit.identity import files_identity, identity

UNET = {"conv.weight": ("F32", [2, 2], b"0123456789abcdef"), "conv.bias": ("F16", [2], b"wxyz")}


def safetensors(path: Path, tensors: dict[str, tuple[str, list[int], bytes]], **metadata: str) -> None:
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    data = b""
    for name, (kind, shape, content) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    index |= {
        "vae": ["diffusers", "AutoencoderKL"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"feature_extractor": [None, None]}))
    safetensors(tmp_path / "unet" / "diffusion_pytorch_model.safetensors", UNET)
    safetensors(tmp_path / "vae" / "diffusion_pytorch_model.safetensors", {"w": ("F32", [1], b"....")})
    return tmp_path


def test_identity_does_not_depend_on_files_without_weights(base: Path):
    # given the identity of a base
    known = identity(base)
    assert known.startswith("weights:")
    # when other files of the repository change, and the weights are saved again
    (base / "README.md").write_text("better words")
    index = json.loads((base / "model_index.json").read_text())
    (base / "model_index.json").write_text(json.dumps(index | {"_diffusers_version": "9"}))
    safetensors(base / "safety_checker" / "model.safetensors", {"w": ("F32", [1], b"....")})
    safetensors(base / "unet" / "diffusion_pytorch_model.fp16.safetensors", {"w": ("F16", [1], b"..")})
    (base / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    for number, name in enumerate(reversed(UNET), start=1):
        shard = base / "unet" / f"diffusion_pytorch_model-{number:05}-of-00002.safetensors"
        safetensors(shard, {name: UNET[name]}, format="pt")
    # then the identity is the same
    assert identity(base) == known


@pytest.mark.parametrize(
    "tensors",
    [
        UNET | {"conv.bias": ("F16", [2], b"wxyy")},
        UNET | {"conv.bias": ("BF16", [2], b"wxyz")},
        UNET | {"conv.weight": ("F32", [4], b"0123456789abcdef")},
        {"conv.weight": UNET["conv.weight"]},
        {"conv.weight": UNET["conv.weight"], "conv.bia": UNET["conv.bias"]},
    ],
    ids=["byte", "type", "shape", "fewer", "name"],
)
def test_identity_changes_with_the_weights(base: Path, tensors: dict):
    known = identity(base)
    safetensors(base / "unet" / "diffusion_pytorch_model.safetensors", tensors)
    assert identity(base) != known


def test_identity_changes_with_the_component_of_the_weights(base: Path):
    known = identity(base)
    (base / "vae").rename(base / "other")
    (base / "unet").rename(base / "vae")
    (base / "other").rename(base / "unet")
    assert identity(base) != known


def test_base_without_readable_weights_has_no_identity(base: Path):
    weights = base / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ValueError, match="truncated"):
        identity(base)
    weights.write_bytes(b"\x80\x04pickle" * 9)
    with pytest.raises(ValueError, match="not a safetensors file"):
        identity(base)
    weights.unlink()
    (base / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match="no weights in safetensors files"):
        identity(base)


def test_adapters_of_earlier_versions_belong_to_the_same_base(base: Path):
    own, fetched = Base(base, identity(base)), Base(base, identity(base), "owner/name@0123abc")
    assert own.knows(identity(base))
    assert own.knows(files_identity(base))
    assert not own.knows("0" * 16)
    assert fetched.knows("owner/name@0123abc")
    assert not fetched.knows("owner/name@9999999")
