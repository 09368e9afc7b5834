"""Pictures as cameras, phones and drawing programs write them, with the colours that a viewer displays."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

SIZE = (120, 80)
RED, GREEN, BLUE, GREY, WHITE = (
    (230, 30, 30),
    (30, 160, 40),
    (20, 40, 220),
    (128, 128, 128),
    (255, 255, 255),
)
MIDDLES = ((30, 20), (90, 20), (30, 60), (90, 60))
"""Centres of the quarters: upper left, upper right, lower left, lower right."""
SEEN = (RED, GREEN, BLUE, GREY)
"""Displayed colours at the points `MIDDLES`, except in files for which `files` returns other colours."""


def quarters(colours: tuple[Any, ...] = SEEN, mode: str = "RGB") -> Image.Image:
    picture = Image.new(mode, SIZE)
    draw = ImageDraw.Draw(picture)
    for (x, y), colour in zip(MIDDLES, colours, strict=True):
        draw.rectangle((x - 30, y - 20, x + 29, y + 19), colour)
    return picture


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(samples: np.ndarray, depth: int, colour_type: int, *extra: bytes) -> bytes:
    """Return a PNG of `samples`: for each row of pixels, an array of big-endian samples."""
    height = len(samples)
    header = struct.pack(">IIBBBBB", SIZE[0], height, depth, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    body = (
        chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + body


def deep_grey(levels: tuple[int, ...], *extra: bytes) -> bytes:
    """Return a 16-bit grayscale PNG with these levels (0 to 65,535) in its quarters."""
    samples = np.asarray(quarters(tuple(levels), "I"))
    return png(samples.astype(">u2"), 16, 0, *extra)


def profile(order: str = "RGB", space: bytes = b"RGB ") -> bytes:
    """Return an ICC profile like sRGB's, with the primaries in this order: with `GRB`, red is displayed as
    green."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    primaries = {
        "R": fixed(0.4360747, 0.2225045, 0.0139322),
        "G": fixed(0.3850649, 0.7168786, 0.0971045),
        "B": fixed(0.1430804, 0.0606169, 0.7141733),
    }
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)
    tags = [(b"desc", text + bytes(-len(text) % 4)), (b"wtpt", b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249))]
    tags += [(b"cprt", b"text\0\0\0\0none\0\0\0\0")]
    tags += [
        (name, b"XYZ \0\0\0\0" + primaries[letter])
        for name, letter in zip((b"rXYZ", b"gXYZ", b"bXYZ"), order, strict=True)
    ]
    tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    table, body, at = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags:
        table += name + struct.pack(">II", at + len(body), len(content))
        body += content
    whole = bytearray(bytes(128) + struct.pack(">I", len(tags)) + table + body)
    whole[0:4] = struct.pack(">I", len(whole))
    whole[8:12], whole[12:16], whole[16:20], whole[20:24] = b"\x02\x10\0\0", b"mntr", space, b"XYZ "
    whole[36:40], whole[68:80] = b"acsp", fixed(0.9642, 1, 0.8249)
    return bytes(whole)


def turned(orientation: int) -> bytes:
    """Return a JPEG stored in this Exif orientation. A decoder that applies the orientation gets `SEEN`."""
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(quarters().transpose(back[orientation]), "JPEG", quality=95, exif=exif)


def hidden() -> Image.Image:
    """Return a picture whose left half is transparent but still has colours, as drawing programs write it."""
    picture = quarters((RED, GREEN, BLUE, GREY)).convert("RGBA")
    alpha = Image.new("L", SIZE, 255)
    alpha.paste(0, (0, 0, 60, 80))
    picture.putalpha(alpha)
    return picture


def files() -> dict[str, tuple[str, bytes, tuple[Any, ...]]]:
    """Return, by the file's name, its media type, its content and the displayed colours of its quarters."""
    plain, other = quarters(), quarters((WHITE,) * 4)
    half = quarters()
    half.putalpha(128)
    washed = tuple(tuple(round((value + 255) / 2) for value in colour) for colour in SEEN)
    swapped = tuple((green, red, blue) for red, green, blue in SEEN)
    grey = tuple((level,) * 3 for level in (30, 90, 160, 255))
    levels = (30 * 257, 90 * 257, 160 * 257, 65_535)
    palette = quarters().quantize(4)
    first = palette.getpixel((1, 1))
    moving = {"save_all": True, "append_images": [other]}
    return {
        "jpeg": ("image/jpeg", saved(plain, "JPEG", quality=95), SEEN),
        "png": ("image/png", saved(plain, "PNG"), SEEN),
        "webp": ("image/webp", saved(plain, "WEBP", lossless=True), SEEN),
        "two-pictures-in-a-jpeg": ("image/jpeg", saved(plain, "MPO", quality=95, **moving), SEEN),
        "moving-webp": ("image/webp", saved(plain, "WEBP", lossless=True, **moving), SEEN),
        "moving-png": ("image/png", saved(plain, "PNG", **moving), SEEN),
        "transparent-png": ("image/png", saved(hidden(), "PNG"), (WHITE, GREEN, WHITE, GREY)),
        "transparent-webp": (
            "image/webp",
            saved(hidden(), "WEBP", lossless=True, exact=True),
            (WHITE, GREEN, WHITE, GREY),
        ),
        "half-transparent-png": ("image/png", saved(half, "PNG"), washed),
        "palette-with-a-hole": (
            "image/png",
            saved(palette, "PNG", transparency=first),
            (WHITE, GREEN, BLUE, GREY),
        ),
        "grey-with-alpha": (
            "image/png",
            saved(Image.merge("LA", (quarters((30, 90, 160, 255), "L"), hidden().getchannel("A"))), "PNG"),
            (WHITE, grey[1], WHITE, grey[3]),
        ),
        "grey-jpeg": ("image/jpeg", saved(quarters((30, 90, 160, 255), "L"), "JPEG", quality=95), grey),
        "black-and-white": (
            "image/png",
            saved(quarters((0, 1, 1, 0), "1"), "PNG"),
            ((0,) * 3, WHITE, WHITE, (0,) * 3),
        ),
        "deep-grey": ("image/png", deep_grey(levels), grey),
        "deep-grey-with-a-hole": (
            "image/png",
            deep_grey(levels, chunk(b"tRNS", struct.pack(">H", levels[0]))),
            (WHITE, *grey[1:]),
        ),
        "cmyk": ("image/jpeg", saved(plain.convert("CMYK"), "JPEG", quality=95), SEEN),
        **{
            f"profile-in-{kind.lower()}": (
                f"image/{kind.lower()}",
                saved(quarters(swapped), kind, icc_profile=profile("GRB"), **options),
                SEEN,
            )
            for kind, options in {
                "JPEG": {"quality": 95, "subsampling": 0},
                "PNG": {},
                "WEBP": {"lossless": True},
            }.items()
        },
        "profile-of-another-space": (
            "image/png",
            saved(quarters((30, 90, 160, 255), "L"), "PNG", icc_profile=profile("GRB")),
            grey,
        ),
        "damaged-profile": ("image/png", saved(plain, "PNG", icc_profile=b"no profile at all"), SEEN),
        **{f"turned-{number}": ("image/jpeg", turned(number), SEEN) for number in range(2, 9)},
    }
