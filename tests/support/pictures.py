"""Image files: random ones, ones that look the same upright only, and ones that lie."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RED, BLUE = (200, 20, 30), (20, 40, 190)


def random_pixels(seed: int, size: tuple[int, int] = (64, 32)) -> NDArray[np.uint8]:
    """Coarse noise, so that no two images look alike to a network; size: height and width."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (size[0] // 8, size[1] // 8, 3), np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def picture(number: int) -> bytes:
    """A PNG of random pixels, 64 high and 32 wide; another one for each number."""
    return file_of(Image.fromarray(random_pixels(number)))


def half_and_half(mode: str = "RGB", size: tuple[int, int] = (40, 80)) -> Image.Image:
    """Red above, blue below; size: width and height."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (0, size[1] // 2, *size))
    return image.convert(mode)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """options: those of Pillow's writer of that kind."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises a size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(2000))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def tiff_claiming(width: int, height: int, *, tile: tuple[int, int]) -> bytes:
    """A grey TIFF of 154 bytes, one LZW tile of which is said to have a size; width and height."""
    fields = {256: width, 257: height, 258: 8, 259: 5, 262: 1, 277: 1}
    fields |= {322: tile[0], 323: tile[1], 324: 8, 325: 20}
    pixels = bytes([0x80, 0x0B, 0x60, 0x50]).ljust(20, b"\0")
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    return b"II*\0" + struct.pack("<I", 28) + pixels + struct.pack("<H", 10) + entries + bytes(4)


# 7,071 x 7,071 transparent pixels, as many as are taken: over a second and 800 MiB to decode.
VAST_WEBP = bytes.fromhex(
    "5249464620000000574542505650384c140000002f9e9be716075081540820000a9a92c58888fe07"
)
