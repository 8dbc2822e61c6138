"""Embeds images in requests that suit the embedder, and waits while it is unavailable."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

from services.indexer.retry import retry_until_available
from services.runtime.embedder_client import EmbedderClient, Embedding, Rejected
from services.runtime.errors import WrongModel

# The embedder makes device-sized batches of all requests that wait; small ones share the work of
# decoding and leave the message limit far away.
_REQUEST_IMAGES = 32
_REQUEST_BYTES = 16 * 1024 * 1024
_CONCURRENT_REQUESTS = 16
# While embedders are replaced, some of them serve a model and others do not.
_REPLICAS_ASKED = 5


class ImageEmbedder:
    """The embedder as the indexer sees it: while it is away or full, requests are retried.

    timeout_s: of one request.
    """

    def __init__(self, client: EmbedderClient, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._turns = asyncio.Semaphore(_CONCURRENT_REQUESTS)

    async def embed(self, images: Sequence[bytes], version: str = "") -> list[Embedding | Rejected]:
        """One result for each encoded image, in order; by the model that the embedder prefers, or
        by that version. Raises EmbedderFailed, and WrongModel if no embedder has the version.
        """
        answers = await asyncio.gather(
            *(self._embed_request(request, version) for request in _requests(images))
        )
        return [result for answer in answers for result in answer]

    async def _embed_request(self, images: list[bytes], version: str) -> list[Embedding | Rejected]:
        def attempt() -> Coroutine[Any, Any, list[Embedding | Rejected]]:
            return self._client.embed_images(images, version=version, timeout_s=self._timeout_s)

        # A request copies its images: those that wait for their turn have none yet.
        async with self._turns:
            for _ in range(_REPLICAS_ASKED - 1):
                with contextlib.suppress(WrongModel):
                    return await retry_until_available(attempt)
            return await retry_until_available(attempt)


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
