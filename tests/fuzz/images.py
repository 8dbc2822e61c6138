"""Image files: pixels of the right shape, or InvalidImage, and never more than the limits."""

import contextlib
import warnings

from services.embedder.images import FORMATS, InvalidImage, decode
from tests.support.pictures import file_of, half_and_half, tiff_claiming

SEEDS = [
    *(file_of(half_and_half(), kind) for kind in FORMATS),
    file_of(half_and_half(), "JPEG", progressive=True),
    file_of(half_and_half("RGBA"), "PNG"),
    file_of(half_and_half("P"), "PNG", transparency=0),
    file_of(half_and_half("RGBA"), "WEBP", lossless=True),
    file_of(half_and_half("CMYK"), "TIFF", compression="tiff_lzw"),
    file_of(half_and_half(), "TIFF", compression="jpeg"),
    tiff_claiming(64, 128, tile=(64, 128)),
]


def attempt(data: bytes) -> None:
    # MemoryError is the limit at work: in the embedder it rejects the image.
    with warnings.catch_warnings(), contextlib.suppress(InvalidImage, MemoryError):
        warnings.simplefilter("ignore")
        assert decode(data, height=64, width=32).shape == (64, 32, 3)
