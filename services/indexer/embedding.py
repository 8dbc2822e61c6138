"""Embeds images in requests that suit the embedder, and finds those that do it harm."""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

import structlog

from services.indexer.attempts import MAX_ATTEMPTS, Attempts
from services.indexer.in_hand import Window
from services.indexer.retry import retry_until_available
from services.runtime.embedder_client import EmbedderClient, Embedding, Rejected
from services.runtime.errors import (
    EmbedderFailed,
    Overloaded,
    ServiceError,
    Unavailable,
    WrongModel,
    first_line,
)

log = structlog.get_logger()

# The embedder makes device-sized batches of all requests that wait; small ones share the work of
# decoding and leave the message limit far away.
_REQUEST_IMAGES = 32
_REQUEST_BYTES = 16 * 1024 * 1024
# While embedders are replaced, some of them serve a model and others do not.
_REPLICAS_ASKED = 5
# A grey PNG of 8 x 8 pixels: whatever fails on it is broken for whoever asks.
_HARMLESS = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x08\x00\x00\x00\x08\x08\x02\x00\x00\x00Km)"
    b"\xdc\x00\x00\x00\x15IDATx\xdaclhh`\xc0\x06\x98\x18p\x80\xc1)\x01\x000\x17\x01\x90\xd4{\x15"
    b"\xc6\x00\x00\x00\x00IEND\xaeB`\x82"
)
# In a row, as calls go round the replicas: one that hangs should be among those asked.
_PROBES = 3

Results = list[Embedding | Rejected]


class _Harmed(Exception):
    """The embedder was well, got this and nothing else that is suspect, and did not answer."""


class ImageEmbedder:
    """The embedder as the indexer sees it: while it is away or full, requests are retried.

    An image may also end the embedder, stall it or fail in it. A request without an answer is
    therefore suspect, and tried again by itself; if that fails too, each of its images is. One that
    fails MAX_ATTEMPTS times alone, in an embedder that was well just before, is rejected. An
    embedder that is away counts against nobody.
    """

    def __init__(self, client: EmbedderClient, timeout_s: float, attempts: Attempts) -> None:
        """timeout_s: of one request."""
        self._client = client
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._window = Window()

    async def embed(self, images: Sequence[bytes], version: str = "") -> Results:
        """One result for each encoded image, in order; by the model that the embedder prefers, or
        by that version. Raises WrongModel if no embedder has the version.
        """
        answers = await asyncio.gather(
            *(self._embed_request(request, version) for request in _requests(images))
        )
        return [result for answer in answers for result in answer]

    async def _embed_request(self, images: list[bytes], version: str) -> Results:
        try:
            return await _of_any_replica(lambda: self._ask(images, version))
        except (Unavailable, EmbedderFailed) as error:
            log.info("suspect", images=len(images), reason=first_line(error))
        if len(images) > 1:
            with contextlib.suppress(_Harmed):
                return await self._try(images, version)
        return [await self._try_alone(image, version) for image in images]

    async def _ask(self, images: list[bytes], version: str) -> Results:
        """As many requests at once as the embedder keeps up with; retried while it is full."""

        async def attempt() -> Results:
            # A request copies its images: those that wait for their turn have none yet.
            async with self._window.turn() as since:
                # What was sent together does not time out together.
                timeout_s = self._timeout_s * random.uniform(0.75, 1)  # noqa: S311 - no secret
                try:
                    results = await self._client.embed_images(
                        images, version=version, timeout_s=timeout_s
                    )
                except Overloaded:
                    self._window.slow(since)
                    raise
                except Unavailable:
                    self._window.lost(since)
                    raise
                if time.monotonic() - since > self._timeout_s / 4:
                    self._window.slow(since)
                else:
                    self._window.answered()
                return results

        return await retry_until_available(attempt, while_raised=Overloaded)

    async def _try(self, images: list[bytes], version: str) -> Results:
        """Asks while no other suspect is tried. Raises _Harmed; waits for an embedder that is not
        well."""

        async def attempt() -> Results:
            async with self._attempts.turn():
                ailment = await self._ailment(version)
                try:
                    return await self._client.embed_images(
                        images, version=version, timeout_s=self._timeout_s
                    )
                except (Unavailable, EmbedderFailed) as error:
                    if ailment:
                        raise Unavailable(ailment) from error
                    raise _Harmed(first_line(error)) from error

        return await _of_any_replica(lambda: retry_until_available(attempt))

    async def _ailment(self, version: str) -> str:
        """Why the embedder cannot even embed a harmless image; empty if it can."""
        try:
            for _ in range(_PROBES):
                await self._client.embed_images(
                    [_HARMLESS], version=version, timeout_s=self._timeout_s / 4
                )
        except WrongModel:
            raise
        except ServiceError as error:
            return first_line(error)
        return ""

    async def _try_alone(self, image: bytes, version: str) -> Embedding | Rejected:
        attempts = await retry_until_available(lambda: self._attempts.of(image))
        harm = ""
        while attempts < MAX_ATTEMPTS:
            try:
                (result,) = await self._try([image], version)
            except _Harmed as harmed:
                harm = str(harmed)
                await retry_until_available(lambda: self._attempts.count(image))
                attempts += 1
                log.warning("image_harmed_the_embedder", attempts=attempts, reason=harm)
            else:
                return result
        await retry_until_available(lambda: self._attempts.put_aside(image))
        return Rejected(
            f"{attempts} times an embedder that was well got this image alone and gave no answer"
            f"{harm and f' ({harm})'}; scale the image down or leave it out"
        )


async def _of_any_replica(ask: Callable[[], Awaitable[Results]]) -> Results:
    for _ in range(_REPLICAS_ASKED - 1):
        with contextlib.suppress(WrongModel):
            return await ask()
    return await ask()


def _requests(images: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Cuts the images into requests that are small in number and in bytes."""
    request: list[bytes] = []
    size = 0
    for image in images:
        if request and (len(request) == _REQUEST_IMAGES or size + len(image) > _REQUEST_BYTES):
            yield request
            request, size = [], 0
        request.append(image)
        size += len(image)
    if request:
        yield request
