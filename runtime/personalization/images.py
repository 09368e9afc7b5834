"""Is this a picture? Decoded for real, within bounds that are checked before a pixel is."""

from __future__ import annotations

import io
import warnings

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}


class NotAnImage(ValueError):
    """The message ends the sentence that begins with the field's name: "is …", "has …"."""


def check(content: bytes, content_type: str, most_pixels: int, least_side: int) -> tuple[int, int]:
    """The width and height of the picture, in pixels. Raises `NotAnImage`.

    The size is read from the header, so a picture that would fill the memory (a decompression bomb) is
    refused before it is decoded; one that ends too soon fails in decoding.
    """
    from PIL import Image, UnidentifiedImageError  # only here: it takes long to import

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the bound below is ours
            picture = Image.open(io.BytesIO(content), formats=[FORMATS[content_type]])
        with picture:
            width, height = picture.size
            if width * height > most_pixels:
                raise NotAnImage(f"has {width} x {height} pixels, allowed are {most_pixels} in all")
            if min(width, height) < least_side:
                raise NotAnImage(f"has {width} x {height} pixels, allowed are at least {least_side} a side")
            if getattr(picture, "n_frames", 1) != 1:
                raise NotAnImage("moves, allowed is a single picture")
            picture.load()
    except NotAnImage:
        raise
    except UnidentifiedImageError:
        raise NotAnImage(f"is not a picture of the type {content_type}") from None
    except Image.DecompressionBombError:
        raise NotAnImage(f"has too many pixels, allowed are {most_pixels} in all") from None
    except Exception as error:  # decoders raise anything on what is damaged or forged
        raise NotAnImage("is damaged: it cannot be decoded to its end") from error
    return width, height
