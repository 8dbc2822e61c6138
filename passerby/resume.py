"""Leaves out of a push what is searchable with the same content: a push goes on where it was."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from passerby.contract import MAX_FILENAME_BYTES
from passerby.errors import PasserbyError
from passerby.v1 import queue_pb2
from passerby.waiting import Say

# Images that are asked about at once: in memory until then.
WINDOW_IMAGES = 1024
WINDOW_BYTES = 32 * 1024 * 1024
# After a question without an answer images are pushed unasked for so long.
_PAUSE_S = 5.0

FindMissing = Callable[[Sequence[queue_pb2.Image]], Iterable[str]]
"""The filenames of those that a push would change. Raises PasserbyError."""


class Resumption:
    """What one push leaves out. When in doubt, nothing."""

    def __init__(self, find_missing: FindMissing, settle: Callable[[], bool], say: Say) -> None:
        """settle: waits until what is on the queue is indexed; False if that takes too long."""
        self._find_missing = find_missing
        self._settle: Callable[[], bool] | None = settle
        self._say = say
        self._ask_again_at = 0.0
        self._pushed: set[int] = set()
        """Hashes of the names that this push has queued: their records are not up to date yet."""

    def changed(
        self, images: Iterable[queue_pb2.Image], on_unchanged: Callable[[int], None]
    ) -> Iterator[queue_pb2.Image]:
        """Those that are not searchable with the same content, in order. on_unchanged: gets the
        number of the others, as they are found."""
        for window in _windows(images):
            missing = self._missing(window)
            changed = [
                image
                for image in window
                if image.filename in missing or hash(image.filename) in self._pushed
            ]
            if len(changed) < len(window):
                on_unchanged(len(window) - len(changed))
            self._pushed.update(hash(image.filename) for image in changed)
            yield from changed

    def _missing(self, window: Sequence[queue_pb2.Image]) -> set[str]:
        everything = {image.filename for image in window}
        askable = [
            image
            for image in window
            if image.digest and 0 < len(image.filename.encode()) <= MAX_FILENAME_BYTES
        ]
        if not askable or time.monotonic() < self._ask_again_at:
            return everything
        try:
            missing = set(self._find_missing(askable))
            if self._settle:
                # What is on the queue may be an earlier part of this push, and may change what is
                # searchable.
                settled, self._settle = self._settle(), None
                if not settled:
                    self._ask_again_at = float("inf")
                    self._say("The queue is not being indexed, so every image is pushed.")
                    return everything
                missing = set(self._find_missing(askable))
        except PasserbyError as error:
            if not self._ask_again_at:
                self._say(f"Every image is pushed, searchable or not, as that is unknown: {error}")
            self._ask_again_at = time.monotonic() + _PAUSE_S
            return everything
        return missing | (everything - {image.filename for image in askable})


def _windows(images: Iterable[queue_pb2.Image]) -> Iterator[list[queue_pb2.Image]]:
    window: list[queue_pb2.Image] = []
    size = 0
    for image in images:
        window.append(image)
        size += image.ByteSize()
        if len(window) >= WINDOW_IMAGES or size >= WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window
