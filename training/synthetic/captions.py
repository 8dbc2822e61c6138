"""Captions as a witness would write them: only what the image shows, and not all of that."""

from random import Random

from training.synthetic.lexicon import MISSPELT
from training.synthetic.person import Person
from training.synthetic.phrases import (
    Aside,
    Phrases,
    enumerate_things,
    with_article,
)
from training.synthetic.view import View, visible_details

# How often a visible detail is told. What sets people apart most is seldom left out.
_TOLD = {
    "upper": 0.98, "pattern": 0.88, "sleeve": 0.3, "coat": 0.98, "lower": 0.95, "shoes": 0.72,
    "bag": 0.92, "hat": 0.93, "eyewear": 0.65, "held": 0.85, "hair_colour": 0.55,
    "hair_style": 0.5, "beard": 0.4, "scarf": 0.88,
}  # fmt: skip
_WEARS = (
    "is wearing", "is wearing", "wears", "wears", "is dressed in", "has on", "wearing",
    "dressed in", "can be seen in",
)  # fmt: skip
_ACTION_TOLD = 0.22
_MISSPELT_CAPTIONS = 0.05
_SHORTEST = 12
"""Words that a caption has at least, as long as there is anything left to tell."""


def told_details(
    person: Person, view: View, rng: Random, distinguishing: frozenset[str] = frozenset()
) -> frozenset[str]:
    """Which of the visible details one caption tells; those in `distinguishing` always."""
    visible = visible_details(person, view)
    told = {name for name in sorted(visible) if rng.random() < _TOLD[name]}
    if "upper" in distinguishing:
        told |= visible & {"pattern"}
    return frozenset(told | (visible & distinguishing))


def describe(
    person: Person,
    view: View,
    rng: Random,
    distinguishing: frozenset[str] = frozenset(),
    *,
    mistakes: bool = True,
) -> str:
    """A caption of one to three sentences for this view of the person.

    distinguishing: attributes that it must name, or say to be missing, and never gets wrong.
    mistakes: now and then a near colour or a misspelt word, as people make them.
    """
    told = told_details(person, view, rng, distinguishing)
    spare = sorted(visible_details(person, view) - told)
    rng.shuffle(spare)
    phrases = Phrases(person, view, rng, distinguishing, mistakes=mistakes)
    acting = rng.random() < _ACTION_TOLD
    caption = _tell(phrases, told, rng, acting=acting)
    while len(caption.split()) < _SHORTEST and (spare or not acting):
        if spare:
            told |= {spare.pop()}
        else:
            acting = True
        caption = _tell(phrases, told, rng, acting=acting)
    if mistakes and not distinguishing and rng.random() < _MISSPELT_CAPTIONS:
        return _misspelt(caption, rng)
    return caption


def _tell(phrases: Phrases, told: frozenset[str], rng: Random, *, acting: bool) -> str:
    """The details in one of the shapes that captions have."""
    clothes, looks, asides = phrases.clothes(told), phrases.looks(told), phrases.asides(told)
    rng.shuffle(asides)
    if acting:
        asides.append(phrases.action())
    with_looks = f" with {enumerate_things(looks)}" if looks else ""
    worn = enumerate_things(clothes)
    shapes = {
        "wears": 26, "in": 16, "there is": 12, "has": 13, "first": 10, "split": 14, "list": 9,
    }  # fmt: skip
    match rng.choices(tuple(shapes), tuple(shapes.values()))[0]:
        case "in":
            start = f"{phrases.subject()}{with_looks} in {worn}"
        case "there is":
            who = f"{with_article(phrases.noun())}{with_looks}"
            start = f"there is {who} {rng.choice(('wearing', 'dressed in', 'in'))} {worn}"
        case "has" if looks:
            verb = rng.choice(("wears", "is wearing", "is dressed in", "is clad in"))
            start = f"{phrases.subject()} has {enumerate_things(looks)} and {verb} {worn}"
        case "first" if asides:
            last, *asides = asides
            start = f"wearing {worn}, the {phrases.noun()}{with_looks} {last.finite}"
        case "split" if len(clothes) > 1:
            verb = rng.choice(("is wearing", "wears", "has"))
            also = rng.choice(("also wears", "is wearing", "has on", "wears"))
            top, rest = clothes[0], enumerate_things(clothes[1:])
            start = f"{phrases.subject()}{with_looks} {verb} {top}. {phrases.he} {also} {rest}"
        case "list":
            parts = [phrases.noun(), *looks, *clothes, *(aside.participle for aside in asides)]
            return _sentences(", ".join(parts), full_stop=rng.random() < 0.4)
        case _:
            verb = rng.choice(_WEARS)
            start = f"{phrases.subject()}{with_looks} {verb} {worn}"
    return _with_asides(phrases, start, asides, rng)


def _with_asides(phrases: Phrases, start: str, asides: list[Aside], rng: Random) -> str:
    """Up to two asides go on in the same sentence, the others make one of their own."""
    here = rng.randint(0, min(2, len(asides)))
    for aside in asides[:here]:
        start += rng.choice((", ", " ", " and ")) + aside.participle
    rest = [aside.finite for aside in asides[here:]]
    if rest:
        who = rng.choice((phrases.he, phrases.he, f"the {phrases.plain_noun()}"))
        start += f". {who} {enumerate_things(rest)}"
    return _sentences(start, full_stop=rng.random() < 0.92)


def _sentences(text: str, *, full_stop: bool) -> str:
    capital = ". ".join(sentence[0].upper() + sentence[1:] for sentence in text.split(". "))
    return capital + "." * full_stop


def _misspelt(caption: str, rng: Random) -> str:
    """One word wrong, if the caption has one that people get wrong."""
    words = caption.split(" ")
    places = [i for i, word in enumerate(words) if word in MISSPELT]
    if places:
        place = rng.choice(places)
        words[place] = MISSPELT[words[place]]
    return " ".join(words)
