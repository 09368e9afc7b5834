"""Fine-tuning reads from a picture the same pixels that a browser displays."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from personalization_finetune import pictures
from tests.support import picture_files
from tests.support.browser import chromium

ROOT = Path(__file__).resolve().parents[3]
NEAR = 12
"""Allowed difference between two pixel values (0 to 255): JPEG decoders and colour engines round
differently."""
ON_WHITE = """
async (address) => {
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return [canvas.width, canvas.height, Array.from(data)];
}
"""


@pytest.fixture(scope="module")
def drawn() -> dict[str, Any]:
    """Return each test picture as the browser draws it on a white background."""
    found = {}
    with chromium() as browser:
        page = browser.new_page()
        for name, (kind, content, _) in picture_files.files().items():
            address = f"data:{kind};base64,{base64.b64encode(content).decode()}"
            width, height, data = page.evaluate(ON_WHITE, address)
            found[name] = Image.frombytes("RGBA", (width, height), bytes(data)).convert("RGB")
    return found


@pytest.mark.parametrize("name", picture_files.files())
def test_reader_decodes_pictures_as_a_browser_draws_them(name, drawn, tmp_path):
    # given
    (tmp_path / "00").write_bytes(picture_files.files()[name][1])
    # when
    picture = pictures.read(tmp_path / "00")
    # then
    assert picture.size == drawn[name].size
    inner = [(x + dx, y + dy) for x, y in picture_files.MIDDLES for dx in (-12, 0, 12) for dy in (-8, 0, 8)]
    difference = ImageChops.difference(picture, drawn[name])
    assert max(max(difference.getpixel(at)) for at in inner) <= NEAR, [  # pyright: ignore
        (picture.getpixel(at), drawn[name].getpixel(at)) for at in picture_files.MIDDLES
    ]
