"""Garments on the body: what covers the legs, the trunk, the arms and the feet."""

import math

from training.synthetic.anatomy import HIP_Y, WAIST_Y, Chain
from training.synthetic.brush import Ink, Point
from training.synthetic.palette import scaled
from training.synthetic.person import CoatKind, Length, LowerKind, UpperKind
from training.synthetic.sketch import Sketch

_SKIRT_HEM: dict[Length, float] = {"short": 0.65, "knee": 0.755, "ankle": 0.93}
_UPPER_HEM: dict[UpperKind, float] = {"sweater": 0.5, "hoodie": 0.51, "blouse": 0.5, "shirt": 0.51}
_COAT_HEM: dict[CoatKind, float] = {
    "jacket": 0.49, "coat": 0.615, "blazer": 0.53, "cardigan": 0.56, "down jacket": 0.51,
}  # fmt: skip
# How much wider than the leg: at hip, knee and ankle.
_LEG_EASE: dict[LowerKind, tuple[float, float, float]] = {
    "jeans": (1.1, 0.86, 0.66),
    "trousers": (1.14, 0.98, 0.86),
    "leggings": (1.02, 0.7, 0.48),
    "shorts": (1.2, 1.1, 1.1),
    "skirt": (0, 0, 0),
}
_FAR = 0.86
"""Light on the limb behind the body, so that it stands off the near one."""


def draw_legs(sketch: Sketch) -> None:
    """Legs, shoes and what covers them; the far one first."""
    for chain, light in zip(sketch.body.legs, _lights(sketch), strict=True):
        _leg(sketch, chain, light)
    lower = sketch.person.lower
    if lower is None:
        return
    ink = sketch.garment("lower", lower)
    if lower.kind == "skirt":
        _skirt(sketch, ink, WAIST_Y + 0.01, _SKIRT_HEM[lower.length])
        return
    left, right = sketch.body.span(HIP_Y)
    crotch = (left + right) / 2
    seat = [*sketch.body.hull(0.42, 0.5, 0.004, steps=2)]
    seat[3:3] = [(right * 0.8, 0.545), (crotch, 0.555), (left * 0.8, 0.545)]
    seat[2], seat[6] = (left - 0.004, 0.5), (right + 0.004, 0.5)
    sketch.brush.polygon([*seat[:3], *reversed(seat[3:6]), *seat[6:]], ink, seam=False)
    if sketch.from_front:
        sketch.brush.line([(0, 0.5), (0, 0.56)], 0.006, scaled(ink.colour, 0.7))


def _leg(sketch: Sketch, chain: Chain, light: float) -> None:
    hip, knee, ankle = chain
    width = sketch.body.leg_width
    sketch.brush.limb(chain, [width * 0.95, width * 0.68, width * 0.42], sketch.skin.scaled(light))
    lower = sketch.person.lower
    covered = lower is not None and lower.kind != "skirt"
    shod_over = sketch.person.shoes.kind == "boots" and (
        lower is None or lower.kind in ("leggings", "skirt", "shorts")
    )
    if not shod_over:
        _shoe(sketch, chain, light)
    if covered and lower is not None:
        ink = sketch.garment("lower", lower).scaled(light)
        at_hip, at_knee, at_ankle = (width * ease for ease in _LEG_EASE[lower.kind])
        if lower.kind == "shorts":
            end = _between(knee, hip, 0.12)
            sketch.brush.limb([hip, end], [at_hip, at_knee], ink, cut=True)
        else:
            end = _between(ankle, knee, 0.04)
            sketch.brush.limb([hip, knee, end], [at_hip, at_knee, at_ankle], ink, cut=True)
    if shod_over:
        _shoe(sketch, chain, light)


def _shoe(sketch: Sketch, chain: Chain, light: float) -> None:
    _, knee, (x, y) = chain
    shoes = sketch.person.shoes
    ink = sketch.cloth("shoes", shoes.colour).scaled(light)
    if shoes.kind == "boots":
        top = _between((x, y), knee, 0.3)
        sketch.brush.limb([top, (x, y)], [0.062, 0.056], ink)
    if sketch.view.profile:
        # The foot turns with the shin: a leg swung back stands on its toes.
        tilt = max(0.0, knee[0] - x) * 2.2
        c, s = math.cos(tilt), math.sin(tilt)
        sole = [(-0.034, -0.018), (-0.036, 0.03), (0.086, 0.03), (0.078, 0.008), (0.03, -0.02)]
        outline = [(x + c * u - s * v, y + s * u + c * v) for u, v in sole]
        heel, toe = outline[1], outline[2]
    else:
        outline = [
            (x - 0.027, y - 0.015), (x - 0.038, y + 0.03), (x - 0.028, y + 0.044),
            (x + 0.028, y + 0.044), (x + 0.038, y + 0.03), (x + 0.027, y - 0.015),
        ]  # fmt: skip
        heel, toe = (x - 0.034, y + 0.042), (x + 0.034, y + 0.042)
    if shoes.kind == "sandals":
        sketch.brush.polygon(outline, sketch.skin.scaled(light))
        middle = ((outline[0][0] + toe[0]) / 2, (outline[0][1] + toe[1]) / 2)
        sketch.brush.line([outline[0], outline[-1]], 0.014, ink.colour)
        sketch.brush.line([_between(heel, outline[0], 0.4), middle, outline[-2]], 0.014, ink.colour)
        sketch.brush.line([heel, toe], 0.016, ink.colour)
        return
    sketch.brush.polygon(outline, ink)
    if shoes.kind == "sneakers":
        pale = scaled((236, 236, 232), light)
        sketch.brush.line([heel, toe], 0.013, pale)


def _skirt(sketch: Sketch, ink: Ink, top: float, hem: float) -> None:
    stride = abs(sketch.view.stride) if sketch.view.profile else 0
    flare = 0.035 + 0.3 * (hem - 0.6) * 0.35 + 0.06 * stride
    outline = sketch.body.hull(top, hem, 0.008, flare)
    sketch.brush.polygon(outline, ink)
    for share in (0.3, 0.55, 0.75):
        start = _between(outline[1], outline[-2], share)
        end = _between(outline[5], outline[6], share)
        sketch.brush.line([_between(start, end, 0.35), end], 0.004, scaled(ink.colour, 0.8))


def draw_upper(sketch: Sketch) -> None:
    """The garment on the trunk, and a dress down to its hem."""
    upper = sketch.person.upper
    if sketch.person.coat is not None and not sketch.from_front and upper.kind != "dress":
        return  # else its hem would peep out under a short jacket
    ink = sketch.garment("upper", upper)
    brush, body = sketch.brush, sketch.body
    if upper.kind == "dress":
        brush.polygon(body.hull(0.17, WAIST_Y + 0.02, 0.004), ink, seam=False)
        _skirt(sketch, ink, WAIST_Y - 0.01, _SKIRT_HEM[upper.length])
    else:
        loose = 0.012 if upper.kind in ("sweater", "hoodie") else 0.006
        brush.polygon(body.hull(0.165, _UPPER_HEM.get(upper.kind, 0.495), loose), ink)
    dark = scaled(ink.colour, 0.72)
    if upper.kind == "hoodie":
        brush.ellipse((-0.02 if sketch.view.profile else 0, 0.165), 0.062, 0.034, ink.scaled(0.86))
    if upper.kind in ("sweater", "hoodie"):
        left, right = body.span(0.49)
        brush.line([(left, 0.488), (right, 0.488)], 0.01, dark)
    if sketch.from_front:
        _front_of_upper(sketch, ink)


def _front_of_upper(sketch: Sketch, ink: Ink) -> None:
    upper, brush = sketch.person.upper, sketch.brush
    dark = scaled(ink.colour, 0.7)
    deep = {"tank top": 0.225, "dress": 0.215, "blouse": 0.215, "shirt": 0.205, "polo shirt": 0.2}
    bottom = deep.get(upper.kind, 0.19)
    brush.shape(
        [(-0.042, 0.155), (-0.03, 0.178), (0, bottom), (0.03, 0.178), (0.042, 0.155)], sketch.skin
    )
    match upper.kind:
        case "shirt" | "polo shirt":
            buttons_to = 0.5 if upper.kind == "shirt" else 0.28
            brush.line([(0, bottom), (0, buttons_to)], 0.005, dark)
            collar = ink.scaled(0.9)
            for side in (-1, 1):
                brush.polygon(
                    [(side * 0.046, 0.155), (side * 0.006, 0.212), (side * 0.056, 0.198)], collar
                )
        case "hoodie":
            brush.polygon(
                [(-0.05, 0.39), (-0.062, 0.46), (0.062, 0.46), (0.05, 0.39)], ink.scaled(0.93)
            )
            for side in (-1, 1):
                brush.line([(side * 0.014, 0.2), (side * 0.016, 0.27)], 0.006, (235, 235, 230))
    if upper.pattern == "logo":
        accent = Ink(ink.accent)
        brush.ellipse((0, 0.29), 0.045, 0.038, accent)
        brush.polygon(
            [(-0.05, 0.335), (-0.05, 0.35), (0.05, 0.35), (0.05, 0.335)], accent, seam=False
        )


def draw_coat(sketch: Sketch) -> None:
    """The open coat: two fronts with a gap between them, or all around from other sides."""
    coat = sketch.person.coat
    if coat is None:
        return
    ink = sketch.cloth("coat", coat.colour)
    brush, hem = sketch.brush, _COAT_HEM[coat.kind]
    hull = sketch.body.hull(0.16, hem, 0.018, 0.012 if coat.kind == "coat" else 0.004)
    if sketch.from_front:
        steps = len(hull) // 2
        for side, edge in ((-1, hull[:steps]), (1, hull[steps:])):
            inner: list[Point] = [(side * 0.03, 0.16), (side * 0.036, 0.3), (side * 0.052, hem)]
            brush.polygon([*edge, *(reversed(inner) if side < 0 else inner)], ink)
            if coat.kind in ("blazer", "coat"):
                brush.polygon(
                    [(side * 0.03, 0.16), (side * 0.07, 0.24), (side * 0.038, 0.31)],
                    ink.scaled(0.85),
                )
    else:
        brush.polygon(hull, ink)
    if coat.kind == "down jacket":
        for y in (0.24, 0.30, 0.36, 0.42, 0.48):
            left, right = sketch.body.span(y)
            gap = 0.042 if sketch.from_front else 0.0
            seam = scaled(ink.colour, 0.72)
            brush.line([(left - 0.016, y), (-gap, y)], 0.006, seam)
            brush.line([(gap, y), (right + 0.016, y)], 0.006, seam)


def draw_arm(sketch: Sketch, which: int) -> None:
    """An arm with its sleeve and hand; which: 0 or 1, as in Body.arms."""
    shoulder, elbow, wrist = sketch.body.arms[which]
    light = _lights(sketch)[which]
    width, skin = sketch.body.arm_width, sketch.skin.scaled(light)
    sketch.brush.limb([shoulder, elbow, wrist], [width, width * 0.82, width * 0.66], skin)
    dx, dy = (wrist[0] - elbow[0]) / 0.14, (wrist[1] - elbow[1]) / 0.14
    sketch.brush.ellipse((wrist[0] + dx * 0.016, wrist[1] + dy * 0.016), 0.02, 0.022, skin)
    coat, upper = sketch.person.coat, sketch.person.upper
    if coat is not None:
        ink, sleeve, loose = sketch.cloth("coat", coat.colour), "long", 1.4
    else:
        ink, sleeve, loose = sketch.garment("upper", upper), upper.sleeve, 1.2
        loose = 1.35 if upper.kind in ("sweater", "hoodie") else loose
    ink = ink.scaled(light if light < 1 else 0.95)
    if sleeve == "short":
        end = _between(elbow, shoulder, 0.3)
        sketch.brush.limb([shoulder, end], [width * 1.25, width * 1.35], ink, cut=True)
    elif sleeve == "long":
        widths = [width * loose, width * loose * 0.9, width * loose * 0.72]
        cuff = _between(wrist, elbow, 0.06)
        sketch.brush.limb([shoulder, elbow, cuff], widths, ink, cut=True)


def _lights(sketch: Sketch) -> tuple[float, float]:
    return (_FAR, 1.0) if sketch.view.profile else (1.0, 1.0)


def _between(start: Point, end: Point, share: float) -> Point:
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share
