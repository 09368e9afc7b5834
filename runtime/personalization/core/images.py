"""Validation of uploaded pictures by their headers.

Pictures are not decoded here: the fine-tune decodes all of them and reports damaged ones. The reader of the
fine-tune (`personalization_finetune.pictures`) accepts the same formats, so of the pictures that passed here
it rejects only damaged ones.
"""

from __future__ import annotations

import io
import warnings

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}
HEADER_BYTES = 262_144
"""Enough bytes for the header of nearly every JPEG and PNG, with EXIF thumbnail and colour profile."""
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis")


class ImageError(ValueError):
    """The picture is invalid. The message continues a sentence that begins with the field's name: "is …"."""


def check(content: bytes, content_type: str, most_pixels: int, least_side: int) -> tuple[int, int]:
    """Return the width and height in pixels of the first frame, as stored. Raises `ImageError`.

    :param content: the file, or its beginning with the whole header; `HEADER_BYTES` are usually enough
    """
    from PIL import Image, UnidentifiedImageError  # imported here, because the import is slow

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `most_pixels` is checked below
            picture = Image.open(io.BytesIO(content), formats=[FORMATS[content_type]])
        with picture:
            width, height = picture.size
    except UnidentifiedImageError:
        if content[4:8] == b"ftyp" and content[8:12] in HEIF_BRANDS:
            raise ImageError("must be JPEG, PNG or WebP, got HEIC or AVIF") from None
        raise ImageError(f"is not a picture of the type {content_type}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"must have at most {most_pixels} pixels") from None
    except Exception as error:  # decoders raise any exception for damaged or forged files
        raise ImageError("is damaged: its header cannot be read") from error
    if width * height > most_pixels:
        raise ImageError(f"must have at most {most_pixels} pixels, got {width} x {height}")
    if min(width, height) < least_side:
        raise ImageError(f"must have at least {least_side} pixels a side, got {width} x {height}")
    return width, height
