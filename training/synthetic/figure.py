"""A person drawn in one view, on a transparent layer: the parts in the order they cover."""

from PIL import Image

from training.synthetic.belongings import (
    draw_backpack,
    draw_backpack_strap,
    draw_bag,
    draw_held,
)
from training.synthetic.brush import Brush, Point
from training.synthetic.clothes import (
    draw_arm,
    draw_coat,
    draw_legs,
    draw_upper,
)
from training.synthetic.person import Person
from training.synthetic.portrait import (
    draw_hair_behind,
    draw_head,
    draw_neck,
    draw_scarf,
)
from training.synthetic.sketch import Sketch
from training.synthetic.view import View

_FINENESS = 3
"""Drawn this many times larger, then reduced: ImageDraw's own edges are jagged."""


def draw_figure(
    person: Person, view: View, size: tuple[int, int], height: float, crown: Point
) -> Image.Image:
    """An RGBA layer of that size (width, height) with the person on it.

    height: pixels from crown to sole; crown: where the top of the head is, in pixels.
    """
    large = (size[0] * _FINENESS, size[1] * _FINENESS)
    origin = (crown[0] * _FINENESS, crown[1] * _FINENESS)
    # Anatomy is drawn facing the viewer's right, and a back as a front: so both are mirrored.
    mirrored = view.facing in ("left", "back")
    brush = Brush(large, height * _FINENESS, origin, mirrored=mirrored)
    sketch = Sketch(brush, person, view)
    if view.profile:
        _from_the_side(sketch)
    elif view.facing == "front":
        _from_the_front(sketch)
    else:
        _from_behind(sketch)
    return brush.image.reduce(_FINENESS)


def _from_the_front(sketch: Sketch) -> None:
    draw_hair_behind(sketch)
    draw_legs(sketch)
    draw_neck(sketch)
    draw_upper(sketch)
    draw_coat(sketch)
    draw_backpack(sketch)
    draw_arm(sketch, 1)
    draw_bag(sketch)
    draw_scarf(sketch)
    draw_head(sketch)
    draw_arm(sketch, 0)
    draw_held(sketch)


def _from_behind(sketch: Sketch) -> None:
    raises_hand = sketch.person.held is not None and sketch.person.held.is_raised
    if raises_hand:  # before the chest, which then covers hand and arm
        draw_arm(sketch, 0)
        draw_held(sketch)
    draw_legs(sketch)
    draw_neck(sketch)
    draw_upper(sketch)
    draw_coat(sketch)
    if not raises_hand:
        draw_arm(sketch, 0)
        draw_held(sketch)
    draw_arm(sketch, 1)
    draw_backpack(sketch)
    draw_bag(sketch)
    draw_scarf(sketch)
    draw_head(sketch)


def _from_the_side(sketch: Sketch) -> None:
    draw_arm(sketch, 0)
    draw_legs(sketch)
    draw_backpack(sketch)
    draw_neck(sketch)
    draw_upper(sketch)
    draw_coat(sketch)
    draw_scarf(sketch)
    draw_head(sketch)
    draw_held(sketch)
    draw_backpack_strap(sketch)
    draw_arm(sketch, 1)
    draw_bag(sketch)
