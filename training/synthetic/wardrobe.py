"""Who walks the street: people drawn from sensible priors, and groups of lookalikes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any, TypeVar

from training.synthetic.palette import CLOTH, SKIN
from training.synthetic.person import (
    Age,
    Bag,
    BagKind,
    Coat,
    CoatKind,
    EyewearKind,
    Gender,
    Hair,
    HairStyle,
    Hat,
    HatKind,
    Held,
    HeldKind,
    Length,
    Lower,
    LowerKind,
    Pattern,
    Person,
    ShoeKind,
    Shoes,
    Sleeve,
    Upper,
    UpperKind,
)

T = TypeVar("T")

LOOKALIKES = 6
"""People in a group of lookalikes."""

_COLOURS = tuple(CLOTH)
_CLOTH_WEIGHTS = {"black": 2.0, "white": 2.0, "grey": 1.5, "blue": 1.3, "red": 1.3}
_LEG_COLOURS = {"black": 5, "navy": 3, "grey": 3, "beige": 3, "brown": 2, "white": 2, "green": 2,
                "dark red": 1, "red": 1, "blue": 1, "purple": 1, "pink": 1}  # fmt: skip
_JEANS_COLOURS = {"blue": 4, "navy": 3, "light blue": 3, "black": 2, "grey": 1, "white": 1}
_SHOE_COLOURS = {"black": 4, "white": 4, "brown": 3, "grey": 2, "red": 2, "blue": 1, "pink": 1,
                 "yellow": 1, "green": 1, "orange": 1}  # fmt: skip
_BAG_COLOURS = {"black": 4, "brown": 2, "red": 2, "blue": 2, "grey": 2, "green": 2, "pink": 1,
                "yellow": 1, "white": 1, "purple": 1, "orange": 1, "beige": 1}  # fmt: skip


def cast(count: int, seed: int) -> Iterator[Person]:
    """`count` people, no two alike in what a caption nearly always tells.

    The same for the same seed, and the first people of a longer cast are those of a shorter one.
    """
    rng = Random(f"cast {seed}")  # noqa: S311
    seen: set[object] = set()
    while len(seen) < count:
        person = draw_person(rng)
        outfit = (
            person.gender, person.upper, person.coat, person.lower, person.bag, person.hat
        )  # fmt: skip
        if outfit not in seen:
            seen.add(outfit)
            yield person


def draw_person(rng: Random) -> Person:
    gender: Gender = rng.choice(("man", "woman"))
    ages: dict[Age, float] = {"child": 0.07, "young": 0.28, "adult": 0.53, "old": 0.12}
    age = _pick(rng, ages)
    upper = _upper(rng, gender)
    coat = _coat(rng, gender) if upper.sleeve != "none" and rng.random() < 0.24 else None
    if coat and upper.pattern in ("logo", "dotted"):
        upper = replace(upper, pattern="plain", accent="")
    if coat and upper.kind == "dress" and upper.length == "short":
        upper = replace(upper, length="knee")  # else a coat would hide it from behind
    lower = None if upper.kind == "dress" else _lower(rng, gender, unlike=(coat or upper).colour)
    hair = _hair(rng, gender, age)
    held = _held(rng) if rng.random() < 0.3 else None
    under_cover = held is not None and held.kind == "umbrella"
    return Person(
        gender=gender,
        age=age,
        build=_pick(rng, {"slim": 0.3, "medium": 0.5, "heavy": 0.2}),
        skin=rng.choice(tuple(SKIN)),
        hair=hair,
        beard=gender == "man" and age in ("adult", "old") and rng.random() < 0.3,
        upper=upper,
        coat=coat,
        lower=lower,
        shoes=_shoes(rng),
        bag=_bag(rng, gender) if rng.random() < 0.6 else None,
        hat=_hat(rng) if _fits_a_hat(hair) and not under_cover and rng.random() < 0.28 else None,
        eyewear=_eyewear(rng) if rng.random() < 0.25 else None,
        held=held,
        scarf=_cloth(rng) if coat and rng.random() < 0.3 else None,
        shades=rng.getrandbits(32),
    )


def lookalikes(rng: Random) -> tuple[list[Person], frozenset[str]]:
    """Six people that differ in one or two attributes only, and the names of those attributes."""
    while True:
        model = draw_person(rng)
        fields = rng.sample([name for name in _VARIATIONS if _can_vary(model, name)], k=2)
        values = [_variants(rng, model, name) for name in fields]
        if rng.random() < 0.5 and len(values[0]) >= LOOKALIKES:
            group = [replace(model, **{fields[0]: value}) for value in values[0][:LOOKALIKES]]
            return group, frozenset(fields[:1])
        if len(values[0]) >= LOOKALIKES // 2 and len(values[1]) >= 2:
            group = [
                replace(model, **{fields[0]: first, fields[1]: second})
                for first in values[0][: LOOKALIKES // 2]
                for second in values[1][:2]
            ]
            return group, frozenset(fields)


def _can_vary(model: Person, field: str) -> bool:
    """Whether another value would fit the rest of the outfit, and be seen."""
    match field:
        case "hat":
            return _fits_a_hat(model.hair) and not (model.held and model.held.kind == "umbrella")
        case "held":
            return model.hat is None
        case "upper":
            return model.coat is None
        case _:
            return True


def _variants(rng: Random, model: Person, field: str) -> list[Any]:
    """Different values for one attribute of the person, in random order."""
    drawn = [_VARIATIONS[field](rng, model) for _ in range(40)]
    return list(dict.fromkeys(drawn))


def _vary_upper(rng: Random, model: Person) -> Upper:
    """The same garment in the same colour with another pattern."""
    pattern: Pattern = rng.choice(("plain", "striped", "checked", "dotted"))
    accent = "" if pattern == "plain" else _cloth(rng, unlike=model.upper.colour)
    return replace(model.upper, pattern=pattern, accent=accent)


_VARIATIONS: dict[str, Callable[[Random, Person], Any]] = {
    "bag": lambda rng, model: _bag(rng, model.gender) if rng.random() < 0.9 else None,
    "hat": lambda rng, _: _hat(rng) if rng.random() < 0.9 else None,
    "shoes": lambda rng, _: _shoes(rng),
    "eyewear": lambda rng, _: _eyewear(rng) if rng.random() < 0.7 else None,
    "held": lambda rng, _: _held(rng) if rng.random() < 0.9 else None,
    "upper": _vary_upper,
}


def _fits_a_hat(hair: Hair) -> bool:
    return hair.style not in ("bun", "curly")


def _pick(rng: Random, weights: dict[T, float]) -> T:
    return rng.choices(tuple(weights), tuple(weights.values()))[0]


def _cloth(rng: Random, unlike: str = "") -> str:
    return _pick(rng, {c: _CLOTH_WEIGHTS.get(c, 1.0) for c in _COLOURS if c != unlike})


def _one_of(rng: Random, colours: dict[str, int], unlike: str = "") -> str:
    return _pick(rng, {colour: n for colour, n in colours.items() if colour != unlike})


def _upper(rng: Random, gender: Gender) -> Upper:
    kinds: dict[UpperKind, float] = {
        "t-shirt": 0.3, "shirt": 0.2, "polo shirt": 0.12, "sweater": 0.15, "hoodie": 0.15,
        "tank top": 0.08,
    }  # fmt: skip
    if gender == "woman":
        kinds = kinds | {"polo shirt": 0.03, "blouse": 0.15, "tank top": 0.1, "dress": 0.28}
    kind = _pick(rng, kinds)
    sleeves: dict[UpperKind, dict[Sleeve, float]] = {
        "t-shirt": {"short": 0.8, "long": 0.2},
        "shirt": {"short": 0.35, "long": 0.65},
        "polo shirt": {"short": 1},
        "blouse": {"short": 0.4, "long": 0.6},
        "sweater": {"long": 1},
        "hoodie": {"long": 1},
        "tank top": {"none": 1},
        "dress": {"none": 0.35, "short": 0.4, "long": 0.25},
    }
    patterns: dict[UpperKind, dict[Pattern, float]] = {
        "t-shirt": {"plain": 0.45, "striped": 0.2, "logo": 0.35},
        "shirt": {"plain": 0.5, "striped": 0.2, "checked": 0.3},
        "blouse": {"plain": 0.6, "striped": 0.15, "dotted": 0.25},
        "sweater": {"plain": 0.65, "striped": 0.35},
        "hoodie": {"plain": 0.65, "logo": 0.35},
        "dress": {"plain": 0.55, "striped": 0.12, "checked": 0.1, "dotted": 0.23},
    }
    lengths: dict[Length, float] = {"short": 0.2, "knee": 0.45, "ankle": 0.35}
    colour = _cloth(rng)
    pattern = _pick(rng, patterns.get(kind, {"plain": 0.8, "striped": 0.2}))
    return Upper(
        kind=kind,
        colour=colour,
        sleeve=_pick(rng, sleeves[kind]),
        pattern=pattern,
        accent="" if pattern == "plain" else _accent(rng, colour),
        length=_pick(rng, lengths) if kind == "dress" else "short",
    )


def _accent(rng: Random, colour: str) -> str:
    """A second colour that stands out: white on most, dark on pale."""
    pale = colour in ("white", "beige", "yellow", "light blue", "pink")
    common = ("black", "navy", "red", "blue", "green") if pale else ("white", "yellow", "black")
    if rng.random() < 0.7:
        return rng.choice([c for c in common if c not in (colour, *CLOTH[colour].near)])
    return rng.choice([c for c in _COLOURS if c not in (colour, *CLOTH[colour].near)])


def _coat(rng: Random, gender: Gender) -> Coat:
    kinds: dict[CoatKind, float] = {"jacket": 0.4, "coat": 0.2, "blazer": 0.2, "down jacket": 0.2}
    if gender == "woman":
        kinds |= {"cardigan": 0.3, "coat": 0.3, "blazer": 0.1}
    return Coat(_pick(rng, kinds), _cloth(rng))


def _lower(rng: Random, gender: Gender, unlike: str) -> Lower:
    kinds: dict[LowerKind, float] = {"jeans": 0.4, "trousers": 0.36, "shorts": 0.24}
    if gender == "woman":
        kinds = {"jeans": 0.3, "trousers": 0.2, "shorts": 0.13, "skirt": 0.24, "leggings": 0.13}
    kind = _pick(rng, kinds)
    # One colour from neck to ankle is rare, and hides where one garment ends.
    avoided = unlike if rng.random() < 0.85 else ""
    if kind == "jeans":
        return Lower(kind, _one_of(rng, _JEANS_COLOURS, avoided))
    if kind != "skirt":
        length: Length = "knee" if kind == "shorts" else "ankle"
        return Lower(kind, _one_of(rng, _LEG_COLOURS, avoided), length=length)
    colour = _cloth(rng, avoided)
    patterns: dict[Pattern, float] = {
        "plain": 0.6, "striped": 0.12, "checked": 0.14, "dotted": 0.14,
    }  # fmt: skip
    pattern = _pick(rng, patterns)
    accent = "" if pattern == "plain" else _accent(rng, colour)
    lengths: dict[Length, float] = {"short": 0.35, "knee": 0.4, "ankle": 0.25}
    return Lower(kind, colour, pattern, accent, _pick(rng, lengths))


def _hair(rng: Random, gender: Gender, age: Age) -> Hair:
    styles: dict[HairStyle, float]
    if gender == "man":
        styles = {"short": 0.75, "curly": 0.1, "long": 0.05, "bald": 0.1}
        if age in ("child", "young"):
            del styles["bald"]
    else:
        styles = {"long": 0.4, "bob": 0.2, "ponytail": 0.2, "bun": 0.1, "curly": 0.1}
    colours = {"black": 0.38, "brown": 0.32, "blond": 0.2, "ginger": 0.07, "grey": 0.03}
    if age == "old":
        colours = {"grey": 0.8, "black": 0.1, "brown": 0.1}
    return Hair(_pick(rng, styles), _pick(rng, colours))


def _shoes(rng: Random) -> Shoes:
    kinds: dict[ShoeKind, float] = {"sneakers": 5, "shoes": 3, "boots": 1.5, "sandals": 1}
    kind = _pick(rng, kinds)
    plain = {"black": 4, "brown": 3, "grey": 1, "white": 1, "red": 1, "beige": 1}
    return Shoes(kind, _one_of(rng, _SHOE_COLOURS if kind == "sneakers" else plain))


def _bag(rng: Random, gender: Gender) -> Bag:
    kinds: dict[BagKind, float] = {"backpack": 0.55, "shoulder bag": 0.3, "suitcase": 0.15}
    if gender == "woman":
        kinds = {"backpack": 0.35, "shoulder bag": 0.27, "handbag": 0.28, "suitcase": 0.1}
    return Bag(_pick(rng, kinds), _one_of(rng, _BAG_COLOURS))


def _hat(rng: Random) -> Hat:
    kinds: dict[HatKind, float] = {"cap": 0.5, "beanie": 0.3, "sun hat": 0.2}
    kind = _pick(rng, kinds)
    straw = kind == "sun hat" and rng.random() < 0.5
    return Hat(kind, "beige" if straw else _cloth(rng))


def _held(rng: Random) -> Held:
    kinds: dict[HeldKind, float] = {
        "phone": 2, "umbrella": 2, "bottle": 1.5, "book": 1.5, "shopping bag": 2, "cup": 1.5,
    }  # fmt: skip
    kind = _pick(rng, kinds)
    match kind:
        case "phone":
            return Held(kind, "black")
        case "bottle":
            return Held(kind, rng.choice(("blue", "green", "white", "red")))
        case "cup":
            return Held(kind, rng.choice(("white", "red", "brown")))
        case _:
            return Held(kind, _cloth(rng))


def _eyewear(rng: Random) -> EyewearKind:
    return rng.choice(("glasses", "sunglasses"))
