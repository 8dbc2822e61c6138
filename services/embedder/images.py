"""Image files become pixels: one decoder for training and serving, and safe with hostile bytes."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
MAXIMUM_PIXELS = 50_000_000


class InvalidImage(ValueError):
    """The bytes cannot be read as an image; the message says why and what to do."""


def decode(
    data: bytes, *, height: int, width: int, maximum_pixels: int = MAXIMUM_PIXELS
) -> NDArray[np.uint8]:
    """An image file -> (height, width, 3) uint8 RGB, upright, squashed to size (bilinear).

    The size is checked in the file's header, before any pixel is decoded. EXIF orientation is
    applied, transparency is laid over white, of an animation the first frame is taken.
    Raises InvalidImage.
    """
    if not data:
        raise InvalidImage("0 bytes; push the image again or leave it out")
    Image.init()  # else open() raises KeyError for formats whose plugin nobody needed yet
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image, maximum_pixels)
            # A JPEG decoder can halve the size for free; twice the target loses nothing visible.
            image.draft(None, (2 * max(height, width),) * 2)
            upright = ImageOps.exif_transpose(image)
            small = _rgb(upright).resize((width, height), Image.Resampling.BILINEAR)
    except InvalidImage:
        raise
    except UnidentifiedImageError as error:
        raise InvalidImage(f"not an image; supported formats are {', '.join(FORMATS)}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidImage(f"far more than {maximum_pixels:,} pixels; scale it down") from error
    except Exception as error:  # Pillow meets broken bytes with a dozen unrelated types
        raise InvalidImage(f"cannot be decoded ({error}); is the file complete?") from error
    return np.array(small)


def _check_size(image: Image.Image, maximum_pixels: int) -> None:
    width, height = image.size
    if not width or not height:
        raise InvalidImage(f"has no pixels ({width} x {height}); leave it out")
    if width * height > maximum_pixels:
        raise InvalidImage(
            f"{width} x {height} pixels are more than {maximum_pixels:,}; scale it down"
        )


def _rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip to white
        high_bytes = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255)
        return Image.fromarray(high_bytes.astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise InvalidImage("has floating-point pixels of unknown range; convert it to 8 bits")
    return image.convert("RGB")
