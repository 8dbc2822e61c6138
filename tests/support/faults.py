"""Faults in a part of ours that otherwise works: it fails, or waits, before it does its work."""

from collections.abc import Awaitable, Callable
from types import MethodType
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


def before(
    method: Callable[P, Awaitable[T]], fault: Callable[P, Awaitable[None]]
) -> Callable[[], None]:
    """From now on each call of the bound method first awaits `fault`, with the same arguments.

    What `fault` raises reaches the caller; when it returns, the call goes on as if nothing had
    been. `before(vectors.upsert, breaking)`; as a rule on an object that the test throws away, else
    what is returned mends it.
    """
    bound = cast(MethodType, method)

    async def faulty(*args: P.args, **kwargs: P.kwargs) -> T:
        await fault(*args, **kwargs)
        return await method(*args, **kwargs)

    setattr(bound.__self__, bound.__name__, faulty)
    return lambda: setattr(bound.__self__, bound.__name__, method)
