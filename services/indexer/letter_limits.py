"""What may be kept among the dead letters, so that Redis has room for what is still to be done."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from passerby.contract import GALLERY_NAME, DeadLetterEntry
from passerby.limits import Limit

_OLDEST = "the oldest go"
COUNT = Limit("dead letters", 100_000, "letters", _OLDEST, "INDEXER_DEAD_LETTERS")
BYTES = Limit(
    "dead letters in Redis",
    128 * 1024 * 1024,
    "bytes",
    "new ones are kept without their bytes, then the oldest go; a quarter of maxmemory at most",
    "INDEXER_DEAD_LETTERS_BYTES",
)
AGE = Limit("age of a dead letter", 30 * 86400, "seconds", _OLDEST, "INDEXER_DEAD_LETTERS_AGE_S")
# An entry that `passerby push` made is kept whole.
LETTER = Limit(
    "one dead letter",
    8 * 1024 * 1024,
    "bytes",
    "kept without its bytes",
    "INDEXER_DEAD_LETTER_BYTES",
)
LIMITS = (COUNT, BYTES, AGE, LETTER)


@dataclass(frozen=True)
class LetterLimits:
    """Of what stands in Redis. A letter whose bytes are too many keeps all the rest: its name says
    what to push again, and one by uri has no bytes."""

    count: float = COUNT.value
    total_bytes: float = BYTES.value
    age_s: float = AGE.value
    letter_bytes: float = LETTER.value

    @property
    def of_all(self) -> tuple[float, float, float]:
        """As TRIM and FINISH take them."""
        return self.count, self.total_bytes, 1000 * self.age_s

    @property
    def said(self) -> str:
        limits = COUNT.at(self.count), BYTES.at(self.total_bytes), AGE.at(self.age_s)
        return ", ".join(f"{limit.setting}={limit.value:.0f}" for limit in limits)

    def arguments(self, letter: DeadLetterEntry) -> list[bytes | str]:
        """What FINISH needs of one letter."""
        counted = letter.gallery if GALLERY_NAME.fullmatch(letter.gallery) else ""
        size = sum(len(value) for value in letter.retry_fields.values())
        values = replace(letter, retry_fields={}).to_fields()
        more = {name: value for name, value in letter.to_fields().items() if name not in values}
        if size > self.letter_bytes:
            values[b"not_kept"] = _not_kept(LETTER.at(self.letter_bytes), size).encode()
            more = {}
        note = _not_kept(BYTES.at(self.total_bytes), size)
        return [counted, *_counted(values), *_counted(more), note]


def _not_kept(limit: Limit, size: int) -> str:
    return f"its {size:,} bytes were not kept, push it again ({limit.exceeded()})"


def _counted(fields: Mapping[bytes, bytes]) -> list[bytes | str]:
    return [str(2 * len(fields)), *itertools.chain.from_iterable(fields.items())]
