"""How the services reach Redis: with timeouts, retries, and errors that callers understand."""

import contextlib
from collections.abc import Iterator

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from services.runtime.errors import Unavailable, first_line

# A failover ends commands that block (UNBLOCKED), a full disk (MISCONF) or too few replicas
# (NOREPLICAS) forbid writing; scripts say so within their own error, and READONLY as well.
_OUTAGES = ("UNBLOCKED", "MISCONF", "NOREPLICAS", "READONLY")


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
    except (RedisConnectionError, RedisTimeoutError, MasterDownError, TryAgainError) as error:
        raise Unavailable(f"Redis cannot be reached: {first_line(error)}") from error
    except OutOfMemoryError as error:
        raise Unavailable("Redis is out of memory: raise maxmemory") from error
    except ReadOnlyError as error:
        raise Unavailable("Redis is a read-only replica: REDIS_URL must be the primary") from error
    except ResponseError as error:
        if not any(code in str(error) for code in _OUTAGES):
            raise
        raise Unavailable(f"Redis does not take commands now: {first_line(error)}") from error
