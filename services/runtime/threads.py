"""Threads for one store that may hang: bounded, and nobody else's."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """Runs what blocks. While the store hangs, at most `count` threads do, and others wait for them
    as long as they like to; the event loop's own threads, which also resolve names, stay free. A
    process ends without waiting for a thread that hangs, which a ThreadPoolExecutor would."""

    def __init__(self, count: int, name: str) -> None:
        self._turns = asyncio.Semaphore(count)
        self._name = name

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises. Cancelling leaves its thread to itself."""
        await self._turns.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def end(result: T | None, error: BaseException | None) -> None:
            self._turns.release()
            if answer.done():  # the caller has left
                return
            if error is None:
                answer.set_result(result)  # type: ignore[arg-type]  # T may be None
            else:
                answer.set_exception(error)

        def call() -> None:
            result, failure = None, None
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - the caller gets it
                failure = error
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(end, result, failure)

        threading.Thread(target=call, name=self._name, daemon=True).start()
        return await answer
