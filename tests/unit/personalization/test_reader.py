"""The API accepts the pictures that the fine-tuning reads, and the reader decodes them as displayed."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from personalization.core.images import HEADER_BYTES, ImageError, check
from personalization_finetune import pictures
from settings.personalization import Limits
from tests.support import picture_files

FILES = picture_files.files()
NEAR = 10
"""Allowed difference of a colour (0 to 255), caused by JPEG and the rounding of colour profiles."""


def colours(picture: Image.Image) -> list[tuple[int, ...]]:
    return [picture.getpixel(at) for at in picture_files.MIDDLES]  # pyright: ignore[reportReturnType]


def near(found: list[tuple[int, ...]], wanted: tuple[tuple[int, ...], ...]) -> bool:
    return all(
        abs(a - b) <= NEAR
        for one, other in zip(found, wanted, strict=True)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("name", FILES)
def test_reader_decodes_colours_and_orientation_as_displayed(name, tmp_path):
    # given
    _, content, seen = FILES[name]
    (tmp_path / "00").write_bytes(content)
    # when
    picture = pictures.read(tmp_path / "00")
    # then
    assert (picture.mode, picture.size) == ("RGB", picture_files.SIZE)
    assert near(colours(picture), seen), colours(picture)


@pytest.mark.parametrize("name", FILES)
def test_api_accepts_pictures_that_the_reader_reads(name):
    kind, content, _ = FILES[name]
    assert sorted(check(content, kind, 10_000, 64)) == sorted(picture_files.SIZE)


BAD = {
    "nothing": ("image/png", b""),
    "text": ("image/png", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "gif": ("image/png", picture_files.saved(picture_files.quarters(), "GIF")),
    "tiff": ("image/png", picture_files.saved(picture_files.quarters(), "TIFF")),
    "heic": ("image/jpeg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)),
    "too-small": ("image/png", picture_files.saved(Image.new("RGB", (31, 200)), "PNG")),
    "only-a-signature": ("image/png", b"\x89PNG\r\n\x1a\n"),
}


@pytest.mark.parametrize("name", BAD)
def test_api_and_reader_refuse_unusable_pictures(name, tmp_path):
    kind, content = BAD[name]
    (tmp_path / "00").write_bytes(content)
    with pytest.raises(ImageError):
        check(content, kind, pictures.MOST_PIXELS, pictures.LEAST_SIDE)
    with pytest.raises(pictures.PictureError):
        pictures.read(tmp_path / "00")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("kept", [0.95, 0.6])
def test_reader_refuses_a_truncated_picture(kind, kept, tmp_path):
    content = picture_files.saved(Image.effect_noise((300, 300), 40).convert("RGB"), kind)
    (tmp_path / "00").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(pictures.PictureError):
        pictures.read(tmp_path / "00")


def test_exif_that_cannot_be_read_is_no_reason_to_refuse(tmp_path):
    content = picture_files.saved(
        picture_files.quarters(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff", quality=95
    )
    (tmp_path / "00").write_bytes(content)
    assert near(colours(pictures.read(tmp_path / "00")), picture_files.SEEN)


def test_reader_accepts_the_bounds_of_the_limits():
    def bound(field: str, name: str) -> int:
        [found] = [getattr(each, name) for each in Limits.model_fields[field].metadata if hasattr(each, name)]
        return found

    assert bound("image_pixels", "le") <= pictures.MOST_PIXELS
    assert bound("image_side", "ge") >= pictures.LEAST_SIDE


def test_pillow_opens_the_largest_allowed_picture():
    assert 2 * (Image.MAX_IMAGE_PIXELS or 0) > pictures.MOST_PIXELS


def test_header_bytes_suffice_for_photographs_with_thumbnail_and_profile():
    exif = b"Exif\0\0" + bytes(60_000)
    picture = Image.effect_noise((3000, 2000), 90).convert("RGB")
    content = picture_files.saved(picture, "JPEG", quality=95, exif=exif, icc_profile=bytes(100_000))
    assert len(content) > HEADER_BYTES
    assert check(content[:HEADER_BYTES], "image/jpeg", 6_000_000, 64) == (3000, 2000)
    assert Image.open(io.BytesIO(content)).size == (3000, 2000)
