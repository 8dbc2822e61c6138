"""Tells an outage of Redis, after which the same command may work, from a command that is wrong."""

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

# A failover ends commands that block (UNBLOCKED), a full disk (MISCONF) or too few replicas
# (NOREPLICAS) forbid writing; scripts say so within their own error.
_OUTAGES = ("UNBLOCKED", "MISCONF", "NOREPLICAS")


def rejected_login(error: RedisError) -> str | None:
    """What Redis says of a user or password that it does not accept; None for any other error.

    A service waits for its Redis all the same, as while a password is changed; whoever starts a
    command has to correct it.
    """
    rejected = isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError)
    return _first_line(error) if rejected else None


def outage(error: RedisError) -> str | None:
    """What is wrong with Redis, to be read after its name; None if the command is at fault.

    For example: cannot be reached (Connection refused).
    """
    if isinstance(error, (RedisConnectionError, RedisTimeoutError, MasterDownError, TryAgainError)):
        return f"cannot be reached ({_first_line(error)})"
    if isinstance(error, OutOfMemoryError) or _said_by_script(error, "OOM command not allowed"):
        return "is out of memory: raise maxmemory"
    if isinstance(error, ReadOnlyError) or _said_by_script(error, "READONLY"):
        return "is a read-only replica: REDIS_URL must be the primary"
    if isinstance(error, ResponseError) and any(code in str(error) for code in _OUTAGES):
        return f"accepts no commands now ({_first_line(error)})"
    return None


def _said_by_script(error: RedisError, code: str) -> bool:
    """Of a command within a script; redis-py knows only those that stand alone."""
    return isinstance(error, ResponseError) and code in str(error)


def _first_line(error: RedisError) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
