"""What the indexers remember together of images that may harm the embedder."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator

from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.exceptions import RedisError

from services.gallery.redis_connection import redis_errors

# So often an image may end or stall the embedder that it has to itself. Embedders that others stop
# at random do not stop three times just then.
MAX_ATTEMPTS = 3
# How long they are remembered: longer than all of them take.
_REMEMBERED_S = 24 * 3600
_COPIES_S = 60
# An indexer that dies with the turn is waited for as long.
_TURN_S = 10


class Attempts:
    """The attempts with suspects, one at a time in the whole cluster: what two indexers tried at
    once would be blamed for each other's. Outages of Redis raise Unavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        # One that asks Redis for the turn, however many wait for it here.
        self._mine = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """No other suspect is tried meanwhile."""
        lock = Lock(self._redis, "passerby:suspect-lock", timeout=_TURN_S, sleep=0.05)
        async with self._mine:
            with redis_errors("SET"):
                await lock.acquire()
            keeping = asyncio.create_task(_keep(lock))
            try:
                yield
            finally:
                keeping.cancel()
                # If that is not possible, the turn ends by itself.
                with contextlib.suppress(RedisError):
                    await lock.release()

    async def of(self, image: bytes) -> int:
        """How often the image has done harm."""
        with redis_errors("GET"):
            return int(await self._redis.get(_key(image)) or 0)

    async def count(self, image: bytes) -> None:
        """It has done harm once more."""
        key = _key(image)
        with redis_errors("PIPELINE INCR"):
            pipeline = self._redis.pipeline()
            pipeline.incr(key)
            pipeline.expire(key, _REMEMBERED_S)
            await pipeline.execute()

    async def put_aside(self, image: bytes) -> None:
        """It is rejected; so are its copies that are on their way. Pushed again later, it is tried
        again."""
        with redis_errors("EXPIRE"):
            await self._redis.expire(_key(image), _COPIES_S)


def _key(image: bytes) -> str:
    return f"passerby:attempts:{hashlib.blake2b(image, digest_size=16).hexdigest()}"


async def _keep(lock: Lock) -> None:
    while True:
        await asyncio.sleep(_TURN_S / 3)
        with contextlib.suppress(RedisError):
            await lock.reacquire()
