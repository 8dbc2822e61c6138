"""Where people walk: a wall or facade, the ground in front of it, and what stands around."""

from collections.abc import Callable
from random import Random
from typing import Literal, get_args

from PIL import Image, ImageDraw

from training.synthetic.palette import Rgb, scaled

Place = Literal["shops", "bricks", "offices", "park", "car park", "station", "crossing"]
PLACES: tuple[Place, ...] = get_args(Place)

_STONE: tuple[Rgb, ...] = (
    (176, 170, 160), (150, 146, 142), (196, 188, 172), (128, 128, 130), (166, 150, 132),
)  # fmt: skip
_SIGNS: tuple[Rgb, ...] = (
    (150, 50, 50),
    (50, 90, 120),
    (70, 110, 80),
    (170, 140, 80),
    (60, 60, 66),
)
_CARS: tuple[Rgb, ...] = (
    (60, 62, 68),
    (168, 170, 172),
    (120, 44, 44),
    (52, 70, 100),
    (210, 210, 208),
)
_LEAVES: tuple[Rgb, ...] = ((70, 96, 58), (88, 110, 66), (58, 82, 56), (110, 116, 70))


def draw_street(place: Place, size: tuple[int, int], rng: Random) -> Image.Image:
    """An RGB picture of the place, (width, height) large; drawn differently at each call."""
    image = Image.new("RGB", size, rng.choice(_STONE))
    draw = ImageDraw.Draw(image)
    horizon = size[1] * rng.uniform(0.42, 0.68)
    _SCENES[place](draw, size, horizon, rng)
    return image


def _shops(draw: ImageDraw.ImageDraw, size: tuple[int, int], horizon: float, rng: Random) -> None:
    width, height = size
    x = -rng.uniform(0, 0.4) * width
    while x < width:
        shop = rng.uniform(0.5, 0.9) * width
        wall = _tint(rng.choice(_STONE), rng)
        draw.rectangle([x, 0, x + shop, horizon], fill=wall)
        sign = horizon * rng.uniform(0.12, 0.3)
        draw.rectangle(
            [x, sign, x + shop, sign + 0.09 * height], fill=_tint(rng.choice(_SIGNS), rng)
        )
        for i in range(rng.randint(4, 8)):
            letter = x + shop * (0.1 + 0.1 * i)
            draw.rectangle(
                [letter, sign + 0.03 * height, letter + 0.05 * shop, sign + 0.065 * height],
                fill=(222, 216, 200),
            )
        glass = _tint((84, 98, 108), rng)
        draw.rectangle(
            [x + 0.06 * shop, sign + 0.13 * height, x + 0.66 * shop, horizon * 0.94], fill=glass
        )
        for _ in range(5):
            gx, gy = x + rng.uniform(0.1, 0.6) * shop, rng.uniform(sign + 0.2 * height, horizon)
            goods = _tint(rng.choice(_SIGNS + _STONE), rng)
            draw.rectangle(
                [gx, gy - 0.07 * height, gx + 0.07 * shop, min(gy, horizon * 0.93)], fill=goods
            )
        draw.rectangle(
            [x + 0.72 * shop, sign + 0.14 * height, x + 0.93 * shop, horizon],
            fill=scaled(wall, 0.5),
        )
        x += shop
    _pavement(draw, size, horizon, rng)


def _bricks(draw: ImageDraw.ImageDraw, size: tuple[int, int], horizon: float, rng: Random) -> None:
    width, height = size
    brick = _tint(rng.choice(((142, 84, 66), (160, 128, 104), (120, 96, 86), (150, 140, 128))), rng)
    draw.rectangle([0, 0, width, horizon], fill=scaled(brick, 0.82))
    row = height * rng.uniform(0.022, 0.035)
    y, odd = 0.0, False
    while y < horizon:
        x = -row * (1.2 if odd else 0)
        while x < width:
            draw.rectangle(
                [x, y, x + 2.2 * row, y + 0.8 * row], fill=scaled(brick, rng.uniform(0.88, 1.1))
            )
            x += 2.4 * row
        y, odd = y + row, not odd
    if rng.random() < 0.5:
        x, wide = rng.uniform(-0.2, 0.9) * width, 0.4 * width
        draw.rectangle([x, 0.1 * height, x + wide, horizon * 0.7], fill=(206, 202, 194))
        draw.rectangle(
            [x + 0.05 * wide, 0.12 * height, x + 0.95 * wide, horizon * 0.68],
            fill=_tint((76, 88, 100), rng),
        )
    _pavement(draw, size, horizon, rng)


def _offices(draw: ImageDraw.ImageDraw, size: tuple[int, int], horizon: float, rng: Random) -> None:
    width, _ = size
    frame, glass = _tint((108, 114, 120), rng), _tint((120, 144, 160), rng)
    draw.rectangle([0, 0, width, horizon], fill=frame)
    columns, rows = rng.randint(2, 4), rng.randint(2, 4)
    left = -rng.random() * width / columns
    for i in range(columns + 1):
        for j in range(rows):
            x, y = left + i * width / columns, j * horizon / rows
            draw.rectangle(
                [x, y, x + 0.86 * width / columns, y + 0.88 * horizon / rows],
                fill=scaled(glass, rng.uniform(0.65, 1.15)),
            )
    _pavement(draw, size, horizon, rng)


def _park(draw: ImageDraw.ImageDraw, size: tuple[int, int], horizon: float, rng: Random) -> None:
    width, height = size
    draw.rectangle([0, 0, width, horizon], fill=_tint((176, 196, 206), rng))
    for _ in range(34):
        x, y = rng.uniform(-0.1, 1.1) * width, rng.uniform(0, 1) * horizon
        r = rng.uniform(0.06, 0.17) * height
        draw.ellipse([x - r, y - r, x + r, y + 0.8 * r], fill=_tint(rng.choice(_LEAVES), rng))
    for _ in range(rng.randint(1, 3)):
        x, wide = rng.uniform(0, 1) * width, rng.uniform(0.05, 0.1) * width
        draw.rectangle([x, 0.1 * height, x + wide, horizon], fill=_tint((88, 70, 54), rng))
    draw.rectangle([0, horizon, width, height], fill=_tint((98, 120, 74), rng))
    path = _tint((180, 168, 146), rng)
    draw.polygon(
        [
            (0.3 * width, horizon),
            (0.7 * width, horizon),
            (1.4 * width, height),
            (-0.4 * width, height),
        ],
        fill=path,
    )


def _car_park(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], horizon: float, rng: Random
) -> None:
    width, height = size
    _offices(draw, size, horizon * 0.6, rng)
    draw.rectangle([0, horizon * 0.6, width, height], fill=_tint((112, 112, 114), rng))
    for i in range(4):
        x = (i * 0.4 - 0.2) * width
        draw.line(
            [(x, horizon), (x - 0.3 * width, height)],
            fill=(196, 196, 190),
            width=max(1, width // 50),
        )
    for _ in range(rng.randint(1, 3)):
        draw_car(
            draw,
            (rng.uniform(-0.4, 0.9) * width, horizon * rng.uniform(0.7, 1.05)),
            0.8 * width,
            rng,
        )


def _station(draw: ImageDraw.ImageDraw, size: tuple[int, int], horizon: float, rng: Random) -> None:
    width, height = size
    wall = _tint((206, 204, 198), rng)
    draw.rectangle([0, 0, width, horizon], fill=wall)
    tile = width / rng.uniform(4, 8)
    for i in range(9):
        draw.line([(i * tile, 0), (i * tile, horizon)], fill=scaled(wall, 0.88))
        draw.line([(0, i * tile), (width, i * tile)], fill=scaled(wall, 0.88))
    x, wide = rng.uniform(-0.1, 0.6) * width, rng.uniform(0.3, 0.5) * width
    draw.rectangle([x, 0.12 * height, x + wide, 0.36 * height], fill=_tint(rng.choice(_SIGNS), rng))
    draw.rectangle([0, horizon * 0.93, width, horizon], fill=scaled(wall, 0.55))
    floor = _tint((172, 168, 160), rng)
    draw.rectangle([0, horizon, width, height], fill=floor)
    _tiles(draw, size, horizon, scaled(floor, 0.88), rng)


def _crossing(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], horizon: float, rng: Random
) -> None:
    width, height = size
    _shops(draw, size, horizon * 0.75, rng)
    draw.rectangle([0, horizon * 0.82, width, height], fill=_tint((92, 92, 96), rng))
    if rng.random() < 0.6:
        draw_car(draw, (rng.uniform(-0.5, 0.8) * width, horizon), 0.9 * width, rng)
    stripe = height * 0.06
    y = horizon + rng.uniform(0, stripe)
    while y < height:
        draw.polygon(
            [
                (-0.1 * width, y),
                (1.1 * width, y - 0.3 * stripe),
                (1.1 * width, y + 0.2 * stripe),
                (-0.1 * width, y + 0.5 * stripe),
            ],
            fill=(206, 206, 202),
        )
        y, stripe = y + stripe, stripe * 1.15


def _pavement(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], horizon: float, rng: Random
) -> None:
    width, height = size
    stone = _tint((148, 144, 138), rng)
    draw.rectangle([0, horizon, width, height], fill=stone)
    _tiles(draw, size, horizon, scaled(stone, 0.88), rng)
    if rng.random() < 0.35:
        kerb = rng.uniform(0.9, 0.97) * height
        draw.rectangle([0, kerb, width, height], fill=_tint((84, 84, 88), rng))
        draw.rectangle([0, kerb, width, kerb + 0.012 * height], fill=(190, 188, 182))
    if rng.random() < 0.3:
        draw_car(draw, (rng.uniform(-0.6, 0.8) * width, horizon * 1.04), 0.9 * width, rng)
    if rng.random() < 0.35:
        x, wide = rng.uniform(0, 1) * width, 0.03 * width
        draw.rectangle([x, 0, x + wide, horizon * 1.1], fill=_tint((70, 74, 76), rng))


def _tiles(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], horizon: float, joint: Rgb, rng: Random
) -> None:
    """Joints that run to a vanishing point above the horizon."""
    width, height = size
    vanishing = rng.uniform(0.2, 0.8) * width
    for i in range(-6, 13):
        x = i * width / 6
        start = vanishing + (x - vanishing) * 0.45
        draw.line([(start, horizon), (x, height)], fill=joint)
    y, step = horizon, 0.02 * height
    while y < height:
        draw.line([(0, y), (width, y)], fill=joint)
        y, step = y + step, step * 1.3


def draw_car(
    draw: ImageDraw.ImageDraw, left_wheel: tuple[float, float], length: float, rng: Random
) -> None:
    """A parked car from the side; left_wheel: where its wheels stand, length in pixels."""
    x, ground = left_wheel
    paint, tall = _tint(rng.choice(_CARS), rng), 0.3 * length
    body = ground - 0.1 * length
    draw.polygon(
        [
            (x + 0.18 * length, ground - 0.62 * tall), (x + 0.3 * length, ground - 1.15 * tall),
            (x + 0.68 * length, ground - 1.15 * tall), (x + 0.84 * length, ground - 0.62 * tall),
        ],
        fill=scaled(paint, 0.55),
    )  # fmt: skip
    draw.rounded_rectangle(
        [x, ground - 0.7 * tall, x + length, body + 0.05 * length], radius=0.05 * length, fill=paint
    )
    for wheel in (0.2, 0.8):
        r = 0.085 * length
        cx = x + wheel * length
        draw.ellipse([cx - r, ground - 2 * r, cx + r, ground], fill=(28, 28, 30))


def draw_leaves(draw: ImageDraw.ImageDraw, size: tuple[int, int], top: float, rng: Random) -> None:
    """A hedge from the height `top` (pixels) down to the lower edge."""
    width, height = size
    draw.rectangle([0, top + 0.03 * height, width, height], fill=_LEAVES[2])
    for _ in range(60):
        x, y = rng.uniform(0, width), rng.uniform(top + 0.03 * height, height)
        r = rng.uniform(0.015, 0.03) * height
        draw.ellipse([x - r, y - r, x + r, y + r], fill=_tint(rng.choice(_LEAVES), rng))


def _tint(rgb: Rgb, rng: Random) -> Rgb:
    light = rng.uniform(0.82, 1.15)
    red, green, blue = (channel * light + rng.uniform(-10, 10) for channel in rgb)
    return scaled((round(red), round(green), round(blue)), 1)


_SCENES: dict[Place, Callable[[ImageDraw.ImageDraw, tuple[int, int], float, Random], None]] = {
    "shops": _shops,
    "bricks": _bricks,
    "offices": _offices,
    "park": _park,
    "car park": _car_park,
    "station": _station,
    "crossing": _crossing,
}
