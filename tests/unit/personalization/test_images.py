"""Validation of pictures by their header, with a reason for refusals, and without decoding."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from typing import Any

import pytest
from PIL import Image, ImageFile, JpegImagePlugin, WebPImagePlugin

from personalization.core.images import ImageError, check

PIXELS, SIDE = 40_000_000, 64


def picture(kind: str = "PNG", size: tuple[int, int] = (96, 80), **options: Any) -> bytes:
    content = io.BytesIO()
    Image.effect_noise(size, 40).convert("RGB").save(content, kind, **options)
    return content.getvalue()


def refused(content: bytes, content_type: str = "image/png", pixels: int = PIXELS) -> str:
    with pytest.raises(ImageError) as caught:
        check(content, content_type, pixels, SIDE)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_picture_passes(kind):
    assert check(picture(kind), f"image/{kind.lower()}", PIXELS, SIDE) == (96, 80)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "I;16"])
def test_picture_in_any_colours_passes(mode):
    content = io.BytesIO()
    Image.new(mode, (70, 70)).save(content, "PNG")
    assert check(content.getvalue(), "image/png", PIXELS, SIDE) == (70, 70)


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x00" * 999]
)
def test_file_that_is_not_a_picture_is_refused(content):
    assert refused(content) == "is not a picture of the type image/png"


def test_picture_of_another_type_than_announced_is_refused():
    assert refused(picture("JPEG"), "image/png") == "is not a picture of the type image/png"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_check_needs_the_first_bytes_only(kind):
    whole = picture(kind, (300, 300))
    assert check(whole[:1000], f"image/{kind.lower()}", PIXELS, SIDE) == (300, 300)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_no_pixel_is_decoded(kind, monkeypatch):
    def decode(*_: Any) -> None:
        raise AssertionError("decoded")

    Image.init()
    for each in (ImageFile.ImageFile, JpegImagePlugin.JpegImageFile, WebPImagePlugin.WebPImageFile):
        monkeypatch.setattr(each, "load", decode)
    assert check(picture(kind), f"image/{kind.lower()}", PIXELS, SIDE) == (96, 80)


def test_header_with_a_damaged_part_is_refused():
    whole = bytearray(picture("PNG", (300, 300)))
    whole[20] ^= 0xFF
    assert refused(bytes(whole))


def test_heic_is_refused_by_name_with_the_allowed_types():
    content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
    told = "must be JPEG, PNG or WebP, got HEIC or AVIF"
    assert refused(content, "image/jpeg") == told


def test_picture_that_is_too_small_is_refused_with_the_minimum():
    assert refused(picture(size=(63, 200))) == "must have at least 64 pixels a side, got 63 x 200"


def bomb(width: int, height: int) -> bytes:
    """Return a PNG of a few kilobytes whose header claims this size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(3_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(8_000, 6_000), (20_000, 20_000), (65_000, 65_000), (2_000_000_000, 64)])
def test_decompression_bomb_is_refused_before_decoding(size):
    content = bomb(*size)
    assert len(content) < 10_000
    Image.init()
    tracemalloc.start()
    message = refused(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "at most 40000000 pixels" in message
    assert peak < 2_000_000


def test_png_with_a_compressed_text_bomb_is_refused():
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    whole = picture()
    text = chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(100_000_000), 9))
    assert refused(whole[:33] + text + whole[33:])
