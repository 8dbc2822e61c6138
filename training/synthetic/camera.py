"""What a camera makes of a scene: its place, light and colour cast, blur, noise and JPEG loss."""

import io
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageFilter

from training.synthetic.street import PLACES, Place

CAMERAS = 12
"""Cameras of a data set."""


@dataclass(frozen=True)
class Camera:
    """One camera's fixed traits; each image varies around them."""

    number: int
    place: Place
    gains: tuple[float, float, float]
    """Factors of red, green and blue: the light's colour and strength."""
    contrast: float
    blur: float
    """Radius in pixels."""
    noise: float
    """Standard deviation, of 255."""
    quality: int
    """Of the JPEG files."""
    image_height: int
    """Usual height in pixels: how near people pass."""


def cameras(seed: int) -> list[Camera]:
    """A data set's cameras: the same for the same seed."""
    rng = Random(f"cameras {seed}")  # noqa: S311
    places = [PLACES[i % len(PLACES)] for i in range(CAMERAS)]
    rng.shuffle(places)
    return [_camera(number, place, rng) for number, place in enumerate(places, start=1)]


def _camera(number: int, place: Place, rng: Random) -> Camera:
    evening = rng.random() < 0.25
    light = rng.uniform(0.62, 0.78) if evening else rng.uniform(0.86, 1.08)
    warmth = rng.uniform(0, 0.09) if evening else rng.uniform(-0.05, 0.05)
    return Camera(
        number=number,
        place=place,
        gains=(light * (1 + warmth), light * rng.uniform(0.98, 1.02), light * (1 - warmth)),
        contrast=rng.uniform(0.85, 1.08),
        blur=rng.uniform(0.2, 0.8),
        noise=rng.uniform(3, 9) if evening else rng.uniform(1, 4),
        quality=rng.randint(68, 90),
        image_height=rng.randint(160, 232),
    )


def expose(scene: Image.Image, camera: Camera, rng: Random) -> bytes:
    """The scene as this camera stores it: a JPEG of the same size."""
    blurred = scene.filter(ImageFilter.GaussianBlur(camera.blur * rng.uniform(0.4, 1.5)))
    light = np.asarray(blurred, dtype=np.float32)
    gains = np.array([gain * rng.uniform(0.96, 1.04) for gain in camera.gains], dtype=np.float32)
    light = (light * gains - 110) * (camera.contrast * rng.uniform(0.95, 1.05)) + 110
    light = light * _falloff(light.shape[:2], rng)[..., None]
    noise = np.random.default_rng(rng.getrandbits(64))
    light += noise.standard_normal(light.shape, dtype=np.float32) * np.float32(camera.noise)
    picture = Image.fromarray(light.clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    quality = max(50, camera.quality + rng.randint(-8, 4))
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _falloff(
    shape: tuple[int, int], rng: Random
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Uneven light over the picture: up to 12 % from one side to the other."""
    height, width = shape
    across, down = rng.uniform(-0.06, 0.06), rng.uniform(-0.06, 0.06)
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    return (1 + across * x + down * y).astype(np.float32)
