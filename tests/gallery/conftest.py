"""Clients of the real stores, each on an empty one."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from services.gallery.redis_connection import connect
from services.gallery.vectors import Vectors


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    redis = connect(redis_url, timeout_s=2)
    yield redis
    await redis.aclose()


@pytest.fixture
async def vectors(milvus_uri: str) -> AsyncIterator[Vectors]:
    vectors = Vectors(milvus_uri)
    yield vectors
    await vectors.close()
