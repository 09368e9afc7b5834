"""Models that the endpoint refuses: incompatible, corrupt or unusable files."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from local.images.store import Image as BuiltImage
from tests.support.personalization.serving import BUDGET, Container, write_manifest
from toolkit.identity import files_identity, identity


def refusal(container: Container, folder: Path | str) -> str:
    status, answer = container.call("POST", "/models", {"model_name": "spoilt", "url": str(folder)})
    assert status == 400
    assert container.invoke("spoilt")[0] == 404
    assert container.ping() == 200
    return answer["error"]


def test_adapter_of_another_base_is_refused_by_name(container: Container, made: Path, archive: Path):
    for foreign in ("0123456789abcdef", "weights:" + "0" * 32, "owner/name@0123"):
        write_manifest(archive, base=foreign)
        error = refusal(container, archive)
        assert foreign in error
        assert identity(made / "base") in error
    for base in (None, 7, ["x"], 10**4000, "", json.loads("[" * 900 + "]" * 900)):
        write_manifest(archive, base=base)
        assert "base" in refusal(container, archive)


def test_adapter_made_by_an_earlier_version_is_served(container: Container, made: Path, archive: Path):
    write_manifest(archive, base=files_identity(made / "base"))
    assert container.load("earlier", archive)[0] == 200


def test_adapter_of_another_shape_is_refused(container: Container, made: Path):
    assert "in the base" in refusal(container, made / "adapters" / "wider")


def safetensors(shapes: dict[str, tuple[str, list[int]]], metadata: dict[str, str] | None = None) -> bytes:
    """Return a safetensors file whose values are all 0."""
    sizes = {"F32": 4, "F16": 2, "I64": 8, "F64": 8}
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, (kind, shape) in shapes.items():
        size = int(np.prod(shape)) * sizes[kind]
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


QUERY = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.lora_{}.weight"
A, B = QUERY.format("A"), QUERY.format("B")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a safetensors file"),
        (b"\x80\x04\x95" + bytes(100), "be a safetensors file"),
        (struct.pack("<Q", 2**62), "be a safetensors file"),
        (safetensors({A: ("F32", [4, 64]), B: ("F32", [64, 4])})[:-1], "incomplete"),
        (safetensors({}), "empty"),
        (safetensors({"lm_head.weight": ("F32", [4, 4])}), "lm_head.weight"),
        (safetensors({A: ("F32", [4, 64])}), "must have lora_A and lora_B"),
        (safetensors({A: ("F64", [4, 64]), B: ("F64", [64, 4])}), "F64"),
        (safetensors({A: ("F32", [4, 64]), B: ("F32", [64, 8])}), "must have matching shapes"),
        (safetensors({A: ("F32", [300, 64]), B: ("F32", [64, 300])}), "must be from 1 to 256, got 300"),
        (safetensors({A: ("F32", [4, 32]), B: ("F32", [64, 4])}), "in the base"),
        (
            safetensors(
                {A.replace("mid_", "no_"): ("F32", [4, 64]), B.replace("mid_", "no_"): ("F32", [64, 4])}
            ),
            "no_",
        ),
        (
            safetensors(
                {A: ("F32", [4, 64]), B: ("F32", [64, 4])},
                {"lora_adapter_metadata": '{"unet.use_dora": true}'},
            ),
            "use_dora",
        ),
        (
            safetensors({A: ("F32", [4, 64]), B: ("F32", [64, 4])}, {"lora_adapter_metadata": "[" * 99999}),
            "could not read the metadata",
        ),
        (safetensors({A: ("F32", [4, 64]), B: ("F32", [64, 4])}) + bytes(BUDGET), "must have at most"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_corrupt_or_foreign_file_is_refused(container: Container, archive: Path, content: bytes, reason: str):
    (archive / "adapter_model.safetensors").write_bytes(content)
    assert reason in refusal(container, archive)


def test_archive_with_another_file_or_invalid_metadata_is_refused(container: Container, archive: Path):
    for name in ("pytorch_model.bin", "model.py", "deep/adapter.json"):
        path = archive / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
        assert path.name in refusal(container, archive)
        path.unlink()
    manifest = (archive / "adapter.json").read_text()
    for content in ("", "[]", "{}", "[" * 60_000, "{" + " " * 10**5 + "}"):
        (archive / "adapter.json").write_text(content)
        assert "adapter.json" in refusal(container, archive)
    (archive / "adapter.json").write_text(manifest)
    assert container.load("whole-again", archive)[0] == 200


def test_file_outside_the_archive_is_not_read(container: Container, made: Path, archive: Path):
    weights = archive / "adapter_model.safetensors"
    weights.unlink()
    weights.symlink_to(made / "adapters" / "alice" / weights.name)
    assert "must have only files and folders" in refusal(container, archive)
    assert "url" in refusal(container, archive / ".." / "archive")
    assert "url" in refusal(container, "relative")
    assert "url" in refusal(container, "/nowhere")


def test_full_pipeline_with_a_pickle_is_refused(container: Container, made: Path, tmp_path: Path):
    archive = tmp_path / "full"
    shutil.copytree(made / "full", archive / "pipeline")
    write_manifest(archive, full=True)
    (archive / "pipeline" / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert "safetensors files only" in refusal(container, archive)


NUMBERS = {"F32": np.float32, "F16": np.float16}


def spoilt(source: Path, target: Path, change: Callable[[dict[str, Any], bytearray], None]) -> None:
    """Copy a safetensors file with a changed header or changed data."""
    content = source.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), bytearray(content[8 + size :])
    change(header, data)
    text = json.dumps(header).encode()
    target.write_bytes(struct.pack("<Q", len(text)) + text + data)


def half(content: float, kind: str) -> Callable[[dict[str, Any], bytearray], None]:
    """Return a change that converts all tensors to a type and sets the last value of the first tensor."""

    def change(header: dict[str, Any], data: bytearray) -> None:
        numbers = np.frombuffer(bytes(data), np.float32).copy()
        last = (
            next(value for key, value in header.items() if key != "__metadata__")["data_offsets"][1] // 4 - 1
        )
        if kind == "BF16":
            numbers[last] = content
            data[:] = (numbers.view(np.uint32) >> 16).astype(np.uint16).tobytes()
        else:
            numbers = numbers.astype(NUMBERS[kind])
            numbers[last] = content
            data[:] = numbers.tobytes()
        for key, about in header.items():
            if key != "__metadata__":
                about["dtype"] = kind
                about["data_offsets"] = [
                    each * len(data) // (numbers.size * 4) for each in about["data_offsets"]
                ]

    return change


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -2e4])
def test_weight_too_large_for_half_precision_is_refused_by_name(
    container: Container, made: Path, archive: Path, value: float, kind: str
):
    weights = archive / "adapter_model.safetensors"
    spoilt(made / "adapters" / "alice" / weights.name, weights, half(1.0, kind))
    assert container.load("whole", archive)[0] == 200
    with np.errstate(over="ignore"):
        spoilt(made / "adapters" / "alice" / weights.name, weights, half(value, kind))
    error = refusal(container, archive)
    assert "lora_" in error
    assert "must be from -10000 to 10000" in error


def test_weights_whose_product_overflows_are_refused_by_name(container: Container, made: Path, archive: Path):
    def change(header: dict[str, Any], data: bytearray) -> None:
        data[:] = (np.frombuffer(bytes(data), np.float32) * 0 + 1000).tobytes()

    spoilt(
        made / "adapters" / "alice" / "adapter_model.safetensors",
        archive / "adapter_model.safetensors",
        change,
    )
    error = refusal(container, archive)
    assert "unet." in error
    assert "must be at most 10000" in error


DRAW = """
import sys
from pathlib import Path
from personalization_serve.pipeline import Picture, Resident
resident = Resident(Path(sys.argv[1]))
cat = [Picture(None, "cat", 0, 2, 5.0)]
made = resident.make(cat)
resident.pipeline.unet.conv_out.bias.data[0] = float("inf")
print(*(type(each).__name__ for each in made + resident.make(cat)))
"""


def test_picture_with_nan_is_an_error_and_not_black(built: BuiltImage, made: Path):
    (python, *_), own, directory = built.launch([])
    run = subprocess.run(
        [python, "-c", DRAW, str(made / "base")], env=own, cwd=directory, capture_output=True, text=True
    )
    assert run.stdout.split() == ["bytes", "UnusableModelError"], run.stderr[-1000:]


@pytest.mark.parametrize(
    "alpha", [10**400, -(10**400), "8", True, [8], {}, 1e5, float("nan"), float("inf")], ids=range(9)
)
def test_adapter_with_an_unusable_alpha_is_refused_by_name(
    container: Container, archive: Path, made: Path, alpha: Any
):
    def change(header: dict[str, Any], data: bytearray) -> None:
        about = json.loads(header["__metadata__"]["lora_adapter_metadata"])
        header["__metadata__"]["lora_adapter_metadata"] = json.dumps(about | {"unet.lora_alpha": alpha})

    spoilt(
        made / "adapters" / "alice" / "adapter_model.safetensors",
        archive / "adapter_model.safetensors",
        change,
    )
    assert "unet.lora_alpha" in refusal(container, archive)


def test_same_weight_under_two_names_is_refused(container: Container, made: Path, archive: Path):
    def change(header: dict[str, Any], data: bytearray) -> None:
        key = next(key for key in header if key.startswith("text_encoder.") and "lora_A" in key)
        twin = key.replace("text_encoder.", "text_encoder.text_model.")
        assert twin not in header
        about = dict(header[key])
        size = about["data_offsets"][1] - about["data_offsets"][0]
        header[twin] = about | {"data_offsets": [len(data), len(data) + size]}
        data.extend(bytes(size))

    spoilt(
        made / "adapters" / "bob" / "adapter_model.safetensors", archive / "adapter_model.safetensors", change
    )
    assert "which are the same weight" in refusal(container, archive)


def test_random_corrupt_archives_do_not_crash_the_endpoint(container: Container, made: Path, archive: Path):
    """Load hundreds of corrupt archives, each made from a valid one by a few changes."""
    dice = random.Random(7)
    whole = {path.name: path.read_bytes() for path in (made / "adapters" / "alice").iterdir()}
    values = [
        None,
        True,
        -1,
        0,
        1.5,
        10**400,
        "",
        "\ud800",
        "x" * 5000,
        [],
        {},
        [[]],
        float("nan"),
        2**63,
        2**64,
    ]

    def bytes_changed(content: bytes) -> bytes:
        raw = bytearray(content)
        for _ in range(dice.randint(1, 8)):
            place = dice.randrange(min(len(raw), dice.choice([16, 4096, len(raw)])))
            match dice.randrange(3):
                case 0:
                    raw[place] = dice.randrange(256)
                case 1:
                    del raw[place : place + dice.choice([1, 8, 1000])]
                case _:
                    raw[place:place] = dice.randbytes(dice.choice([1, 8, 1000]))
            if not raw:
                break
        return bytes(raw)

    def json_changed(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("{"):
            return json.dumps(json_changed(json.loads(value)))
        if isinstance(value, dict) and value and dice.random() < 0.9:
            key = dice.choice(list(value))
            match dice.randrange(4):
                case 0:
                    return {**value, dice.choice([key + "x", "", "unet.r", "x" * 300]): value[key]}
                case 1:
                    return {each: content for each, content in value.items() if each != key}
                case _:
                    return {**value, key: json_changed(value[key])}
        if isinstance(value, list) and value and dice.random() < 0.9:
            place = dice.randrange(len(value))
            return [*value[:place], json_changed(value[place]), *value[place + 1 :]]
        return dice.choice(values)

    statuses = []
    for number in range(400):
        files = dict(whole)
        name = dice.choice(list(files))
        if dice.random() < 0.4:
            files[name] = bytes_changed(files[name])
        elif name == "adapter.json":
            files[name] = json.dumps(json_changed(json.loads(files[name]))).encode()
        else:
            size = int.from_bytes(files[name][:8], "little")
            text = json.dumps(json_changed(json.loads(files[name][8 : 8 + size]))).encode()
            files[name] = struct.pack("<Q", len(text)) + text + files[name][8 + size :]
        for file, content in files.items():
            (archive / file).write_bytes(content)
        status, answer = container.load("spoilt", archive)
        assert status in (200, 400), (number, name, status, answer)
        statuses.append(status)
        if status == 200:  # a loaded model draws the picture (200) or refuses the request (400)
            assert container.invoke("spoilt", steps=1)[0] in (200, 400)
            assert container.unload("spoilt") == 200
    assert statuses.count(400) > 200
    assert container.ping() == 200
