"""How the services reach Redis: with timeouts, retries, and errors that callers understand."""

import contextlib
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from passerby.redis_errors import outage
from services.gallery.store_calls import store_call
from services.runtime.errors import Unavailable

T = TypeVar("T")

# Commands of one pipeline: Redis answers others in between.
_CHUNK = 2000
# A Redis whose node is lost refuses nothing. An attempt to connect, and a connection whose data
# nobody acknowledges, are given up after this long, and the command is tried on a new connection.
_SILENCE_S = 2


def connect(url: str, timeout_s: float, password: str = "") -> Redis:
    """A client that opens connections when needed; each command has `timeout_s` and three tries.

    password: where the URL has none.
    """
    return Redis.from_url(
        url,
        password=password or None,
        socket_timeout=timeout_s,
        socket_connect_timeout=min(timeout_s, _SILENCE_S),
        health_check_interval=30,
        retry=Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.5), 3),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
        **_silence_options(url),
    )


def _silence_options(url: str) -> dict[str, Any]:
    if url.startswith("unix://") or sys.platform != "linux":
        return {}
    return {
        "socket_keepalive_options": {
            socket.TCP_KEEPIDLE: 30,
            socket.TCP_KEEPINTVL: 5,
            socket.TCP_USER_TIMEOUT: 1000 * _SILENCE_S,
        }
    }


@contextlib.contextmanager
def redis_errors(command: str = "") -> Iterator[None]:
    """Turns an outage of Redis into Unavailable; a wrong command stays what it is.

    command: for example `HGET` or `PIPELINE HGET`, as which the body is measured; empty if the
    body is more than that.
    """
    call = store_call("redis", command, command) if command else contextlib.nullcontext()
    try:
        with call:
            yield
    except RedisError as error:
        fault = outage(error)
        if fault is None:
            raise
        said, _, detail = fault.partition(" (")
        raise Unavailable(f"Redis {said}", detail.removesuffix(")")) from error


# KEYS: hashes, ARGV: a field and a value for each; an empty value takes the field away. HSETNX or
# HSET is the last argument. A full Redis refuses what needs memory, unless the script has written
# something before: the first command changes nothing, so that what is in the queue can be indexed.
_SET_FIELDS = """
redis.call('HDEL', KEYS[1], 'no such field')
local set = {}
for i = 1, #KEYS do
  local field, value = ARGV[2 * i - 1], ARGV[2 * i]
  if value == '' then
    set[i] = redis.call('HDEL', KEYS[i], field)
  else
    set[i] = redis.call(ARGV[#ARGV], KEYS[i], field, value)
  end
end
return set
"""


class FieldSetter:
    """Sets fields of many hashes, also in a Redis that is full."""

    def __init__(self, redis: Redis) -> None:
        self._script = redis.register_script(_SET_FIELDS)

    async def __call__(
        self, command: Literal["HSET", "HSETNX"], fields: Sequence[tuple[str, bytes, str | bytes]]
    ) -> list[bool]:
        """fields: (hash, field, value); an empty value takes the field away. Returns for each
        whether the field is new, or gone. Outages of Redis raise Unavailable."""
        changed: list[bool] = []
        with redis_errors(command):
            for chunk in chunks(fields):
                keys = [key for key, _, _ in chunk]
                values = [part for _, field, value in chunk for part in (field, value)]
                changed += map(bool, await self._script(keys=keys, args=[*values, command]))
        return changed


def chunks(items: Sequence[T]) -> Iterable[Sequence[T]]:
    """What goes into one pipeline each."""
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
