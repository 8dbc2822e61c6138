"""What a view is said to show is drawn, and what it is said to hide is not."""

from dataclasses import replace
from random import Random
from typing import get_args

import pytest

from training.synthetic.camera import cameras
from training.synthetic.figure import draw_figure
from training.synthetic.palette import CLOTH, HAIR, Colour, Rgb, shade
from training.synthetic.person import Person
from training.synthetic.photo import take_photo
from training.synthetic.view import Facing, View, draw_view, visible_details
from training.synthetic.wardrobe import cast

FACINGS: tuple[Facing, ...] = get_args(Facing)
PEOPLE = list(cast(60, seed=5))


def another(colour: str) -> str:
    return next(name for name in CLOTH if name != colour and name not in CLOTH[colour].near)


def change(person: Person, part: str) -> Person | None:
    """The person with another value of the part; None if there is no such part to change."""
    upper, hair = person.upper, person.hair
    match part:
        case "hair_colour":
            other = next(colour for colour in HAIR if colour != hair.colour)
            bald = hair.style == "bald"
            return None if bald else replace(person, hair=replace(hair, colour=other))
        case "hair_style":
            return replace(person, hair=replace(hair, style="short")) if hair.style in (
                "ponytail", "bun") and person.hat is None else None  # fmt: skip
        case "beard":
            return replace(person, beard=False) if person.beard else None
        case "upper":
            return replace(person, upper=replace(upper, colour=another(upper.colour)))
        case "pattern":
            return (
                replace(person, upper=replace(upper, accent=another(upper.accent)))
                if upper.accent
                else None
            )
        case "sleeve":
            return replace(
                person, upper=replace(upper, sleeve="long" if upper.sleeve == "short" else "short")
            )
        case "eyewear":
            return person.eyewear and replace(
                person, eyewear="glasses" if person.eyewear == "sunglasses" else "sunglasses"
            )
        case "scarf":
            return replace(person, scarf=another(person.scarf)) if person.scarf else None
        case _:
            thing = getattr(person, part)
            return thing and replace(person, **{part: replace(thing, colour=another(thing.colour))})


@pytest.mark.parametrize("facing", FACINGS)
@pytest.mark.parametrize(
    "part",
    ["hair_colour", "hair_style", "beard", "upper", "pattern", "sleeve", "coat", "lower", "shoes",
     "bag", "hat", "eyewear", "held", "scarf"],
)  # fmt: skip
def test_a_part_changes_the_picture_exactly_if_the_view_shows_it(facing: Facing, part: str) -> None:
    def picture(person: Person) -> bytes:
        return draw_figure(person, view, (150, 260), 200, (75, 45)).tobytes()

    view = View(facing, walking=True, stride=0.7, feet_hidden=False)
    changed = [(person, other) for person in PEOPLE if (other := change(person, part))]
    assert changed, "none of the people has one"
    for person, other in changed[:12]:
        shown = part in visible_details(person, view) and (
            part not in ("pattern", "sleeve") or "upper" in visible_details(person, view)
        )
        assert (picture(person) != picture(other)) == shown, person


@pytest.mark.parametrize("facing", FACINGS)
def test_hidden_feet_are_in_no_photo(facing: Facing) -> None:
    camera = cameras(1)[0]
    for seed, person in enumerate(PEOPLE[:20]):
        barefoot = change(person, "shoes")
        assert barefoot is not None
        hidden = draw_view(Random(seed), facing, hides_feet=1)
        shown = replace(hidden, feet_hidden=False)
        assert take_photo(person, hidden, camera, Random(seed)) == take_photo(
            barefoot, hidden, camera, Random(seed)
        )
        assert take_photo(person, shown, camera, Random(seed)) != take_photo(
            barefoot, shown, camera, Random(seed)
        )


@pytest.mark.parametrize("table", [CLOTH, HAIR], ids=["cloth", "hair"])
def test_no_shade_of_a_colour_is_nearer_to_another_colour(table: dict[str, Colour]) -> None:
    def distance(one: Rgb, other: Rgb) -> float:
        return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))

    rng = Random(1)
    for name, colour in table.items():
        for _ in range(100):
            seen = shade(colour.rgb, rng)
            assert min(table, key=lambda other: distance(seen, table[other].rgb)) == name
