"""Reading of a picture as viewers show it: first frame, upright, in sRGB, on a white background."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP")
MOST_PIXELS = 150_000_000
LEAST_SIDE = 32
"""Limits of a picture's size, in pixels. A deployment may set narrower limits, which its API enforces."""
COLOUR_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
"""Colour space that an ICC profile must have, by the picture's mode in Pillow."""
DEEP_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N")


class PictureError(ValueError):
    """The file is unusable. The message continues a sentence that begins with the picture's name."""


def read(path: Path) -> Image.Image:
    """Return the picture as RGB. Raises `PictureError`, and `FileNotFoundError`.

    Its size is checked before a pixel is decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
            opened = Image.open(path, formats=FORMATS)
    except FileNotFoundError:
        raise
    except Image.DecompressionBombError:
        raise _too_large() from None
    except Exception:  # decoders raise any exception for damaged or forged files
        raise PictureError("is not a JPEG, PNG or WebP picture: use another picture") from None
    with opened:
        width, height = opened.size
        if width * height > MOST_PIXELS:
            raise _too_large()
        if min(width, height) < LEAST_SIDE:
            raise PictureError(f"must have at least {LEAST_SIDE} pixels on each side, got {width} x {height}")
        try:
            return as_seen(opened)
        except MemoryError:
            raise
        except Exception:
            message = "is damaged and cannot be read to its end: use another picture"
            raise PictureError(message) from None


def _too_large() -> PictureError:
    return PictureError(f"must have at most {MOST_PIXELS // 1_000_000} million pixels: make it smaller")


def as_seen(opened: Image.Image) -> Image.Image:
    """Return the first frame of an opened picture as RGB. Raises the decoder's errors."""
    opened.load()
    profile, upright = opened.info.get("icc_profile"), opened
    with contextlib.suppress(Exception):  # viewers ignore unreadable EXIF too
        upright = ImageOps.exif_transpose(opened)
    colours, alpha = _channels(upright)
    rgb = _srgb(colours, profile)
    if alpha is None:
        return rgb
    return Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)


def _channels(picture: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Split into colours, in mode L, RGB or CMYK, and alpha, which is None if the picture has none."""
    if picture.mode in DEEP_GREY:  # Pillow's conversion makes all values above 255 (of 65,535) white
        values = np.asarray(picture).astype(np.int64)
        colours = Image.fromarray((values.clip(0, 65_535) / 257).round().astype(np.uint8))
        hidden = picture.info.get("transparency")
        shown = np.where(values == hidden, 0, 255).astype(np.uint8)
        return colours, None if hidden is None else Image.fromarray(shown)
    grey = picture.mode in ("1", "L", "LA")
    if picture.has_transparency_data:
        whole = picture.convert("LA" if grey else "RGBA")
        return whole.convert("L" if grey else "RGB"), whole.getchannel("A")
    return picture.convert("L" if grey else picture.mode if picture.mode == "CMYK" else "RGB"), None


def _srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to sRGB. An unreadable profile, or one of a different colour space, is ignored."""
    with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        if profile:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = source.profile.xcolor_space  # pyright: ignore[reportAttributeAccessIssue]
            if space.strip() == COLOUR_SPACES[picture.mode]:
                target = ImageCms.createProfile("sRGB")
                intent = ImageCms.Intent(ImageCms.getDefaultIntent(source))
                made = ImageCms.profileToProfile(picture, source, target, intent, "RGB")
                if made is not None:
                    return made
    return picture.convert("RGB")
