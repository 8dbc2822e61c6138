"""Whatever people push is either an upright RGB image or an error that says what is wrong."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from services.embedder.images import InvalidImage, decode
from tests.support.pictures import BLUE, RED, file_of, half_and_half, png_claiming

HEIGHT, WIDTH = 64, 32


def read(data: bytes) -> NDArray[np.uint8]:
    return decode(data, height=HEIGHT, width=WIDTH)


def assert_red_above_blue(pixels: NDArray[np.uint8], tolerance: int = 12) -> None:
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert pixels.dtype == np.uint8
    for part, colour in ((pixels[: HEIGHT // 2 - 4], RED), (pixels[HEIGHT // 2 + 4 :], BLUE)):
        assert np.abs(part.astype(int) - colour).max() <= tolerance


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_the_usual_formats_are_read(kind: str, options: dict[str, Any]) -> None:
    assert_red_above_blue(read(file_of(half_and_half(), kind, **options)))


def test_cmyk_is_read_in_its_colours() -> None:
    assert_red_above_blue(read(file_of(half_and_half("CMYK"), "JPEG", quality=95)), tolerance=30)


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_greyscale_becomes_three_equal_channels(mode: str) -> None:
    pixels = read(file_of(half_and_half(mode), "PNG"))
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert (pixels[..., 0] == pixels[..., 1]).all()
    assert (pixels[..., 0] == pixels[..., 2]).all()


def test_sixteen_bit_greyscale_keeps_its_tones() -> None:
    values = np.full((80, 40), 40_000, np.uint16)
    pixels = read(file_of(Image.fromarray(values), "PNG"))
    assert np.abs(pixels.astype(int) - 40_000 // 256).max() <= 1


def test_transparent_pixels_become_white() -> None:
    image = half_and_half("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 40, 80))
    assert (read(file_of(image, "PNG")) == 255).all()


def test_a_palette_with_transparency_is_laid_over_white() -> None:
    image = Image.new("P", (40, 80), 0)
    image.putpalette([0, 0, 0, *BLUE])
    image.paste(1, (0, 40, 40, 80))
    pixels = read(file_of(image, "PNG", transparency=0))
    assert (pixels[: HEIGHT // 2 - 4] == 255).all()
    assert (pixels[HEIGHT // 2 + 4 :] == BLUE).all()


def test_an_animation_is_read_as_its_first_frame() -> None:
    frames = [Image.new("RGB", (40, 80), "black")] * 2
    data = file_of(half_and_half(), "GIF", save_all=True, append_images=frames)
    assert_red_above_blue(read(data))


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
    ],
)
def test_a_rotated_photograph_is_put_upright(orientation: int, undo: Image.Transpose) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photograph = half_and_half().transpose(undo)
    assert_red_above_blue(read(file_of(photograph, "JPEG", quality=95, exif=exif)))


def test_a_large_photograph_looks_as_it_does_when_scaled_by_hand() -> None:
    noise = np.random.default_rng(5).integers(0, 255, (24, 12, 3), np.uint8)
    large = Image.fromarray(noise).resize((1200, 2400), Image.Resampling.BICUBIC)
    data = file_of(large, "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as whole:
        by_hand = np.asarray(whole.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR), int)
    assert np.abs(read(data) - by_hand).mean() < 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes"),
        (b"hello, I am a text", "not an image"),
        (b"%PDF-1.7 something", "not an image"),
        (file_of(half_and_half(size=(200, 400)), "JPEG")[:1500], "truncated"),
        (file_of(half_and_half(size=(200, 400)), "PNG")[:200], "decoded"),
        (png_claiming(30_000, 30_000), "more than the limit of 50,000,000 pixels"),
        (png_claiming(10_000, 10_000), "more than the limit of 50,000,000"),
        (
            png_claiming(8_000, 8_000),
            "8000 x 8000: .*64,000,000 pixels are more",
        ),
        (png_claiming(0, 80), "no"),
        (file_of(Image.new("F", (4, 4)), "TIFF"), "floating-point"),
    ],
)
def test_a_file_that_cannot_be_read_is_rejected_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidImage, match=reason):
        read(data)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    base=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"]),
    edits=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_files_give_pixels_or_a_reason(base: str, edits: list[tuple[int, int]]) -> None:
    data = bytearray(file_of(half_and_half(), base))
    for place, value in edits:
        data[place % len(data)] = value
    with contextlib.suppress(InvalidImage):
        assert read(bytes(data)).shape == (HEIGHT, WIDTH, 3)
