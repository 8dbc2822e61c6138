"""The pieces of a caption: phrases for the person, the clothes and all that is carried."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from training.synthetic import lexicon
from training.synthetic.palette import CLOTH, HAIR, Colour
from training.synthetic.person import Bag, Hat, Held, Lower, Person, Upper
from training.synthetic.view import Facing, View

_MISTAKEN_COLOURS = 0.02
_SAID_TO_BE_MISSING = 0.02

_ACTIONS: dict[Facing, tuple[str, ...]] = {
    "front": (
        "walking towards the camera",
        "facing the camera",
        "coming closer",
        "strolling towards the camera",
    ),
    "back": ("walking away", "walking away from the camera", "seen from behind", "strolling along"),
    "left": ("walking to the left", "seen from the side", "facing left"),
    "right": ("walking to the right", "seen from the side", "facing right"),
}
_STANDING = ("standing still", "standing on the street", "waiting", "posing")


@dataclass(frozen=True)
class Aside:
    """Something to tell beside the clothes, in two grammars."""

    participle: str
    """'carrying a red bag': goes on after the clothes."""
    finite: str
    """'carries a red bag': goes after He or She."""


class Phrases:
    """Wordings for one person in one image; every call words it anew.

    distinguishing: attributes that are named by their plainest word, never mistaken or left vague.
    """

    def __init__(
        self,
        person: Person,
        view: View,
        rng: Random,
        distinguishing: frozenset[str] = frozenset(),
        *,
        mistakes: bool = True,
    ) -> None:
        self._person = person
        self._view = view
        self._rng = rng
        self._distinguishing = distinguishing
        self._mistakes = mistakes
        self.he, self.his = ("he", "his") if person.gender == "man" else ("she", "her")

    # The person.

    def subject(self) -> str:
        """'a young man', 'this woman'."""
        noun = self.noun()
        return self._pick(with_article(noun), with_article(noun), f"the {noun}", f"this {noun}")

    def noun(self) -> str:
        noun = self._rng.choice(lexicon.PEOPLE[self._person.gender, self._person.age])
        builds = lexicon.BUILDS[self._person.build]
        if builds and self._rng.random() < 0.15:
            noun = f"{self._rng.choice(builds)} {noun}"
        return noun

    def plain_noun(self) -> str:
        """For the second mention."""
        if self._person.age == "child":
            return "boy" if self._person.gender == "man" else "girl"
        return self._person.gender

    def looks(self, told: frozenset[str]) -> list[str]:
        """Hair and beard: 'short black hair'."""
        hair = self._person.hair
        colour = self._colour(HAIR, hair.colour) if "hair_colour" in told else ""
        looks = []
        if "hair_style" in told:
            word = self._rng.choice(lexicon.HAIR_STYLES[hair.style])
            match hair.style:
                case "bald":
                    looks.append(self._pick("a bald head", "no hair"))
                case "ponytail" | "bun":
                    tied = with_article(_words(colour, word))
                    looks.append(self._pick(tied, f"{_words(colour, 'hair')} in a {word}"))
                case _:
                    looks.append(_words(word, colour, "hair"))
        elif colour:
            looks.append(f"{colour} hair")
        if "beard" in told:
            looks.append("a beard")
        return looks

    def action(self) -> Aside:
        if self._view.walking:
            action = self._rng.choice(_ACTIONS[self._view.facing])
        else:
            action = self._rng.choice(_STANDING)
        return Aside(action, f"is {action}")

    # The clothes.

    def clothes(self, told: frozenset[str]) -> list[str]:
        """From top to toe: 'a red jacket over a white tee', 'blue jeans', 'brown boots'."""
        person = self._person
        clothes = [*self._tops(told)]
        if person.lower is not None and "lower" in told:
            clothes.append(self._lower(person.lower, told))
        if "shoes" in told:
            kind = self._kind("shoes", person.shoes.kind, lexicon.SHOES[person.shoes.kind])
            shoes = _words(self._cloth(person.shoes.colour, "shoes"), kind)
            clothes.append(self._pick(shoes, shoes, shoes, f"a pair of {shoes}"))
        return clothes or [self._pick("plain clothes", "ordinary clothes")]

    def _tops(self, told: frozenset[str]) -> Iterator[str]:
        coat = self._person.coat
        upper = self._upper(self._person.upper, told) if "upper" in told else ""
        if coat is None or "coat" not in told:
            if upper:
                yield upper
            return
        kind = self._rng.choice(lexicon.COATS[coat.kind])
        outer = with_article(_words(self._cloth(coat.colour, "coat"), kind))
        yield self._pick(f"{outer} over {upper}", f"{upper} under {outer}") if upper else outer

    def _upper(self, upper: Upper, told: frozenset[str]) -> str:
        kind = self._rng.choice(lexicon.UPPERS[upper.kind])
        if "sleeve" in told and "sleeveless" not in kind:
            kind = _words(self._rng.choice(lexicon.SLEEVES[upper.sleeve]), kind)
        if upper.kind == "dress" and self._rng.random() < 0.75:
            kind = _words(self._rng.choice(lexicon.LENGTHS[upper.length]), kind)
        return with_article(self._garment("upper", upper, kind, told))

    def _lower(self, lower: Lower, told: frozenset[str]) -> str:
        kind = self._rng.choice(lexicon.LOWERS[lower.kind])
        if lower.kind == "skirt":
            if self._rng.random() < 0.65:
                kind = _words(self._rng.choice(lexicon.LENGTHS[lower.length]), kind)
            return with_article(self._garment("lower", lower, kind, told))
        garment = self._garment("lower", lower, kind, told)
        return self._pick(garment, garment, garment, f"a pair of {garment}")

    def _garment(self, part: str, garment: Upper | Lower, kind: str, told: frozenset[str]) -> str:
        colour = self._cloth(garment.colour, part)
        if garment.pattern == "plain":
            plain = part in self._distinguishing or self._rng.random() < 0.04
            return _words("plain" if plain else "", colour, kind)
        # Only an upper garment's pattern can be out of sight.
        if part == "upper" and "pattern" not in told:
            return _words(colour, kind)
        accent = self._cloth(garment.accent, part)
        match garment.pattern:
            case "striped":
                return self._pick(
                    f"{colour} and {accent} striped {kind}",
                    f"{colour} {kind} with {accent} stripes",
                )
            case "checked":
                check = self._pick("checked", "checkered", "plaid")
                return f"{colour} and {accent} {check} {kind}"
            case "dotted":
                dots = self._pick("dots", "polka dots", "spots")
                return f"{colour} {kind} with {accent} {dots}"
            case _:
                logo = self._pick("logo", "print", "picture", "design")
                where = self._pick("on the front", "on the chest", "on it")
                return f"{colour} {kind} with {with_article(accent)} {logo} {where}"

    # What is carried and worn beside.

    def asides(self, told: frozenset[str]) -> list[Aside]:
        """Bag, hat, held thing, scarf, eyewear; or that there is none."""
        person = self._person
        asides = [*self._missing()]
        if person.bag is not None and "bag" in told:
            asides.append(self._bag(person.bag))
        if person.hat is not None and "hat" in told:
            asides.append(self._hat(person.hat))
        if person.held is not None and "held" in told:
            asides.append(self._held(person.held))
        if person.scarf is not None and "scarf" in told:
            scarf = with_article(f"{self._cloth(person.scarf, 'scarf')} scarf")
            around = self._pick("", f" around {self.his} neck")
            asides.append(Aside(f"with {scarf}{around}", f"has {scarf}{around}"))
        if person.eyewear is not None and "eyewear" in told:
            glasses = self._kind("eyewear", person.eyewear, lexicon.EYEWEAR[person.eyewear])
            asides.append(Aside(f"{self._pick('wearing', 'with')} {glasses}", f"wears {glasses}"))
        return asides

    def _missing(self) -> Iterator[Aside]:
        """What the person does without: said of few, but always where it tells lookalikes apart."""
        for name in ("bag", "hat"):
            rarely = self._rng.random() < _SAID_TO_BE_MISSING
            if getattr(self._person, name) is None and (name in self._distinguishing or rarely):
                yield Aside(f"without a {name}", f"has no {name}")
        if self._person.held is None and "held" in self._distinguishing:
            yield Aside("with empty hands", "has nothing in hand")
        if self._person.eyewear is None and "eyewear" in self._distinguishing:
            yield Aside("without glasses", "wears no glasses")

    def _bag(self, bag: Bag) -> Aside:
        kind = self._kind("bag", bag.kind, lexicon.BAGS[bag.kind])
        thing = with_article(_words(self._cloth(bag.colour, "bag"), kind))
        match bag.kind:
            case "backpack":
                where = f"on {self.his} back"
            case "shoulder bag":
                where = self._pick(f"over {self.his} shoulder", f"across {self.his} body")
            case "handbag":
                where = f"in {self.his} hand"
            case "suitcase":
                return self._rng.choice(
                    (
                        Aside(f"pulling {thing}", f"is pulling {thing}"),
                        Aside(f"with {thing}", f"pulls {thing}"),
                        Aside(f"dragging {thing} along", f"drags {thing} along"),
                    )
                )
        return self._rng.choice(
            (
                Aside(f"carrying {thing}", f"carries {thing}"),
                Aside(f"with {thing} {where}", f"has {thing} {where}"),
                Aside(f"carrying {thing} {where}", f"is carrying {thing}"),
            )
        )

    def _hat(self, hat: Hat) -> Aside:
        kind = self._kind("hat", hat.kind, lexicon.HATS[hat.kind])
        thing = with_article(_words(self._cloth(hat.colour, "hat"), kind))
        return self._rng.choice(
            (
                Aside(f"wearing {thing}", f"wears {thing}"),
                Aside(f"with {thing} on {self.his} head", f"has {thing} on {self.his} head"),
                Aside(f"with {thing}", f"is wearing {thing}"),
            )
        )

    def _held(self, held: Held) -> Aside:
        kind = self._kind("held", held.kind, lexicon.HELD[held.kind])
        # A phone is a phone; nobody tells its colour.
        coloured = held.kind != "phone" and (
            "held" in self._distinguishing or self._rng.random() < 0.8
        )
        thing = with_article(_words(self._cloth(held.colour, "held") if coloured else "", kind))
        forms = [
            Aside(f"holding {thing}", f"holds {thing}"),
            Aside(f"with {thing} in {self.his} hand", f"is holding {thing}"),
        ]
        if held.kind == "phone":
            forms.append(Aside(f"looking at {thing}", f"is looking at {thing}"))
        if held.kind == "umbrella":
            forms.append(Aside(f"under {thing}", f"walks under {thing}"))
        return self._rng.choice(forms)

    # Words.

    def _cloth(self, name: str, part: str) -> str:
        return self._colour(CLOTH, name, certain=part in self._distinguishing)

    def _colour(self, table: dict[str, Colour], name: str, *, certain: bool = False) -> str:
        """A word for the colour; now and then, unless certain, for one that is close to it."""
        if certain:
            return table[name].words[0]
        if self._mistakes and self._rng.random() < _MISTAKEN_COLOURS:
            name = self._rng.choice(table[name].near)
        return self._rng.choice(table[name].words)

    def _kind(self, part: str, kind: str, words: tuple[str, ...]) -> str:
        """A word for a thing of that kind: the kind itself where lookalikes must be told apart."""
        return kind if part in self._distinguishing else self._rng.choice(words)

    def _pick(self, *wordings: str) -> str:
        return self._rng.choice(wordings)


def with_article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def enumerate_things(things: list[str]) -> str:
    """'a, b and c'."""
    return " and ".join(filter(None, [", ".join(things[:-1]), things[-1]]))


def _words(*words: str) -> str:
    """The words with a space between, leaving out empty ones."""
    return " ".join(word for word in words if word)
