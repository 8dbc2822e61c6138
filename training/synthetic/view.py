"""How one image shows a person: facing, pose and what is cut off; and what can be seen then."""

from dataclasses import dataclass
from random import Random
from typing import Literal

from training.synthetic.person import Person

Facing = Literal["front", "back", "left", "right"]


@dataclass(frozen=True)
class View:
    facing: Facing
    walking: bool
    stride: float
    """-1 to 1: which leg is forward and how far; 0 with the legs side by side."""
    feet_hidden: bool
    """Something in front, or the image's lower edge, hides everything below the shins."""

    @property
    def profile(self) -> bool:
        return self.facing in ("left", "right")


def draw_view(rng: Random, facing: Facing, hides_feet: float = 0.1) -> View:
    """A pose for that facing; `hides_feet` is the chance that the feet are not seen."""
    walking = rng.random() < 0.7
    feet_hidden = rng.random() < hides_feet
    # A long stride lifts a foot above the shins, where nothing would hide it.
    longest = 0.3 if feet_hidden else 1.0
    stride = (
        rng.choice((-1, 1)) * rng.uniform(0.45, 1) * longest
        if walking
        else rng.uniform(-0.12, 0.12)
    )
    return View(facing, walking, stride, feet_hidden)


def visible_details(person: Person, view: View) -> frozenset[str]:
    """Names of the attributes that this view of the person shows.

    Of Person's attributes hair_colour, hair_style, beard, upper, pattern and sleeve (of the upper
    garment), coat, lower, shoes, bag, hat, eyewear, held, scarf; never one that the person lacks.
    """
    front, back = view.facing == "front", view.facing == "back"
    shown = {
        "hair_colour": person.hair.style != "bald",
        "hair_style": not (front and person.hair.style in ("ponytail", "bun")),
        "beard": person.beard and not back,
        "upper": person.coat is None or front or person.upper.kind == "dress",
        "pattern": person.upper.pattern != "logo" or front,
        "sleeve": person.coat is None,
        "coat": person.coat is not None,
        "lower": person.lower is not None,
        "shoes": not view.feet_hidden,
        "bag": person.bag is not None,
        "hat": person.hat is not None,
        "eyewear": person.eyewear is not None and not back,
        "held": person.held is not None and not (back and person.held.is_before_the_chest),
        "scarf": person.scarf is not None,
    }
    return frozenset(name for name, seen in shown.items() if seen)


def hidden_parts(view: View) -> frozenset[str]:
    """Attributes that this view may hide, whatever the person wears."""
    behind = {"beard", "eyewear", "held"} if view.facing == "back" else set()
    below = {"shoes"} if view.feet_hidden else set()
    return frozenset(behind | below)
