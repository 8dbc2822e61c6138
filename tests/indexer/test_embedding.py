"""The embedder as the indexer sees it: few requests at a time, and none that harms it for ever."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis

from services.gallery.redis_connection import connect as connect_redis
from services.indexer.attempts import MAX_ATTEMPTS, Attempts
from services.indexer.embedding import ImageEmbedder, Results
from services.indexer.in_hand import MAX_REQUESTS
from services.runtime.embedder_client import EmbedderClient, Embedding, Rejected
from services.runtime.grpc_client import connect
from tests.support.mortal_embedder import MortalEmbedder

POISON = b"poison"


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    redis = connect_redis(redis_url, 5)
    yield redis
    await redis.aclose()


async def embed(
    redis: Redis, address: str, images: Sequence[bytes], timeout_s: float = 5
) -> Results:
    async with connect(address, retries=False) as channel, asyncio.timeout(60):
        return await ImageEmbedder(EmbedderClient(channel), timeout_s, Attempts(redis)).embed(
            images
        )


def rejected(results: Results) -> dict[int, str]:
    return {i: it.reason for i, it in enumerate(results) if isinstance(it, Rejected)}


def images_with_poison(count: int, *poisonous: int) -> list[bytes]:
    return [POISON + b"%d" % i if i in poisonous else b"good %d" % i for i in range(count)]


async def test_requests_that_wait_for_their_turn_hold_no_copies_of_their_images(
    redis: Redis,
) -> None:
    """2,000 requests of 32 images would be copies of 640 MB."""
    image = bytes(10_000)
    before = resident_bytes()
    waiting = asyncio.create_task(embed(redis, "127.0.0.1:1", [image] * 64_000))
    await asyncio.sleep(1)
    grown = resident_bytes() - before
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert grown < 200_000_000


async def test_an_image_that_ends_the_embedder_is_found_and_its_neighbours_are_embedded(
    redis: Redis,
) -> None:
    async def fate(images: Sequence[bytes], _: Any) -> None:
        if any(image.startswith(POISON) for image in images):
            await embedder.die()

    embedder = MortalEmbedder(fate)
    await embedder.start()
    results = await embed(redis, embedder.address, images_with_poison(70, 37))
    await embedder.stop()
    (reason,) = rejected(results).values()
    assert list(rejected(results)) == [37]
    assert "3 times an embedder that was well got this image alone and gave no answer" in reason
    # With its neighbours, with those of its own request, and alone.
    assert embedder.deaths <= 2 + MAX_ATTEMPTS


@pytest.mark.parametrize("harm", ["fails", "hangs"])
async def test_so_is_an_image_that_it_fails_on_or_hangs_on(redis: Redis, harm: str) -> None:
    async def fate(images: Sequence[bytes], context: Any) -> None:
        if any(image.startswith(POISON) for image in images):
            if harm == "hangs":
                await asyncio.Event().wait()
            await context.abort(grpc.StatusCode.INTERNAL, "out of memory")

    embedder = MortalEmbedder(fate)
    await embedder.start()
    results = await embed(redis, embedder.address, images_with_poison(5, 0, 4), timeout_s=0.4)
    await embedder.stop()
    assert list(rejected(results)) == [0, 4]


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
async def test_an_embedder_that_fails_whoever_asks_counts_against_nobody(
    redis: Redis, status: grpc.StatusCode
) -> None:
    calls = 0

    async def fate(_: Sequence[bytes], context: Any) -> None:
        nonlocal calls
        calls += 1
        if calls < 8:
            await context.abort(status, "the device is lost")

    embedder = MortalEmbedder(fate)
    await embedder.start()
    results = await embed(redis, embedder.address, images_with_poison(1, 0))
    await embedder.stop()
    assert isinstance(results[0], Embedding)
    assert await redis.keys("passerby:attempts:*") == []


async def test_an_image_that_was_there_when_others_stopped_embedders_is_embedded(
    redis: Redis,
) -> None:
    """Once in a crowd, and as often alone as it may be."""
    asked = 0

    async def fate(images: Sequence[bytes], context: Any) -> None:
        nonlocal asked
        asked += b"good 0" in images
        if b"good 0" in images and asked <= MAX_ATTEMPTS + 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "stopped by others")

    embedder = MortalEmbedder(fate)
    await embedder.start()
    assert not rejected(await embed(redis, embedder.address, images_with_poison(3)))
    await embedder.stop()


async def test_attempts_are_counted_over_restarts_of_the_indexer_and_forgotten_at_last(
    redis: Redis,
) -> None:
    counted = Attempts(redis)
    image = POISON + b"0"
    for _ in range(MAX_ATTEMPTS - 1):
        await counted.count(image)
    tried = 0

    async def fate(images: Sequence[bytes], context: Any) -> None:
        nonlocal tried
        if image in images:
            tried += 1
            await context.abort(grpc.StatusCode.INTERNAL, "broken")

    embedder = MortalEmbedder(fate)
    await embedder.start()
    assert rejected(await embed(redis, embedder.address, [image]))
    assert tried == 2  # with others, as far as it knew, and alone
    assert rejected(await embed(redis, embedder.address, [image])), "a copy on its way"
    assert tried == 3
    (key,) = await redis.keys("passerby:attempts:*")
    assert 0 < await redis.ttl(key) <= 60
    await embedder.stop()


async def test_a_full_embedder_is_asked_less_at_once_and_then_more_again(redis: Redis) -> None:
    in_hand, most, full = 0, [0], True

    async def fate(_: Sequence[bytes], context: Any) -> None:
        nonlocal in_hand
        in_hand += 1
        most[-1] = max(most[-1], in_hand)
        try:
            await asyncio.sleep(0.01)
            if full and in_hand > 1:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        finally:
            in_hand -= 1

    embedder = MortalEmbedder(fate)
    await embedder.start()
    async with connect(embedder.address, retries=False) as channel:
        images = ImageEmbedder(EmbedderClient(channel), 5, Attempts(redis))
        await images.embed(images_with_poison(32 * 20))
        most.append(0)
        await images.embed(images_with_poison(32 * 5))
        full = False
        most.append(0)
        await images.embed(images_with_poison(32 * 300))
    await embedder.stop()
    assert most[1] <= MAX_REQUESTS / 4
    assert most[2] == MAX_REQUESTS
