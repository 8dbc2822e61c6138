"""Captions say what can be seen, in words that people use, and enough to find the person."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from random import Random
from typing import get_args

import pytest

from services.embedder.dcpl.vocabulary import tokenise
from training.synthetic.captions import describe, told_details
from training.synthetic.palette import CLOTH, HAIR, Colour
from training.synthetic.person import Person
from training.synthetic.view import (
    Facing,
    View,
    draw_view,
    hidden_parts,
    visible_details,
)
from training.synthetic.wardrobe import LOOKALIKES, cast, lookalikes

FACINGS: tuple[Facing, ...] = get_args(Facing)

WORDS_OF = {
    "shoes": r"sneakers|trainers|shoes|boots|sandals",
    "eyewear": r"glasses|sunglasses|spectacles|eyeglasses|shades",
    "beard": r"beard",
    "held": r"phone|smartphone|umbrella|bottle|book|notebook|shopping|paper bag|carrier|cup",
    "bag": r"backpack|rucksack|satchel|purse|handbag|suitcase|trolley|luggage",
    "hat": r"cap|beanie|hat",
    "scarf": r"scarf",
    "hair_colour": r"(black|dark|brown|blonde?|fair|gr[ae]y|white|ginger|red) hair",
    "hair_style": r"ponytail|pony|bun|bald|curly|frizzy",
    "pattern": r"logo|print|picture|design",
    "coat": r"jacket|coat|overcoat|blazer|cardigan",
    "lower": r"jeans|denims?|trousers|pants|slacks|shorts|leggings|tights|skirt",
}


def sights(people: int, seed: int) -> Iterator[tuple[Person, View, Random]]:
    rng = Random(seed)
    for person in cast(people, seed):
        for facing in FACINGS:
            yield person, draw_view(rng, facing, hides_feet=0.3), rng


def test_captions_never_name_what_cannot_be_seen() -> None:
    named: Counter[str] = Counter()
    for person, view, rng in sights(300, seed=2):
        caption = describe(person, view, rng).lower()
        said = re.sub(r"(has no|without a) (bag|hat)", "", caption)
        for part, words in WORDS_OF.items():
            if re.search(rf"\b({words})\b", said):
                named[part] += 1
                assert part in visible_details(person, view), f"{caption}: {view} of {person}"
    assert set(named) == set(WORDS_OF), "the captions never name some part at all"


def test_without_mistakes_every_colour_in_a_caption_is_a_visible_one() -> None:
    every_word = {word for table in (CLOTH, HAIR) for c in table.values() for word in c.words}
    vocabulary = {token for word in every_word for token in tokenise(word)}
    for person, view, rng in sights(200, seed=3):
        visible = visible_details(person, view)
        names = {
            thing.colour
            for part in ("coat", "lower", "shoes", "bag", "hat", "held", "upper")
            if part in visible and (thing := getattr(person, part))
        }
        if person.lower is not None:
            names.add(person.lower.accent)
        if "upper" in visible and "pattern" in visible:
            names.add(person.upper.accent)
        names.add(person.scarf or "")
        colours = [CLOTH[name] for name in names if name]
        if "hair_colour" in visible:
            colours.append(HAIR[person.hair.colour])
        allowed = {t for colour in colours for word in colour.words for t in tokenise(word)}
        caption = describe(person, view, rng, mistakes=False).replace("dark glasses", "")
        assert vocabulary & set(tokenise(caption)) <= allowed, f"{caption}: {view} of {person}"


@pytest.mark.parametrize("table", [CLOTH, HAIR], ids=["cloth", "hair"])
def test_a_colour_word_means_one_colour(table: dict[str, Colour]) -> None:
    words = Counter(word for colour in table.values() for word in set(colour.words))
    assert [word for word, count in words.items() if count > 1] == []


def test_captions_have_the_length_and_the_vocabulary_of_written_ones() -> None:
    captions = [tokenise(describe(*sight)) for sight in sights(800, seed=4)]
    lengths = sorted(len(caption) for caption in captions)
    assert lengths[0] >= 8
    assert lengths[len(lengths) * 2 // 100] >= 12
    assert lengths[len(lengths) * 98 // 100] <= 45
    assert 250 <= len({word for caption in captions for word in caption}) <= 450
    assert len({tuple(caption) for caption in captions}) > 0.99 * len(captions)


def test_what_a_caption_tells_is_enough_to_find_the_person_among_250() -> None:
    people = list(cast(250, seed=6))
    rng = Random(6)
    found = 0
    for person in people:
        view = draw_view(rng, rng.choice(FACINGS))
        told = told_details(person, view, rng)
        same = sum(_facts(other, told) == _facts(person, told) for other in people)
        found += same == 1
    assert found >= 0.95 * len(people)


def _facts(person: Person, told: frozenset[str]) -> list[object]:
    facts = {
        "upper": (person.upper.kind, person.upper.colour),
        "pattern": (person.upper.pattern, person.upper.accent),
        "sleeve": person.upper.sleeve,
        "hair_colour": person.hair.colour,
        "hair_style": person.hair.style,
    }
    return [person.gender, *(facts.get(name) or getattr(person, name) for name in sorted(told))]


def test_no_two_people_of_a_cast_wear_the_same() -> None:
    outfits = {(p.gender, p.upper, p.coat, p.lower, p.bag, p.hat) for p in cast(3000, seed=7)}
    assert len(outfits) == 3000


def test_lookalikes_differ_in_one_or_two_attributes_only() -> None:
    rng = Random(8)
    varied: Counter[str] = Counter()
    for _ in range(200):
        group, distinguishing = lookalikes(rng)
        assert len(group) == LOOKALIKES
        assert 1 <= len(distinguishing) <= 2
        varied.update(distinguishing)
        for i, one in enumerate(group):
            for other in group[:i]:
                differ = {
                    f.name for f in fields(one) if getattr(one, f.name) != getattr(other, f.name)
                }
                assert differ
                assert differ <= distinguishing
    assert set(varied) == {"bag", "hat", "shoes", "eyewear", "held", "upper"}


def test_captions_of_lookalikes_tell_them_apart() -> None:
    rng = Random(9)
    for _ in range(100):
        group, distinguishing = lookalikes(rng)
        view = next(
            v for f in FACINGS if not distinguishing & hidden_parts(v := draw_view(rng, f, 0))
        )
        for person in group:
            caption = describe(person, view, rng, distinguishing).lower()
            for part in distinguishing - {"upper"}:
                thing = getattr(person, part)
                if thing is None:
                    assert re.search(r"has no|without|nothing|empty|wears no", caption), caption
                elif part == "eyewear":
                    assert thing in caption
                else:
                    assert thing.kind in caption
                    assert thing.kind == "phone" or CLOTH[thing.colour].words[0] in caption
            if "upper" in distinguishing:
                accent = person.upper.accent
                assert (CLOTH[accent].words[0] if accent else "plain") in caption
