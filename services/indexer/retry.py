"""Retry with exponential backoff: waits for a dependency that is unavailable or overloaded."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError

from services.indexer.metrics import RETRIES
from services.runtime.errors import Overloaded, Unavailable, first_line

log = structlog.get_logger()

T = TypeVar("T")

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0
_FIRST_WARNING_S = 5.0
_WARNING_EVERY_S = 30.0
# So often in a row a store that is well may cut the line before it is the command's fault.
_CUTS = 5


class CommandFails(Exception):
    """A store that is well does not take a command of ours: to repeat it would not help."""


async def retry_until_available(
    attempt: Callable[[], Awaitable[T]],
    while_raised: type[Exception] | tuple[type[Exception], ...] = (Unavailable, Overloaded),
) -> T:
    """Repeats the attempt, however long it takes, while it raises one of these; any other error is
    raised."""
    delay_s = _FIRST_DELAY_S
    started = time.monotonic()
    warn_at = started + _FIRST_WARNING_S
    while True:
        try:
            return await attempt()
        except while_raised as error:
            RETRIES.inc()
            now = time.monotonic()
            if now < warn_at:
                log.debug("waiting", reason=str(error), delay_s=delay_s)
            else:
                log.warning("still_waiting", reason=str(error), waited_s=round(now - started))
                warn_at = now + _WARNING_EVERY_S
        # Jitter: attempts that failed together should not come back together.
        await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311 - no secret
        delay_s = min(2 * delay_s, _LONGEST_DELAY_S)


async def retry_command(
    attempt: Callable[[], Awaitable[T]], ping: Callable[[], Awaitable[None]]
) -> T:
    """As retry_until_available. Raises CommandFails where Redis answers a ping and cuts the line on
    this command each time, as it does on one that breaks its protocol (too many arguments)."""
    cuts = 0

    async def checked() -> T:
        nonlocal cuts
        try:
            return await attempt()
        except Unavailable as error:
            await ping()
            if isinstance(error.__cause__, RedisConnectionError):
                cuts += 1
            if cuts >= _CUTS:
                raise CommandFails(first_line(error)) from error
            raise

    return await retry_until_available(checked)
