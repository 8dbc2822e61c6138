"""Head and neck: face, hair, hat, eyewear, scarf."""

from training.synthetic.brush import Ink, Point
from training.synthetic.palette import scaled
from training.synthetic.sketch import Sketch

_DARK = (32, 28, 30)


def draw_neck(sketch: Sketch) -> None:
    x, y = sketch.body.head
    width = 0.056 if sketch.person.gender == "man" else 0.046
    sketch.brush.limb(
        [(x * 0.4, 0.17), (x * 0.6, y + 0.03)], [width, width], sketch.skin.scaled(0.92)
    )


def draw_scarf(sketch: Sketch) -> None:
    if sketch.person.scarf is None:
        return
    ink = sketch.cloth("scarf", sketch.person.scarf)
    if not sketch.from_behind:
        x = 0.03 if sketch.view.profile else 0.022
        sketch.brush.polygon(
            [(x - 0.018, 0.17), (x - 0.022, 0.33), (x + 0.024, 0.33), (x + 0.02, 0.17)], ink
        )
    half = 0.05 if sketch.view.profile else 0.066
    sketch.brush.ellipse((0.004, 0.163), half, 0.027, ink.scaled(0.75))
    sketch.brush.ellipse((0.004, 0.160), half - 0.005, 0.023, ink)


def draw_hair_behind(sketch: Sketch) -> None:
    """The part of loose hair that the head and shoulders cover when seen from the front."""
    style = sketch.person.hair.style
    if style in ("long", "bob") and sketch.from_front:
        (x, y), width = sketch.body.head, sketch.body.head_width
        end = 0.255 if style == "long" else 0.165
        sketch.brush.shape(
            [
                (x - width * 1.05, y - 0.02), (x - width * 1.35, end - 0.02), (x - width, end),
                (x + width, end), (x + width * 1.35, end - 0.02), (x + width * 1.05, y - 0.02),
            ],
            sketch.hair.scaled(0.85),
        )  # fmt: skip


def draw_head(sketch: Sketch) -> None:
    """Face or back of the head, hair, beard, eyewear, hat: in the order in which they cover."""
    (x, y), width, height = sketch.body.head, sketch.body.head_width, sketch.body.head_height
    brush, skin = sketch.brush, sketch.skin
    if not sketch.from_behind:
        for side in (-1, 1):
            if not sketch.view.profile:
                brush.ellipse((x + side * width, y + 0.006), 0.009, 0.015, skin.scaled(0.9))
    brush.ellipse((x, y), width, height, skin)
    if sketch.view.profile:
        nose = [
            (x + width * 0.9, y - 0.008),
            (x + width + 0.014, y + 0.014),
            (x + width * 0.85, y + 0.018),
        ]
        brush.polygon(nose, skin, seam=False)
        brush.ellipse((x - 0.008, y + 0.006), 0.009, 0.014, skin.scaled(0.85))
    if not sketch.from_behind:
        _face(sketch)
    _hair(sketch)
    if sketch.person.eyewear is not None and not sketch.from_behind:
        _eyewear(sketch)
    if sketch.person.hat is not None:
        _hat(sketch)


def _face(sketch: Sketch) -> None:
    (x, y), width, height = sketch.body.head, sketch.body.head_width, sketch.body.head_height
    brush = sketch.brush
    if sketch.person.beard:
        ink = sketch.hair
        if sketch.view.profile:
            beard = [
                (x - 0.002, y + 0.012),
                (x + width * 0.5, y + 0.03),
                (x + width, y + 0.028),
                (x + width * 0.86, y + height * 1.06),
                (x + 0.006, y + height * 0.9),
            ]
        else:
            beard = [
                (x - width, y + 0.012),
                (x - width * 0.5, y + 0.028),
                (x + width * 0.5, y + 0.028),
                (x + width, y + 0.012),
                (x + width * 0.7, y + height * 0.9),
                (x, y + height * 1.08),
                (x - width * 0.7, y + height * 0.9),
            ]
        brush.shape(beard, ink, seam=False)
    eyes = (x + width * 0.62,) if sketch.view.profile else (x - width * 0.4, x + width * 0.4)
    for eye in eyes:
        brush.ellipse((eye, y + 0.001), 0.0075, 0.005, Ink((245, 245, 245)))
        brush.ellipse((eye, y + 0.001), 0.0045, 0.005, Ink(_DARK))
        brush.line(
            [(eye - 0.01, y - 0.012), (eye + 0.01, y - 0.012)],
            0.005,
            scaled(sketch.hair.colour, 0.8),
        )
    lips = scaled(sketch.skin.colour, 0.66)
    mouth = x + width * 0.66 if sketch.view.profile else x
    reach = 0.01 if sketch.view.profile else 0.015
    brush.line([(mouth - reach, y + 0.038), (mouth + reach, y + 0.038)], 0.006, lips)
    if not sketch.view.profile:
        brush.line([(x, y + 0.006), (x + 0.004, y + 0.02)], 0.004, scaled(sketch.skin.colour, 0.8))


def _hair(sketch: Sketch) -> None:
    style, ink, brush = sketch.person.hair.style, sketch.hair, sketch.brush
    (x, y), width, height = sketch.body.head, sketch.body.head_width, sketch.body.head_height
    if style == "bald":
        return
    top = y - height
    if style == "curly":
        spots = 9
        for i in range(spots):
            share = i / (spots - 1) * 2 - 1
            lift = (1 - share * share) * 0.06
            at = (x - 0.006 * sketch.view.profile + share * width * 1.08, y - 0.012 - lift)
            brush.ellipse(at, 0.026, 0.026, ink.scaled(0.92 + 0.1 * (i % 2)))
    if sketch.from_behind:
        brush.ellipse((x, y - 0.004), width * 1.06, height * 0.98, ink)
        _hair_down_the_back(sketch)
        return
    if sketch.view.profile:
        nape = 0.03 if style == "short" else 0.05
        cap = [
            (x + width * 0.86, y - 0.03), (x + width * 0.5, top - 0.006),
            (x - width * 0.4, top - 0.006), (x - width * 1.1, y - 0.025),
            (x - width * 1.05, y + nape), (x - width * 0.55, y + nape),
            (x - width * 0.28, y - 0.004), (x + width * 0.2, y - 0.022),
        ]  # fmt: skip
        brush.shape(cap, ink)
        _hair_down_the_back(sketch)
        return
    fringe = y - 0.03
    low = {"long": 0.075, "bob": 0.06}.get(style, 0.008)
    brush.shape(
        [
            (x - width * 1.04, y + low), (x - width * 1.1, y - 0.02), (x - width * 0.66, top),
            (x, top - 0.008), (x + width * 0.66, top), (x + width * 1.1, y - 0.02),
            (x + width * 1.04, y + low), (x + width * 0.84, y - 0.012), (x + width * 0.5, fringe),
            (x - width * 0.3, fringe - 0.006), (x - width * 0.84, y - 0.012),
        ],
        ink,
    )  # fmt: skip


def _hair_down_the_back(sketch: Sketch) -> None:
    """What hangs or is tied behind the head; from the side it lies at -x."""
    (x, y), width = sketch.body.head, sketch.body.head_width
    ink, brush = sketch.hair, sketch.brush
    back = x - width if sketch.view.profile else x
    match sketch.person.hair.style:
        case "long" | "bob" as style:
            end = 0.27 if style == "long" else 0.165
            if sketch.view.profile:
                outline: list[Point] = [
                    (x, y - 0.02), (back - 0.012, y - 0.02), (back - 0.024, end - 0.03),
                    (back + 0.004, end), (x - 0.006, end - 0.02), (x - 0.002, y + 0.03),
                ]  # fmt: skip
            else:
                outline = [
                    (-width * 1.06, y), (-width * 1.3, end - 0.03), (-width * 0.7, end),
                    (width * 0.7, end), (width * 1.3, end - 0.03), (width * 1.06, y),
                ]  # fmt: skip
            brush.shape(outline, ink)
            for share in (-0.4, 0.1, 0.5):
                at = x - width * 0.7 if sketch.view.profile else share * width
                brush.line([(at, y), (at, end - 0.02)], 0.003, scaled(ink.colour, 0.8))
        case "ponytail":
            tail = ink.scaled(0.88)
            brush.limb(
                [
                    (back, y - 0.02),
                    (back - 0.026 * sketch.view.profile, y + 0.06),
                    (back - 0.014 * sketch.view.profile, 0.25),
                ],
                [0.03, 0.042, 0.014],
                tail,
            )
            brush.ellipse((back, y - 0.02), 0.017, 0.013, Ink((190, 60, 90)))
        case "bun":
            brush.ellipse(
                (back - 0.012 * sketch.view.profile, y - 0.032), 0.032, 0.03, ink.scaled(0.8)
            )
            brush.ellipse((back - 0.012 * sketch.view.profile, y - 0.034), 0.027, 0.025, ink)


def _eyewear(sketch: Sketch) -> None:
    (x, y), width = sketch.body.head, sketch.body.head_width
    dark = sketch.person.eyewear == "sunglasses"
    eyes = (x + width * 0.64,) if sketch.view.profile else (x - width * 0.42, x + width * 0.42)
    for eye in eyes:
        if dark:
            sketch.brush.ellipse((eye, y + 0.002), 0.0185, 0.0145, Ink((18, 18, 22)))
        else:
            sketch.brush.ellipse((eye, y + 0.002), 0.0175, 0.0145, Ink((205, 222, 232)))
            sketch.brush.ellipse((eye, y + 0.002), 0.0045, 0.005, Ink(_DARK))
            sketch.brush.ring((eye, y + 0.002), 0.0185, 0.0155, 0.006, (20, 20, 24))
    temple = (x - width * 0.2, y - 0.002) if sketch.view.profile else (x - width * 0.2, y)
    inner = (x + width * 0.5, y) if sketch.view.profile else (x + width * 0.2, y)
    sketch.brush.line([temple, inner], 0.006, (20, 20, 24))


def _hat(sketch: Sketch) -> None:
    hat = sketch.person.hat
    assert hat is not None
    (x, y), width, height = sketch.body.head, sketch.body.head_width, sketch.body.head_height
    ink, brush = sketch.cloth("hat", hat.colour), sketch.brush
    top, rim = y - height, y - 0.026
    crown = [
        (x - width * 1.14, rim), (x - width * 1.0, top + 0.004), (x, top - 0.022),
        (x + width * 1.0, top + 0.004), (x + width * 1.14, rim),
    ]  # fmt: skip
    match hat.kind:
        case "cap":
            brush.shape([*crown, (x, rim + 0.006)], ink)
            if sketch.view.profile:
                brush.shape(
                    [
                        (x + width * 0.6, rim - 0.012),
                        (x + width * 2.1, rim + 0.004),
                        (x + width * 0.7, rim + 0.01),
                    ],
                    ink.scaled(0.85),
                )
            elif sketch.from_front:
                brush.shape(
                    [
                        (x - width, rim - 0.008),
                        (x, rim - 0.014),
                        (x + width, rim - 0.008),
                        (x + width * 0.8, rim + 0.012),
                        (x, rim + 0.016),
                        (x - width * 0.8, rim + 0.012),
                    ],
                    ink.scaled(0.8),
                )
        case "beanie":
            brush.shape([*crown, (x, rim + 0.004)], ink)
            brush.limb(
                [(x - width * 1.02, rim), (x + width * 1.02, rim)], [0.03, 0.03], ink.scaled(0.86)
            )
            brush.ellipse((x, top - 0.022), 0.02, 0.018, ink.scaled(1.1))
        case "sun hat":
            brush.ellipse((x, rim), width * 2.1, 0.022, ink.scaled(0.9))
            brush.shape([*crown[1:4], (x + width * 0.95, rim), (x - width * 0.95, rim)], ink)
            brush.line(
                [(x - width, rim - 0.006), (x + width, rim - 0.006)], 0.012, scaled(ink.colour, 0.6)
            )
