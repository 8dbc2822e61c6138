"""One image: a person before a street, others around, something in the way, through a camera."""

from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from training.synthetic.camera import Camera, expose
from training.synthetic.figure import draw_figure
from training.synthetic.person import Person
from training.synthetic.street import draw_car, draw_leaves, draw_street
from training.synthetic.view import View, draw_view
from training.synthetic.wardrobe import draw_person

SHINS = 0.84
"""Share of a person's height from which on nothing is seen where the feet are hidden."""


class Frame(NamedTuple):
    """The detector's box, in the person's units (crown 0, sole 1), and its size in pixels."""

    top: float
    bottom: float
    height: int

    @property
    def scale(self) -> float:
        """Pixels for a unit."""
        return self.height / (self.bottom - self.top)


def take_photo(person: Person, view: View, camera: Camera, rng: Random) -> bytes:
    """A JPEG as a detector would have cropped it: upright, 128 to 256 pixels high."""
    cropped = view.feet_hidden and rng.random() < 0.5
    frame = _frame(person, camera, cropped, rng)
    figure = _cut_out(person, view, frame, rng)
    size = figure.size
    scene = draw_street(camera.place, size, rng).filter(
        ImageFilter.GaussianBlur(rng.uniform(0.6, 1.8))
    )
    if rng.random() < 0.3:
        _passer_by(scene, frame, rng)
    _shadow(scene, frame, rng)
    scene.paste(_rounded(figure, rng), mask=figure)
    if view.feet_hidden and not cropped:
        _hide_feet(scene, frame, rng)
    elif rng.random() < 0.08:
        _pole(scene, rng)
    return expose(scene, camera, rng)


def _frame(person: Person, camera: Camera, cropped: bool, rng: Random) -> Frame:
    headroom = 0.16 if person.held is not None and person.held.kind == "umbrella" else 0.02
    return Frame(
        top=-headroom - rng.uniform(0.005, 0.06),
        bottom=SHINS - 0.02 * rng.random() if cropped else 1.005 + rng.uniform(0, 0.05),
        height=max(128, min(256, round(camera.image_height * rng.uniform(0.8, 1.2)))),
    )


def _cut_out(person: Person, view: View, frame: Frame, rng: Random) -> Image.Image:
    """The figure on a transparent layer that leaves it as much room as a detector's box does."""
    wide = round(0.9 * frame.scale)
    crown = (wide / 2, -frame.top * frame.scale)
    layer = draw_figure(person, view, (wide, frame.height), frame.scale, crown)
    left, _, right, _ = layer.getbbox() or (0, 0, wide, 0)
    width = min(
        max((right - left) * rng.uniform(1.02, 1.12), 0.42 * frame.height), 0.62 * frame.height
    )
    middle = (left + right) / 2 + rng.uniform(-0.03, 0.03) * frame.height
    start = round(middle - width / 2)
    return layer.crop((start, 0, start + round(width), frame.height))


def _rounded(figure: Image.Image, rng: Random) -> Image.Image:
    """The figure lit from one side, in folds: round, not cut from paper."""
    soft = figure.getchannel("A").filter(ImageFilter.GaussianBlur(figure.height * 0.018))
    mass = np.asarray(soft, dtype=np.float32) / 255
    light = 0.80 + 0.2 * mass + np.gradient(mass, axis=1) * figure.height * rng.uniform(-0.05, 0.05)
    coarse = np.random.default_rng(rng.getrandbits(64)).uniform(0.88, 1.1, (24, 10))
    folds = Image.fromarray(coarse.astype(np.float32)).resize(figure.size, Image.Resampling.BICUBIC)
    light = (light * np.asarray(folds)).clip(0.6, 1.15)
    colours = np.asarray(figure.convert("RGB"), dtype=np.float32) * light[..., None]
    return Image.fromarray(colours.clip(0, 255).astype(np.uint8))


def _passer_by(scene: Image.Image, frame: Frame, rng: Random) -> None:
    """Somebody else, smaller, out of focus and cut by the edge."""
    view = draw_view(rng, rng.choice(("front", "back", "left", "right")))
    height = frame.scale * rng.uniform(0.45, 0.7)
    x = rng.choice((rng.uniform(-0.08, 0.12), rng.uniform(0.88, 1.08))) * scene.width
    crown = (x, scene.height * rng.uniform(0.12, 0.2))
    layer = draw_figure(draw_person(rng), view, scene.size, height, crown)
    layer = layer.filter(ImageFilter.GaussianBlur(rng.uniform(1, 2.2)))
    scene.paste(layer, mask=layer)


def _shadow(scene: Image.Image, frame: Frame, rng: Random) -> None:
    """Soft darkness on the ground under the feet."""
    mask = Image.new("L", scene.size)
    x, y = scene.width / 2, (0.985 - frame.top) * frame.scale
    wide, tall = rng.uniform(0.13, 0.2) * frame.scale, 0.022 * frame.scale
    ImageDraw.Draw(mask).ellipse([x - wide, y - tall, x + wide, y + tall], fill=150)
    mask = mask.filter(ImageFilter.GaussianBlur(0.012 * frame.scale))
    scene.paste((20, 20, 24), mask=mask)


def _hide_feet(scene: Image.Image, frame: Frame, rng: Random) -> None:
    """A hedge, a low wall or a car between the camera and everything below the shins."""
    top = (SHINS - frame.top) * frame.scale
    draw = ImageDraw.Draw(scene)
    obstacle = rng.choice(("hedge", "wall", "car"))
    if obstacle == "hedge":
        draw_leaves(draw, scene.size, top, rng)
    else:
        grey = rng.randint(90, 170)
        draw.rectangle([0, top, scene.width, scene.height], fill=(grey, grey, grey))
        draw.line([(0, top), (scene.width, top)], fill=(grey - 40,) * 3, width=2)
    if obstacle == "car":
        length = scene.width * rng.uniform(1.3, 1.7)
        draw_car(draw, (-rng.uniform(0.1, 0.3) * length, top + 0.28 * length), length, rng)


def _pole(scene: Image.Image, rng: Random) -> None:
    """A thin pole before the person, a little off the middle."""
    x = scene.width * rng.choice((rng.uniform(0.12, 0.36), rng.uniform(0.64, 0.88)))
    wide, grey = scene.width * rng.uniform(0.03, 0.06), rng.randint(50, 130)
    draw = ImageDraw.Draw(scene)
    draw.rectangle([x, 0, x + wide, scene.height], fill=(grey, grey, grey + 4))
    draw.rectangle([x, 0, x + wide / 3, scene.height], fill=(grey + 25, grey + 25, grey + 28))
