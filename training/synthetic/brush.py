"""Drawing in a figure's own units: height 1 from crown to sole, x to the viewer's right."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

from training.synthetic.palette import Rgb, scaled
from training.synthetic.person import Pattern

Point = tuple[float, float]

_SMOOTHNESS = 5
"""Straight pieces between two points of a smooth outline."""


@dataclass(frozen=True)
class Ink:
    """A cloth: one colour, or a pattern in two."""

    colour: Rgb
    pattern: Pattern = "plain"
    accent: Rgb = (0, 0, 0)

    def scaled(self, factor: float) -> "Ink":
        return replace(self, colour=scaled(self.colour, factor), accent=scaled(self.accent, factor))


class Brush:
    """Fills smooth shapes on a transparent layer, each with a darker seam along its outline.

    scale: pixels for a unit; origin: where (0, 0), the crown, lies; mirrored: x points left.
    """

    def __init__(
        self, size: tuple[int, int], scale: float, origin: Point, *, mirrored: bool = False
    ) -> None:
        self.image = Image.new("RGBA", size)
        self._draw = ImageDraw.Draw(self.image)
        self._scale = scale
        self._origin = origin
        self._sign = -1 if mirrored else 1
        self._textures: dict[Ink, Image.Image] = {}

    def polygon(self, points: Sequence[Point], ink: Ink, *, seam: bool = True) -> None:
        """A shape with straight edges."""
        pixels = [self._at(point) for point in points]
        self._fill(pixels, ink, lambda draw, fill: draw.polygon(pixels, fill=fill))
        if seam:
            width = max(1, round(0.005 * self._scale))
            self._draw.line(
                [*pixels, pixels[0]], fill=scaled(ink.colour, 0.72), width=width, joint="curve"
            )

    def shape(self, points: Sequence[Point], ink: Ink, *, seam: bool = True) -> None:
        """A closed smooth outline through the points (Catmull-Rom)."""
        self.polygon(_smooth(points), ink, seam=seam)

    def limb(
        self, joints: Sequence[Point], widths: Sequence[float], ink: Ink, *, cut: bool = False
    ) -> None:
        """A rounded tube through the joints, as wide at each as its width; cut: flat at its end."""
        left: list[Point] = []
        right: list[Point] = []
        for i, ((x, y), width) in enumerate(zip(joints, widths, strict=True)):
            before, after = joints[max(i - 1, 0)], joints[min(i + 1, len(joints) - 1)]
            dx, dy = after[0] - before[0], after[1] - before[1]
            length = math.hypot(dx, dy) or 1
            nx, ny = -dy / length * width / 2, dx / length * width / 2
            left.append((x + nx, y + ny))
            right.append((x - nx, y - ny))
        self.polygon([*left, *reversed(right)], ink)
        rounded = list(zip(joints, widths, strict=True))
        for joint, width in rounded[:-1] if cut else rounded:
            self.ellipse(joint, width / 2 - 0.002, width / 2 - 0.002, ink)

    def ellipse(self, centre: Point, rx: float, ry: float, ink: Ink) -> None:
        """rx, ry: half the width and height."""
        x, y = self._at(centre)
        rx, ry = rx * self._scale, ry * self._scale
        box = [x - rx, y - ry, x + rx, y + ry]
        corners = [(box[0], box[1]), (box[2], box[3])]
        self._fill(corners, ink, lambda draw, fill: draw.ellipse(box, fill=fill))

    def ring(self, centre: Point, rx: float, ry: float, width: float, colour: Rgb) -> None:
        """An ellipse's outline, as wide as `width` in the figure's units."""
        x, y = self._at(centre)
        rx, ry = rx * self._scale, ry * self._scale
        pen = max(1, round(width * self._scale))
        self._draw.ellipse([x - rx, y - ry, x + rx, y + ry], outline=colour, width=pen)

    def line(self, points: Sequence[Point], width: float, colour: Rgb) -> None:
        """Straight pieces through the points; width in the figure's units, at least one pixel."""
        pen = max(1, round(width * self._scale))
        self._draw.line([self._at(p) for p in points], fill=colour, width=pen, joint="curve")

    def _at(self, point: Point) -> Point:
        x, y = point
        return self._origin[0] + self._sign * x * self._scale, self._origin[1] + y * self._scale

    def _fill(
        self,
        outline: Sequence[Point],
        ink: Ink,
        paint: Callable[[ImageDraw.ImageDraw, Rgb | int], None],
    ) -> None:
        if ink.pattern in ("plain", "logo"):
            paint(self._draw, ink.colour)
            return
        mask = Image.new("L", self.image.size)
        paint(ImageDraw.Draw(mask), 255)
        xs, ys = [x for x, _ in outline], [y for _, y in outline]
        width, height = self.image.size
        box = (
            max(0, int(min(xs)) - 1), max(0, int(min(ys)) - 1),
            min(width, int(max(xs)) + 2), min(height, int(max(ys)) + 2),
        )  # fmt: skip
        if box[0] < box[2] and box[1] < box[3]:
            self.image.paste(self._texture(ink).crop(box), box[:2], mask.crop(box))

    def _texture(self, ink: Ink) -> Image.Image:
        """The pattern over the whole layer, so that it runs on from one shape to the next."""
        if ink not in self._textures:
            texture = Image.new("RGB", self.image.size, ink.colour)
            _weave(ImageDraw.Draw(texture), self.image.size, ink, self._scale)
            self._textures[ink] = texture
        return self._textures[ink]


def _weave(draw: ImageDraw.ImageDraw, size: tuple[int, int], ink: Ink, scale: float) -> None:
    width, height = size
    pitch = {"striped": 0.045, "checked": 0.05, "dotted": 0.042}[ink.pattern] * scale
    rows = [i * pitch for i in range(math.ceil(height / pitch) + 1)]
    columns = [i * pitch for i in range(math.ceil(width / pitch) + 1)]
    match ink.pattern:
        case "striped":
            for y in rows:
                draw.rectangle([0, y, width, y + 0.42 * pitch], fill=ink.accent)
        case "checked":
            half = tuple((a + b) // 2 for a, b in zip(ink.colour, ink.accent, strict=True))
            for y in rows:
                draw.rectangle([0, y, width, y + 0.42 * pitch], fill=half)
            for x in columns:
                draw.rectangle([x, 0, x + 0.42 * pitch, height], fill=half)
            for y in rows:
                for x in columns:
                    draw.rectangle([x, y, x + 0.42 * pitch, y + 0.42 * pitch], fill=ink.accent)
        case "dotted":
            radius = 0.26 * pitch
            for i, y in enumerate(rows):
                for x in columns:
                    cx = x + (i % 2) * pitch / 2
                    draw.ellipse(
                        [cx - radius, y - radius, cx + radius, y + radius], fill=ink.accent
                    )


def _smooth(points: Sequence[Point]) -> list[Point]:
    """A closed Catmull-Rom spline through the points."""
    count = len(points)
    curve = []
    for i in range(count):
        (ax, ay), (bx, by) = points[i - 1], points[i]
        (cx, cy), (dx, dy) = points[(i + 1) % count], points[(i + 2) % count]
        for step in range(_SMOOTHNESS):
            t = step / _SMOOTHNESS
            t2, t3 = t * t, t * t * t
            wa, wb = -t3 + 2 * t2 - t, 3 * t3 - 5 * t2 + 2
            wc, wd = -3 * t3 + 4 * t2 + t, t3 - t2
            curve.append(
                (
                    (wa * ax + wb * bx + wc * cx + wd * dx) / 2,
                    (wa * ay + wb * by + wc * cy + wd * dy) / 2,
                )
            )
    return curve
