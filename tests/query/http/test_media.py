"""The kind of an image is known by its signature, and only raster images are shown."""

import pytest

from services.query.http.media import image_type


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "image/avif"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", None),
        (b"<html>", None),
        (b"", None),
    ],
)
def test_only_raster_images_are_called_images(data: bytes, media_type: str | None) -> None:
    assert image_type(data) == media_type
