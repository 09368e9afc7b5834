"""Whether an upload is a picture to learn from, judged by its header.

Nothing is decoded here: the fine-tune decodes every picture anyway, and names the one that is damaged. Its
reader (`personalization_finetune.pictures`) takes the same formats, so what passes here is refused there
only for damage.
"""

from __future__ import annotations

import io
import warnings

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
HEADER_BYTES = 262_144
"""Enough for the header of nearly every JPEG and PNG, EXIF thumbnail and colour profile included."""
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis")


class NotAnImage(ValueError):
    """The message ends the sentence that begins with the field's name: "is …", "has …"."""


def check(content: bytes, content_type: str, most_pixels: int, least_side: int) -> tuple[int, int]:
    """Return the width and height in pixels of the first frame, as stored. Raises `NotAnImage`.

    `content` is the file, or as much of its beginning as holds its header: HEADER_BYTES are usually enough.
    """
    from PIL import Image, UnidentifiedImageError  # only here: it takes long to import

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the bound below is ours
            picture = Image.open(io.BytesIO(content), formats=[FORMATS[content_type]])
        with picture:
            width, height = picture.size
    except UnidentifiedImageError:
        if content[4:8] == b"ftyp" and content[8:12] in HEIF_BRANDS:
            raise NotAnImage("must be JPEG, PNG or WebP, got HEIC or AVIF") from None
        raise NotAnImage(f"is not a picture of the type {content_type}") from None
    except Image.DecompressionBombError:
        raise NotAnImage(f"must have at most {most_pixels} pixels") from None
    except Exception as error:  # decoders raise anything on what is damaged or forged
        raise NotAnImage("is damaged: its header cannot be read") from error
    if width * height > most_pixels:
        raise NotAnImage(f"must have at most {most_pixels} pixels, got {width} x {height}")
    if min(width, height) < least_side:
        raise NotAnImage(f"must have at least {least_side} pixels a side, got {width} x {height}")
    return width, height
