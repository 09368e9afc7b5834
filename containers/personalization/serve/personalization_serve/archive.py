"""Validation of a model's archive, which SageMaker has unpacked: an adapter or a full pipeline.

An adapter has two files: `adapter.json`, which names its base, and `adapter_model.safetensors`, in the format
of diffusers' `save_lora_weights`. Weights are read from safetensors files only, which contain no code. A
file's header is checked against the resident base before any weight is read.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .base import Base
from .settings import RequestError

MANIFEST = "adapter.json"
WEIGHTS = "adapter_model.safetensors"
PIPELINE = "pipeline"
LARGEST_RANK = 256
MANIFEST_BYTES = 64 * 2**10
HEADER_BYTES = 8 * 2**20
"""Maximum size of a safetensors file's header. For all weights of Stable Diffusion it has about 200 KiB."""
ENTRIES = 1000
"""Maximum number of files and folders in an archive; a full pipeline has about 30."""
LARGEST_ALPHA = 10_000
TYPES = {"F32", "F16", "BF16"}
HARMLESS = {".json", ".txt", ".md", ".safetensors", ""}
"""Allowed suffixes of files in a full pipeline. None of these formats can contain code, unlike pickles."""

_KEY = re.compile(r"(unet|text_encoder)\.([\w.]+)\.lora_([AB])\.weight")
_SAFE_ERRORS = (SafetensorError, OSError, ValueError, OverflowError)


@dataclass(frozen=True)
class Low:
    """Low-rank change of a weight: `scale * B @ A`. `a` and `b` are keys in the file."""

    a: str
    b: str
    rank: int
    scale: float
    elements: int


@dataclass(frozen=True)
class Adapter:
    """An adapter. `weights` has its changes by the name of the changed weight, such as
    `unet.mid_block....to_q`."""

    file: Path
    weights: dict[str, Low]

    @property
    def elements(self) -> int:
        return sum(low.elements for low in self.weights.values())


def contents(folder: Path) -> list[Path]:
    """Return the files of an unpacked archive. Raises `RequestError` for links and special files."""
    if not folder.is_absolute() or ".." in folder.parts or not _is_folder(folder):
        raise RequestError(400, "url must be the folder of the unpacked model")
    found, entries = [], 0
    for place, folders, files in os.walk(folder):
        entries += len(folders) + len(files)
        if entries > ENTRIES:
            raise RequestError(400, f"the archive must have at most {ENTRIES} files and folders")
        for name in [*folders, *files]:
            path = Path(place, name)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise RequestError(
                    400, f"the archive must have only files and folders, {path.name[:80]} is another type"
                )
        found += [Path(place, name) for name in files]
    return sorted(found)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long or invalid
        return False


def manifest(folder: Path) -> dict[str, Any]:
    """Return the content of `adapter.json`. Raises `RequestError` if it is absent or invalid."""
    path = folder / MANIFEST
    if not path.is_file() or path.stat().st_size > MANIFEST_BYTES:
        raise RequestError(400, f"the archive must have {MANIFEST} of at most {MANIFEST_BYTES} bytes")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or type(found.get("version")) is not int or found["version"] != 1:
        raise RequestError(400, f"{MANIFEST} must be a JSON object with version 1")
    if not isinstance(found.get("full", False), bool):
        raise RequestError(400, f"{MANIFEST}: full must be true or false")
    return found


def full(folder: Path, files: list[Path]) -> int:
    """Check a full pipeline and return the size of all files in `pipeline/`. Raises `RequestError`."""
    pipeline = folder / PIPELINE
    inside = [path for path in files if path.is_relative_to(pipeline)]
    if wrong := [path.name for path in files if path.suffix not in HARMLESS]:
        raise RequestError(
            400, f"the archive must have weights in safetensors files only, got {wrong[0][:80]}"
        )
    if not (pipeline / "model_index.json").is_file():
        raise RequestError(400, f"the archive has no {PIPELINE}/model_index.json")
    for path in inside:
        if path.suffix == ".safetensors":
            _header(path, path.name)
    return sum(path.stat().st_size for path in inside)


def weights(folder: Path, files: list[Path], found: dict[str, Any], base: Base, most: int) -> Path:
    """Return the file of an adapter's weights. Raises `RequestError`.

    :param found: the content of `adapter.json`
    :param base: the base to which the adapter must belong
    :param most: maximum size of the file in bytes
    """
    belongs = found.get("base")
    if not isinstance(belongs, str):
        raise RequestError(400, f"{MANIFEST}: base must be the id of the base, as text")
    if not base.knows(belongs):
        raise RequestError(
            400, f"the adapter must be trained on this endpoint's base {base.id}, got base {belongs[:200]}"
        )
    if other := [path.name for path in files if path not in (folder / MANIFEST, folder / WEIGHTS)]:
        raise RequestError(400, f"the archive must have only {MANIFEST} and {WEIGHTS}, got {other[0][:80]}")
    path = folder / WEIGHTS
    if not path.is_file():
        raise RequestError(400, f"the archive has no {WEIGHTS}")
    if path.stat().st_size > most:
        raise RequestError(400, f"{WEIGHTS} must have at most {most} bytes, got {path.stat().st_size}")
    return path


def read(path: Path) -> Adapter:
    """Read the header of an adapter's file, not its weights. Raises `RequestError` if it is invalid."""
    shapes, metadata = _header(path, WEIGHTS, TYPES)
    settings = _settings(metadata)
    halves: dict[str, dict[str, tuple[str, list[int]]]] = {}
    for key, shape in shapes.items():
        match = _KEY.fullmatch(key)
        if not match:
            raise RequestError(
                400, f"{WEIGHTS} has {key[:120]}, which is not a low-rank weight of unet or text_encoder"
            )
        component, module, half = match.groups()
        module = module.removeprefix("text_model.")  # prefix of older versions of transformers
        named = halves.setdefault(f"{component}.{module}", {})
        if half in named:
            raise RequestError(
                400, f"{WEIGHTS} has {key[:120]} and {named[half][0][:120]}, which are the same weight"
            )
        named[half] = key, shape
    if not halves:
        raise RequestError(400, f"{WEIGHTS} is empty")
    weights = {}
    for target, found in halves.items():
        if set(found) != {"A", "B"}:
            raise RequestError(400, f"{WEIGHTS} must have lora_A and lora_B of {target}, got one of them")
        (a, down), (b, up) = found["A"], found["B"]
        rank = down[0] if down else 0
        if len(down) < 2 or len(up) != len(down) or up[1] != rank or any(side != 1 for side in up[2:]):
            raise RequestError(
                400, f"lora_A and lora_B of {target} must have matching shapes, got {down}, {up}"
            )
        if not 1 <= rank <= LARGEST_RANK:
            raise RequestError(400, f"the rank of {target} must be from 1 to {LARGEST_RANK}, got {rank}")
        component = target.partition(".")[0]
        scale = settings.get(component, rank) / rank
        weights[target] = Low(a, b, rank, scale, _product(down) + _product(up))
    return Adapter(path, weights)


def fit(adapter: Adapter, targets: dict[str, list[int]]) -> None:
    """Raise `RequestError` unless each target is a weight of the resident base, with the same shape."""
    shapes, _ = _header(adapter.file, WEIGHTS, TYPES)
    for target, low in adapter.weights.items():
        weight = targets.get(target)
        if weight is None:
            raise RequestError(400, f"the base has no weight {target}")
        down, up = shapes[low.a], shapes[low.b]
        if [up[0], *down[1:]] != weight:
            raise RequestError(
                400, f"{target} must have the shape {weight} as in the base, got {[up[0], *down[1:]]}"
            )


def _header(
    path: Path, name: str, types: set[str] | None = None
) -> tuple[dict[str, list[int]], dict[str, str]]:
    """Return the shapes and the metadata of a safetensors file. Raises `RequestError`.

    :param name: name of the file in errors
    :param types: allowed types of tensors; None: all
    """
    try:
        with path.open("rb") as raw:
            if int.from_bytes(raw.read(8), "little") > HEADER_BYTES:
                raise RequestError(
                    400, f"{name} must be a safetensors file with a header of at most {HEADER_BYTES} bytes"
                )
        with safe_open(path, framework="numpy") as file:
            shapes = {}
            for key in file.keys():  # noqa: SIM118 - `file` is not a dictionary
                part = file.get_slice(key)
                if types and part.get_dtype() not in types:
                    raise RequestError(
                        400, f"{key[:120]} must be {' or '.join(sorted(types))}, got {part.get_dtype()}"
                    )
                shapes[key] = list(part.get_shape())
            return shapes, file.metadata() or {}
    except _SAFE_ERRORS:
        raise RequestError(400, f"{name} is incomplete, or not a safetensors file") from None


def _settings(metadata: dict[str, str]) -> dict[str, float]:
    """Return each component's alpha from the file's metadata, in diffusers' format. Raises `RequestError`.

    A component without an alpha is absent from the result. The rank is then used as its alpha, as in
    diffusers.
    """
    try:
        found = json.loads(metadata.get("lora_adapter_metadata") or "{}")
        alphas = {}
        for component in ("unet", "text_encoder"):
            own = {key.removeprefix(component + "."): value for key, value in found.items()}
            for option in ("use_dora", "use_rslora", "alpha_pattern", "lora_bias"):
                if own.get(option):
                    raise RequestError(400, f"{WEIGHTS} uses {option}, which is not supported")
            if own.get("lora_alpha") is not None:
                alphas[component] = own["lora_alpha"]
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise RequestError(400, f"could not read the metadata of {WEIGHTS}") from None
    for component, alpha in alphas.items():
        number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
        if not number or not -LARGEST_ALPHA <= alpha <= LARGEST_ALPHA:  # an int may be too large for a float
            limits = f"{-LARGEST_ALPHA} to {LARGEST_ALPHA}"
            raise RequestError(400, f"{component}.lora_alpha in {WEIGHTS} must be a number from {limits}")
    return {component: float(alpha) for component, alpha in alphas.items()}


def _product(shape: list[int]) -> int:
    result = 1
    for side in shape:
        result *= side
    return result
