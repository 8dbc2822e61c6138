"""The embedder as the indexer sees it: requests of a suitable size, few at a time."""

import asyncio
import os
from pathlib import Path

from services.indexer.embedding import ImageEmbedder
from services.runtime.embedder_client import EmbedderClient
from services.runtime.grpc_client import connect


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def test_requests_that_wait_for_their_turn_hold_no_copies_of_their_images() -> None:
    """2,000 requests of 32 images would be copies of 640 MB."""
    image = bytes(10_000)
    async with connect("127.0.0.1:1") as nobody:
        embedder = ImageEmbedder(EmbedderClient(nobody), timeout_s=30)
        before = resident_bytes()
        waiting = asyncio.create_task(embedder.embed([image] * 64_000))
        await asyncio.sleep(1)
        grown = resident_bytes() - before
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert grown < 200_000_000
