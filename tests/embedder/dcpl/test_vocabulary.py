"""Captions become the same ids in training and at query time."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.embedder.dcpl.vocabulary import Vocabulary, tokenise


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        (
            "A man in a knee-length, dark coat.",
            ["a", "man", "in", "a", "kneelength", "dark", "coat"],
        ),
        ("  two\twords \n", ["two", "words"]),
        ("...!?", []),
        ("", []),
        ("It's 2 men", ["its", "2", "men"]),
        ("穿红色衣服的人 🙂 café", ["穿红色衣服的人", "🙂", "café"]),
        ("nul\x00byte", ["nul\x00byte"]),
    ],
)
def test_punctuation_goes_and_white_space_splits(caption: str, words: list[str]) -> None:
    assert tokenise(caption) == words


@given(st.text())
def test_any_text_can_be_tokenised_and_encoded(caption: str) -> None:
    words = tokenise(caption)
    assert not set("".join(words)) & set(string.punctuation + string.whitespace)
    assert len(Vocabulary.build(["a man"]).encode(caption)) == len(words)


def test_the_commonest_words_come_first_and_rare_ones_are_unknown() -> None:
    captions = ["A red shirt", "a RED bag", "a blue shirt", "one zebra"]
    vocabulary = Vocabulary.build(captions, minimum_count=2)
    assert vocabulary.words == ("a", "red", "shirt")
    assert vocabulary.encode("A shirt: red, zebra!") == [2, 4, 3, 1]
    assert (vocabulary.padding, vocabulary.unknown, len(vocabulary)) == (0, 1, 5)
    assert vocabulary.known("red")
    assert not vocabulary.known("zebra")
    assert not vocabulary.known("RED"), "words are asked for as tokenise() returns them"


def test_the_order_of_captions_does_not_matter() -> None:
    captions = ["b a", "c b", "d a"]
    assert Vocabulary.build(captions) == Vocabulary.build(captions[::-1])


def test_an_imported_vocabulary_keeps_case_and_its_own_ids() -> None:
    vocabulary = Vocabulary(("the", "Man"), first=0, unknown=2, padding=0, lower=False)
    assert vocabulary.encode("the Man, the man") == [0, 1, 0, 2]
    assert len(vocabulary) == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"words": ("a", "b", "a")}, "'a' is listed more than once"),
        ({"words": ("a", "b"), "first": 0, "unknown": 1}, "1 is a word's id"),
        ({"words": ("a",), "first": -1}, "must not be negative"),
    ],
)
def test_ids_that_clash_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vocabulary(**fields)
