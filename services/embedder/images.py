"""Image files become pixels: one decoder for training and serving, and safe with hostile bytes."""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import (  # the plugins of FORMATS, and no other decoder
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from passerby.limits import Limit

FORMATS = {
    "JPEG": JpegImagePlugin,
    "PNG": PngImagePlugin,
    "WEBP": WebPImagePlugin,
    "GIF": GifImagePlugin,
    "BMP": BmpImagePlugin,
    "TIFF": TiffImagePlugin,
    "AVIF": AvifImagePlugin,
}
_REJECTED = "that image is rejected (INVALID_ARGUMENT)"
PIXELS = Limit("pixels of an image", 50_000_000, "pixels", _REJECTED)
# What a file may declare beyond the pixels that it holds.
TILE = Limit("tile of a TIFF that is larger than its image", 2048 * 2048, "pixels", _REJECTED)
# Each scan passes over all pixels; the images of cameras and editors have about 10.
SCANS = Limit("scans of a JPEG, times its pixels", 3_200_000_000, "pixels", _REJECTED)
LIMITS = (PIXELS, TILE, SCANS)

TILE_WIDTH, TILE_LENGTH = 322, 323
START_OF_SCAN = b"\xff\xda"
# What is converted at once: a copy of all would double the memory that an image takes.
STRIP_PIXELS = 1 << 20


class InvalidImage(ValueError):
    """The bytes cannot be read as an image; the message says why and what to do."""


class Undecodable(InvalidImage):
    """The decoder gave up: on damaged bytes, or because it got no memory."""


def decode(data: bytes, *, height: int, width: int) -> NDArray[np.uint8]:
    """An image file -> (height, width, 3) uint8 RGB, upright, squashed to size (bilinear).

    What the file declares is checked in its header, before any pixel is decoded. EXIF orientation
    is applied, transparency is laid over white, of an animation the first frame is taken.
    Raises InvalidImage, and MemoryError where the process may not have as much as it takes.
    """
    if not data:
        raise InvalidImage("0 bytes; push the image again or leave it out")
    try:
        with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            _check_size(image)
            _check_work(image, data)
            # A JPEG decoder can halve the size for free; twice the target loses nothing visible.
            image.draft(None, (2 * max(height, width),) * 2)
            ImageOps.exif_transpose(image, in_place=True)
            small = _rgb(image).resize((width, height), Image.Resampling.BILINEAR)
    except (InvalidImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise InvalidImage(f"not an image; supported formats are {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidImage(f"{PIXELS.exceeded()}; scale it down") from error
    except Exception as error:  # Pillow meets broken bytes with a dozen unrelated types
        raise Undecodable(f"cannot be decoded ({error}); is the file complete?") from error
    return np.array(small)


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if not width or not height:
        raise InvalidImage(f"has no pixels ({width} x {height}); leave it out")
    if width * height > PIXELS.value:
        excess = PIXELS.exceeded(width * height)
        raise InvalidImage(f"{width} x {height}: {excess}; scale it down")


def _check_work(image: Image.Image, data: bytes) -> None:
    """Rejects what declares far more work than its pixels are."""
    pixels = image.size[0] * image.size[1]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        width, length = (image.tag_v2.get(tag, 0) for tag in (TILE_WIDTH, TILE_LENGTH))
        if not isinstance(width, int) or not isinstance(length, int):
            raise InvalidImage("its TIFF tiles have no plain size; save it again")
        tile = width * length
        if tile > max(pixels, TILE.value):
            raise InvalidImage(f"{TILE.exceeded(tile)}; save it with smaller tiles")
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        scanned = data.count(START_OF_SCAN) * pixels
        if scanned > SCANS.value:
            raise InvalidImage(f"{SCANS.exceeded(scanned)}; save it with fewer scans")


def _rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        return _in_strips(image, _over_white)
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip to white
        return _in_strips(image, _high_bytes)
    if image.mode == "F":
        raise InvalidImage("has floating-point pixels of unknown range; convert it to 8 bits")
    return image if image.mode == "RGB" else image.convert("RGB")


def _in_strips(image: Image.Image, to_rgb: Callable[[Image.Image], Image.Image]) -> Image.Image:
    width, height = image.size
    rows = max(1, STRIP_PIXELS // width)
    if rows >= height:
        return to_rgb(image)
    whole = Image.new("RGB", image.size)
    for top in range(0, height, rows):
        strip = (0, top, width, min(top + rows, height))
        whole.paste(to_rgb(image.crop(strip)), strip)
    return whole


def _over_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _high_bytes(image: Image.Image) -> Image.Image:
    values = np.clip(np.asarray(image) >> 8, 0, 255).astype(np.uint8)
    return Image.fromarray(values).convert("RGB")
