"""Where a person's body parts are in a view: proportions, pose, silhouette."""

import itertools
import math
from dataclasses import dataclass
from random import Random

from training.synthetic.brush import Point
from training.synthetic.person import Person
from training.synthetic.view import View

Chain = tuple[Point, Point, Point]
"""Shoulder, elbow, wrist or hip, knee, ankle."""

SHOULDER_Y, WAIST_Y, HIP_Y = 0.185, 0.40, 0.50
_ANKLE_Y = 0.953

# Half the body's width at some heights, seen from the front; from the side, its back and front.
_FRONT = {
    "man": ((0.15, 0.04), (0.185, 0.112), (0.26, 0.104), (0.40, 0.086), (0.50, 0.092)),
    "woman": ((0.15, 0.036), (0.185, 0.094), (0.26, 0.088), (0.40, 0.071), (0.50, 0.096)),
}
_BACKWARD = ((0.15, 0.034), (0.20, 0.058), (0.28, 0.062), (0.40, 0.050), (0.50, 0.068))
_FORWARD = {
    "man": ((0.15, 0.030), (0.20, 0.048), (0.28, 0.062), (0.40, 0.058), (0.50, 0.056)),
    "woman": ((0.15, 0.028), (0.20, 0.046), (0.27, 0.074), (0.40, 0.050), (0.50, 0.054)),
}


@dataclass(frozen=True)
class Body:
    """A posed body. Index 0 of arms and legs is drawn first: the far one from the side, and
    the viewer's left from the front. A back view is drawn as a front view, then mirrored."""

    left_edge: tuple[Point, ...]
    """(y, half-width) from the neck to the hips, towards the viewer's left."""
    right_edge: tuple[Point, ...]
    arms: tuple[Chain, Chain]
    legs: tuple[Chain, Chain]
    head: Point
    head_width: float
    """Half of it; the head's half height is 0.066 for an adult."""
    head_height: float
    arm_width: float
    leg_width: float

    def span(self, y: float) -> Point:
        """x of the left and right edge of the trunk at the height y; below the hips as there."""
        return -_interpolate(self.left_edge, y), _interpolate(self.right_edge, y)

    def hull(
        self, top: float, hem: float, ease: float = 0.006, flare: float = 0, steps: int = 5
    ) -> list[Point]:
        """The outline of cloth around the trunk; ease: how loose, flare: how much wider below."""
        left, right = [], []
        for i in range(steps + 1):
            share = i / steps
            y = top + (hem - top) * share
            start, end = self.span(y)
            loose = ease + flare * share
            left.append((start - loose, y))
            right.append((end + loose, y))
        return [*left, *reversed(right)]


def pose(person: Person, view: View) -> Body:
    """The person's proportions, the same in every view, in the pose of this view."""
    rng = Random(person.shades)  # noqa: S311
    stout = {"slim": 0.88, "medium": 1.0, "heavy": 1.2}[person.build] * rng.uniform(0.97, 1.03)
    belly = {"slim": 0.9, "medium": 1.0, "heavy": 1.42}[person.build]
    left, right = _trunk(person, view, stout, belly)
    child = person.age == "child"
    head = 0.082 if child else 0.066
    raises_hand = person.held is not None and person.held.is_raised
    arms = _arms_aside if view.profile else _arms_ahead
    legs = _legs_aside if view.profile else _legs_ahead
    return Body(
        left_edge=left,
        right_edge=right,
        arms=arms(right, view.stride, raises_hand, holds=person.held is not None),
        legs=legs(view.stride, stout),
        head=(0.014 if view.profile else 0.0, 0.012 + head),
        head_width=head * (0.80 if view.profile else 0.74),
        head_height=head,
        arm_width=0.047 * stout,
        leg_width=0.088 * stout,
    )


def _trunk(
    person: Person, view: View, stout: float, belly: float
) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    def widened(edge: tuple[Point, ...], most: float) -> tuple[Point, ...]:
        return tuple((y, half * (most if y in (WAIST_Y, HIP_Y) else stout)) for y, half in edge)

    if view.profile:
        return widened(_BACKWARD, stout), widened(_FORWARD[person.gender], belly)
    edge = widened(_FRONT[person.gender], stout * (1.1 if belly > 1 else 1))
    return edge, edge


def _arms_ahead(
    edge: tuple[Point, ...], stride: float, raises_hand: bool, holds: bool
) -> tuple[Chain, Chain]:
    x = _interpolate(edge, SHOULDER_Y) - 0.02
    spread = 0.16 + 0.05 * abs(stride)
    right = _chain((x, 0.208), 0.155, spread, 0.14, 0.06)
    if raises_hand:
        return _chain((-x, 0.208), 0.145, -0.3, 0.125, 2.25), right
    return _chain((-x, 0.208), 0.155, -spread - 0.05 * holds, 0.14, -0.06), right


def _arms_aside(
    _: tuple[Point, ...], stride: float, raises_hand: bool, holds: bool
) -> tuple[Chain, Chain]:
    swing = 0.5 * stride
    near = _chain((-0.004, 0.208), 0.155, -swing, 0.14, -swing + 0.3)
    if raises_hand:
        return _chain((0.01, 0.208), 0.15, 0.35, 0.14, 1.9), near
    far = max(swing, 0.6) if holds else swing
    return _chain((0.01, 0.208), 0.155, far, 0.14, far + 0.25), near


def _legs_ahead(stride: float, stout: float) -> tuple[Chain, Chain]:
    def leg(side: int, lifted: float) -> Chain:
        x = side * 0.047 * stout
        return (x, 0.51), (x * 1.05, 0.735 - 0.008 * lifted), (x * 1.05, _ANKLE_Y - 0.045 * lifted)

    return leg(-1, max(stride, 0)), leg(1, max(-stride, 0))


def _legs_aside(stride: float, _: float) -> tuple[Chain, Chain]:
    def leg(swing: float) -> Chain:
        angle = 0.46 * swing
        bend = 0.08 if swing > 0 else 0.08 - 0.5 * swing
        return _chain((0, 0.51), 0.225, angle, 0.22, angle - bend)

    far, near = leg(-stride), leg(stride)
    lowest = max(far[2][1], near[2][1])
    return _stretched(far, lowest), _stretched(near, lowest)


def _stretched(leg: Chain, lowest: float) -> Chain:
    """The leg made longer, so that a body that strides does not leave the ground."""
    factor = (_ANKLE_Y - leg[0][1]) / (lowest - leg[0][1])
    hip, *others = ((x, leg[0][1] + (y - leg[0][1]) * factor) for x, y in leg)
    return hip, others[0], others[1]


def _chain(start: Point, upper: float, angle: float, lower: float, bend: float) -> Chain:
    """Two bones; angles from straight down, positive towards +x, in radians."""
    joint = (start[0] + upper * math.sin(angle), start[1] + upper * math.cos(angle))
    end = (joint[0] + lower * math.sin(bend), joint[1] + lower * math.cos(bend))
    return start, joint, end


def _interpolate(edge: tuple[Point, ...], y: float) -> float:
    for (above, start), (below, end) in itertools.pairwise(edge):
        if y <= below:
            share = max(0.0, (y - above) / (below - above))
            return start + (end - start) * share
    return edge[-1][1]
