"""The id of a base model: a hash of its weights.

An adapter stores the id of its base model. Training and serving must compute the same id.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

APART = "safety_checker"
"""Component that only classifies pictures. It is left out of the id, because adapters do not depend on it."""

_FILE = re.compile(r"[^.]+\.safetensors")
"""Pattern of the weights files that diffusers loads by default. `name.fp16.safetensors`, a variant, does not
match."""


def identity(folder: Path) -> str:
    """Return the id of the pipeline in a folder in diffusers' format: `weights:` and 32 hexadecimal digits.

    The digits are from a SHA-256 over the name, type, shape and bytes of each tensor of the components in
    `model_index.json`. They do not depend on READMEs, settings or the number of weights files. Raises
    ValueError if there are no weights or a file is not safetensors, OSError if a file cannot be read.
    """
    index = json.loads((folder / "model_index.json").read_bytes())
    if not isinstance(index, dict):
        raise ValueError("model_index.json must be a JSON object")
    tensors = [
        (name, *tensor)
        for name in sorted(name for name, value in index.items() if isinstance(value, list) and name != APART)
        for tensor in sorted(tensor for path in _files(folder / name) for tensor in _tensors(path))
    ]
    if not tensors:
        raise ValueError("the components have no weights in safetensors files")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = list(pool.map(lambda tensor: _digest(*tensor[-3:]), tensors))
    lines = [[*tensor[:4], digest] for tensor, digest in zip(tensors, digests, strict=True)]
    return f"weights:{hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:32]}"


def files_identity(folder: Path) -> str:
    """Return the base model's id in the format that earlier versions of this project stored in adapters.

    It has 16 hexadecimal digits, from a SHA-256 over the names, sizes and bytes of all files in the folder.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def _files(component: Path) -> list[Path]:
    return sorted(path for path in component.glob("*.safetensors") if _FILE.fullmatch(path.name))


def _tensors(path: Path) -> list[tuple[str, str, list[int], Path, int, int]]:
    """Return each tensor's name, type, shape, file, offset in the file, and size in bytes."""
    with path.open("rb") as content:
        length = int.from_bytes(content.read(8), "little")
        if length > path.stat().st_size:
            raise ValueError(f"{path.name} is not a safetensors file")
        header = json.loads(content.read(length))
    try:
        return [
            (name, about["dtype"], about["shape"], path, 8 + length + begin, end - begin)
            for name, about in header.items()
            if name != "__metadata__"
            for begin, end in [about["data_offsets"]]
        ]
    except (AttributeError, KeyError, TypeError):
        raise ValueError(f"{path.name} is not a safetensors file") from None


def _digest(path: Path, begin: int, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        content.seek(begin)
        while size:
            block = content.read(min(size, 1 << 20))
            if not block:
                raise ValueError(f"{path.name} is truncated")
            digest.update(block)
            size -= len(block)
    return digest.hexdigest()
