"""The gallery's stores: Redis' memory for each name and record, at the density of 100 million, and
how fast a push that is repeated finds out what is left to push."""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import cast

import numpy as np
from redis.asyncio import Redis

from passerby.resume import WINDOW_IMAGES
from passerby.v1 import search_pb2
from services.gallery.digests import Digests, indexed
from services.gallery.gallery_deletions import GalleryDeletions
from services.gallery.ids import BUCKET_BITS
from services.gallery.names import Names
from services.gallery.vectors import Row, Vectors
from services.query.missing import find_missing
from services.query.stores import Stores
from services.runtime.embedder_client import EmbedderClient
from tests.support.stores import milvus_running, redis_running

NAMES = 200_000
INDEXED = 20_000
# 100 million names over all buckets, and 200,000 over as many as give the same density.
PER_BUCKET = 100_000_000 >> BUCKET_BITS
BUCKETS = NAMES // PER_BUCKET
AT_ONCE = 5000
REST_BITS = 63 - BUCKET_BITS


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, redis_running(Path(folder)) as url:
        asyncio.run(measure(url))
        with milvus_running(Path(folder) / "milvus") as uri:
            asyncio.run(measure_lookups(url, uri))


def dense_ids(_gallery: str, filename: str) -> list[int]:
    """Ids as a hash gives them, but in the first buckets only."""
    number = int(filename[-12:-4])
    # A multiplier without common factors walks through all ids in no order.
    rest = number * 0x9E3779B97F4A7C15 % (1 << REST_BITS)
    return [(number % BUCKETS) << REST_BITS | rest]


async def measure(url: str) -> None:
    redis = Redis.from_url(url)
    await redis.config_set("hash-max-ziplist-entries", 512)
    await redis.config_set("hash-max-ziplist-value", 255)
    for what, prefix in (("36 characters", "CUHK03/cam_2/person_042/"), ("100", "p/" * 44)):
        await redis.flushall()
        before = (await redis.info("memory"))["used_memory"]
        names = Names(redis, candidates=dense_ids)
        filenames = [f"{prefix}{number:08d}.jpg" for number in range(NAMES)]
        started = time.monotonic()
        for start in range(0, NAMES, AT_ONCE):
            await names.claim("people", filenames[start : start + AT_ONCE])
        speed = NAMES / (time.monotonic() - started)
        each = ((await redis.info("memory"))["used_memory"] - before) / NAMES
        rest = each - len(filenames[0])
        print(
            f"names of {what}: {each:.1f} bytes each ({rest:.1f} beside the name itself), "
            f"100 million in {each * 1e8 / 2**30:.1f} GiB; claimed {speed:.0f} per second"
        )
    plain = (await redis.info("memory"))["used_memory"]
    pipeline = redis.pipeline(transaction=False)
    for number in range(20_000):
        pipeline.set(
            f"passerby:names:people:{number:016x}", f"CUHK03/cam_2/person_042/{number:08d}.jpg"
        )
    await pipeline.execute()
    plain = (await redis.info("memory"))["used_memory"] - plain
    print(f"for comparison, a key of its own for each name: {plain / 20_000:.1f} bytes")
    before = (await redis.info("memory"))["used_memory"]
    ids = [dense_ids("people", f"{number:08d}.jpg")[0] for number in range(NAMES)]
    for start in range(0, NAMES, AT_ONCE):
        chunk = ids[start : start + AT_ONCE]
        await Digests(redis).put(
            "people", {id_: indexed("v", b"%d" % id_, kept=True) for id_ in chunk}
        )
    each = ((await redis.info("memory"))["used_memory"] - before) / NAMES
    print(f"records: {each:.1f} bytes each, 100 million in {each * 1e8 / 2**30:.1f} GiB")
    await redis.aclose()


class OneModel:
    """Stands for an embedder's client, whose answer takes a millisecond for each window."""

    async def preferred_version(self) -> str:
        return "v"


async def measure_lookups(url: str, uri: str) -> None:
    """Everything is there: each image is looked up in Redis twice and once in Milvus."""
    redis, vectors = Redis.from_url(url), Vectors(uri, timeout_s=120)
    await redis.flushall()
    names, digests = Names(redis), Digests(redis)
    filenames = [f"CUHK03/cam_2/person_042/{number:08d}.jpg" for number in range(INDEXED)]
    for start in range(0, INDEXED, AT_ONCE):
        part = filenames[start : start + AT_ONCE]
        ids = [id_ for id_ in await names.claim("people", part) if id_ is not None]
        rows = [Row(id_, np.eye(1, 512, id_ % 512, dtype=np.float32)[0]) for id_ in ids]
        await vectors.upsert("people", "v", rows)
        await digests.put("people", {id_: indexed("v", b"d", kept=False) for id_ in ids})
    stores = Stores(vectors, names, digests, GalleryDeletions(redis), None, redis)
    started = time.monotonic()
    for start in range(0, INDEXED, WINDOW_IMAGES):
        part = filenames[start : start + WINDOW_IMAGES]
        images = [search_pb2.ImageDigest(filename=name, digest=b"d") for name in part]
        request = search_pb2.FindMissingRequest(gallery="people", images=images)
        answer = await find_missing(request, stores, cast(EmbedderClient, OneModel()), 60)
        assert not answer.filenames
    speed = INDEXED / (time.monotonic() - started)
    print(f"images that a push finds unchanged, {WINDOW_IMAGES} at once: {speed:,.0f} per second")
    await vectors.close()
    await redis.aclose()
