"""The gallery's stores: Redis' memory for each name, at the density of 100 million names."""

import asyncio
import tempfile
import time
from pathlib import Path

from redis.asyncio import Redis

from services.gallery.ids import BUCKET_BITS
from services.gallery.names import Names
from tests.support.stores import redis_running

NAMES = 200_000
# 100 million names over all buckets, and 200,000 over as many as give the same density.
PER_BUCKET = 100_000_000 >> BUCKET_BITS
BUCKETS = NAMES // PER_BUCKET
AT_ONCE = 5000
REST_BITS = 63 - BUCKET_BITS


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, redis_running(Path(folder)) as url:
        asyncio.run(measure(url))


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
    await redis.aclose()
