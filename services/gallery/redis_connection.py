"""How the services reach Redis: with timeouts, retries, and errors that callers understand."""

import contextlib
from collections.abc import Iterator

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from passerby.redis_errors import outage
from services.runtime.errors import Unavailable


def connect(url: str, timeout_s: float) -> Redis:
    """A client that opens connections when needed; each command has `timeout_s` and three tries."""
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.5), 3),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )


@contextlib.contextmanager
def redis_errors() -> Iterator[None]:
    """Turns an outage of Redis into Unavailable; a wrong command stays what it is."""
    try:
        yield
    except RedisError as error:
        fault = outage(error)
        if fault is None:
            raise
        raise Unavailable(f"Redis {fault}") from error
