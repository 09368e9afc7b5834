"""Two images name the base that an adapter belongs to, each by code of its own: they must name it alike."""

import ast
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

CONTAINERS = Path(__file__).resolve().parents[2] / "containers"
IMAGES = ("personalization_finetune", "personalization_serve")


def identity(image: str) -> Callable[[Path], str]:
    """That image's function alone: its module imports what only the image has."""
    path = CONTAINERS / image / image / "base.py"
    (found,) = (
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "identity"
    )
    names: dict = {"hashlib": hashlib, "Path": Path}
    exec(compile(ast.Module([found], []), str(path), "exec"), names)  # noqa: S102
    return names["identity"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name, content in {
        "model_index.json": b"{}",
        "unet/weights": b"\0" * 3_000_000,
        "unet/a": b"",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_what_one_image_teaches_on_a_base_the_other_knows_for_that_base(base: Path):
    trained, served = (identity(image)(base) for image in IMAGES)
    assert trained == served
    assert len(trained) == 16


@pytest.mark.parametrize("image", IMAGES)
def test_another_name_or_another_byte_is_another_base(base: Path, image: str):
    seen = {identity(image)(base)}
    (base / "unet/a").rename(base / "unet/b")
    seen.add(identity(image)(base))
    (base / "model_index.json").write_bytes(b"[]")
    seen.add(identity(image)(base))
    assert len(seen) == 3
