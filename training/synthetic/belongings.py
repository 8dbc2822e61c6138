"""Bags and things in the hand."""

import math
from collections.abc import Callable

from training.synthetic.anatomy import SHOULDER_Y
from training.synthetic.brush import Ink, Point
from training.synthetic.palette import Rgb, scaled
from training.synthetic.person import HeldKind
from training.synthetic.sketch import Sketch

_GREY: Rgb = (120, 122, 126)


def draw_backpack(sketch: Sketch) -> None:
    """Whole from behind, as a bulge from the side, as two straps from the front."""
    bag = sketch.person.bag
    if bag is None or bag.kind != "backpack":
        return
    ink, brush, body = sketch.cloth("bag", bag.colour), sketch.brush, sketch.body
    edge = body.span(0.22)[1]
    if sketch.from_behind:
        half = max(0.078, edge * 0.86)
        outline: list[Point] = [
            (-half * 0.8, 0.2), (0, 0.185), (half * 0.8, 0.2), (half, 0.28),
            (half * 0.98, 0.42), (0, 0.44), (-half * 0.98, 0.42), (-half, 0.28),
        ]  # fmt: skip
        brush.shape(outline, ink)
        pocket: list[Point] = [
            (-half * 0.66, 0.33), (half * 0.66, 0.33), (half * 0.66, 0.41), (-half * 0.66, 0.41),
        ]  # fmt: skip
        brush.shape(pocket, ink.scaled(0.88))
        brush.line([(-half * 0.7, 0.255), (half * 0.7, 0.255)], 0.006, scaled(ink.colour, 0.65))
        brush.ring((0, 0.185), 0.016, 0.014, 0.008, scaled(ink.colour, 0.7))
    elif sketch.view.profile:
        back = body.span(0.26)[0] - 0.006
        brush.shape(
            [
                (back + 0.012, 0.19), (back - 0.05, 0.2), (back - 0.084, 0.28),
                (back - 0.088, 0.4), (back - 0.03, 0.43), (back + 0.016, 0.42),
            ],
            ink,
        )  # fmt: skip
        brush.line([(back - 0.08, 0.33), (back - 0.01, 0.33)], 0.006, scaled(ink.colour, 0.7))
    else:
        for side in (-1, 1):
            brush.limb(
                [
                    (side * edge * 0.66, 0.172),
                    (side * edge * 0.7, 0.27),
                    (side * edge * 0.92, 0.37),
                ],
                [0.03, 0.03, 0.024],
                ink,
            )


def draw_backpack_strap(sketch: Sketch) -> None:
    """The strap around the near shoulder, which lies over the trunk when seen from the side."""
    bag = sketch.person.bag
    if bag is not None and bag.kind == "backpack" and sketch.view.profile:
        ink = sketch.cloth("bag", bag.colour)
        sketch.brush.limb(
            [(-0.05, 0.185), (0.022, 0.2), (0.03, 0.29), (-0.05, 0.37)], [0.022] * 4, ink
        )


def draw_bag(sketch: Sketch) -> None:
    """Shoulder bag, handbag or suitcase, at the side of arm 1."""
    bag = sketch.person.bag
    if bag is None or bag.kind == "backpack":
        return
    ink, brush, body = sketch.cloth("bag", bag.colour), sketch.brush, sketch.body
    hand = body.arms[1][2]
    match bag.kind:
        case "shoulder bag":
            far = -body.span(SHOULDER_Y)[1] * 0.62
            x = body.span(0.5)[1] * 0.95 if not sketch.view.profile else -0.02
            start: Point = (0.01, 0.17) if sketch.view.profile else (far, 0.175)
            brush.line([start, (x - 0.01, 0.45)], 0.016, scaled(ink.colour, 0.82))
            _satchel(sketch, (x, 0.5), 0.062, 0.062, ink)
        case "handbag":
            x, y = hand
            brush.ring((x, y + 0.06), 0.03, 0.05, 0.01, scaled(ink.colour, 0.7))
            _satchel(sketch, (x, y + 0.125), 0.06, 0.05, ink)
        case "suitcase":
            x = -0.22 if sketch.view.profile else max(0.19, hand[0] + 0.03)
            brush.line([hand, (x, 0.64)], 0.012, _GREY)
            brush.line(
                [(x - 0.03, 0.7), (x - 0.03, 0.64), (x + 0.03, 0.64), (x + 0.03, 0.7)], 0.01, _GREY
            )
            brush.shape(
                [
                    (x - 0.07, 0.69), (x + 0.07, 0.69), (x + 0.072, 0.8),
                    (x + 0.07, 0.965), (x - 0.07, 0.965), (x - 0.072, 0.8),
                ],
                ink,
            )  # fmt: skip
            for rib in (-0.025, 0.025):
                brush.line([(x + rib, 0.71), (x + rib, 0.95)], 0.007, scaled(ink.colour, 0.75))
            for wheel in (-0.045, 0.045):
                brush.ellipse((x + wheel, 0.975), 0.014, 0.014, Ink((25, 25, 28)))


def _satchel(
    sketch: Sketch, centre: Point, half_width: float, half_height: float, ink: Ink
) -> None:
    x, y = centre
    w, h = half_width, half_height
    sketch.brush.shape(
        [
            (x - w * 0.9, y - h),
            (x + w * 0.9, y - h),
            (x + w, y + h * 0.8),
            (x, y + h),
            (x - w, y + h * 0.8),
        ],
        ink,
    )
    flap: list[Point] = [
        (x - w * 0.9, y - h),
        (x + w * 0.9, y - h),
        (x + w * 0.8, y - h * 0.1),
        (x - w * 0.8, y - h * 0.1),
    ]
    sketch.brush.polygon(flap, ink.scaled(0.88))
    sketch.brush.ellipse((x, y - h * 0.08), 0.008, 0.008, Ink((214, 190, 110)))


def draw_held(sketch: Sketch) -> None:
    """The thing in the hand of arm 0."""
    held = sketch.person.held
    if held is not None:
        hand = sketch.body.arms[0][2]
        _HELD[held.kind](sketch, hand, sketch.cloth("held", held.colour))


def _phone(sketch: Sketch, hand: Point, ink: Ink) -> None:
    x, y = hand
    sketch.brush.polygon(
        [
            (x - 0.005, y - 0.06),
            (x + 0.037, y - 0.06),
            (x + 0.037, y + 0.012),
            (x - 0.005, y + 0.012),
        ],
        ink,
    )
    if sketch.view.profile:
        sketch.brush.line([(x, y - 0.05), (x, y + 0.004)], 0.01, (150, 200, 235))


def _book(sketch: Sketch, hand: Point, ink: Ink) -> None:
    x, y = hand
    sketch.brush.polygon(
        [(x - 0.04, y - 0.07), (x + 0.05, y - 0.07), (x + 0.05, y + 0.05), (x - 0.04, y + 0.05)],
        ink,
    )
    sketch.brush.line([(x + 0.05, y - 0.064), (x + 0.05, y + 0.046)], 0.012, (240, 238, 225))


def _cup(sketch: Sketch, hand: Point, ink: Ink) -> None:
    x, y = hand
    sketch.brush.polygon(
        [
            (x - 0.012, y - 0.05),
            (x + 0.042, y - 0.05),
            (x + 0.034, y + 0.026),
            (x - 0.004, y + 0.026),
        ],
        ink,
    )
    sketch.brush.line([(x - 0.014, y - 0.052), (x + 0.044, y - 0.052)], 0.012, (60, 50, 46))


def _bottle(sketch: Sketch, hand: Point, ink: Ink) -> None:
    x, y = hand
    sketch.brush.limb([(x, y), (x, y + 0.09)], [0.036, 0.04], ink)
    sketch.brush.limb([(x, y - 0.034), (x, y - 0.02)], [0.018, 0.02], Ink((235, 235, 235)))


def _shopping_bag(sketch: Sketch, hand: Point, ink: Ink) -> None:
    x, y = hand
    sketch.brush.ring((x, y + 0.05), 0.024, 0.04, 0.007, scaled(ink.colour, 0.6))
    sketch.brush.polygon(
        [
            (x - 0.058, y + 0.075),
            (x + 0.058, y + 0.075),
            (x + 0.064, y + 0.2),
            (x - 0.064, y + 0.2),
        ],
        ink,
    )


def _umbrella(sketch: Sketch, hand: Point, ink: Ink) -> None:
    x, _ = hand
    top, rim, reach = -0.16, -0.045, 0.235
    centre = x * 0.5
    sketch.brush.line([(x + 0.01, hand[1] + 0.03), (centre, top)], 0.012, _GREY)
    arc: list[Point] = [
        (centre + reach * math.cos(angle), rim - (rim - top) * math.sin(angle))
        for angle in (i * math.pi / 12 for i in range(13))
    ]
    scallops: list[Point] = []
    for i in range(4):
        left = centre - reach + i * reach / 2
        scallops += [(left, rim), (left + reach / 4, rim - 0.02)]
    sketch.brush.polygon([*arc, *scallops], ink)
    for share in (-0.5, 0.0, 0.5):
        sketch.brush.line(
            [(centre + share * reach, rim), (centre, top)], 0.005, scaled(ink.colour, 0.75)
        )


_HELD: dict[HeldKind, Callable[[Sketch, Point, Ink], None]] = {
    "phone": _phone,
    "umbrella": _umbrella,
    "bottle": _bottle,
    "book": _book,
    "shopping bag": _shopping_bag,
    "cup": _cup,
}
