"""From captions to word ids, the same way in training and at query time."""

import string
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

from passerby.limits import Limit

WORDS = Limit("words of a caption", 200, "words", "INVALID_ARGUMENT (HTTP 400)")

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def tokenise(caption: str, lower: bool = True) -> list[str]:
    """The words of a caption: ASCII punctuation removed, split on white space.

    >>> tokenise("A man in a knee-length, dark coat.")
    ['a', 'man', 'in', 'a', 'kneelength', 'dark', 'coat']
    """
    words = caption.translate(_NO_PUNCTUATION).split()
    return [word.lower() for word in words] if lower else words


@dataclass(frozen=True)
class Vocabulary:
    """Words and their ids: words[i] has the id first + i.

    Trained here: padding 0, unknown 1, words from 2, lower case. Imported: words from 0, the
    unknown id behind the last word, padding shares 0 with the commonest word, case kept.
    Padding is never read by the network, so sharing an id harms nothing.
    """

    words: tuple[str, ...]
    first: int = 2
    unknown: int = 1
    padding: int = 0
    lower: bool = True

    def __post_init__(self) -> None:
        if len(self._ids) != len(self.words):
            twice = [word for word, count in Counter(self.words).items() if count > 1]
            raise ValueError(f"words: {twice[0]!r} is listed more than once")
        if min(self.first, self.unknown, self.padding) < 0:
            raise ValueError("first, unknown and padding must not be negative")
        if self.first <= self.unknown < self.first + len(self.words):
            raise ValueError(f"unknown: {self.unknown} is a word's id")

    @classmethod
    def build(cls, captions: Iterable[str], minimum_count: int = 1) -> Self:
        """The words that occur at least so often, the commonest first, equals by alphabet."""
        counts = Counter(word for caption in captions for word in tokenise(caption))
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return cls(words=tuple(word for word, count in ranked if count >= minimum_count))

    def encode(self, caption: str) -> list[int]:
        """The ids of the caption's words; empty if it has none."""
        return self.ids(tokenise(caption, self.lower))

    def ids(self, words: Iterable[str]) -> list[int]:
        """Of words as tokenise() returns them."""
        return [self._ids.get(word, self.unknown) for word in words]

    def known(self, word: str) -> bool:
        """Whether a word, as tokenise() returns it, has an id of its own."""
        return word in self._ids

    def __len__(self) -> int:
        """Rows that the embedding table needs."""
        return max(self.first + len(self.words), self.unknown + 1, self.padding + 1)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, self.first)}

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
