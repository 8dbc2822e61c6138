"""A push while Redis is away: it waits and goes on, or says at once that waiting is no use."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import BusyLoadingError

from passerby import Client, Image, Progress, Refused, Unavailable
from passerby.batches import MAX_BATCH_IMAGES
from passerby.redis_errors import outage
from services.gallery.redis_connection import connect
from tests.passerby.by_hand import batches_on, take
from tests.support.processes import free_port
from tests.support.stores import redis_running

IMAGES = [Image(f"{i}.jpg", b"image") for i in range(3 * MAX_BATCH_IMAGES)]


@contextmanager
def in_a_moment(work: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Yields what has the work done soon, in a thread: after the retries of one command."""
    timer = threading.Timer(1.5, work)
    try:
        yield timer.start
    finally:
        timer.join()


def once_queued(work: Callable[[], None], images: int = 1) -> Callable[[Progress], None]:
    """For `on_progress`: does the work once so many images are queued."""
    left = [work]

    def on_progress(progress: Progress) -> None:
        if progress.queued >= images and left:
            left.pop()()

    return on_progress


def test_a_push_goes_on_where_it_was_when_redis_comes_back(tmp_path: Path) -> None:
    port, said = free_port(), list[str]()
    with ExitStack() as servers:
        start = partial(servers.enter_context, redis_running(tmp_path, port))
        client = servers.enter_context(Client(redis_url=start(), on_wait=said.append))
        redis = servers.enter_context(Redis(port=port))
        again = redis_running(tmp_path, port)

        def come_back() -> None:
            servers.enter_context(again)
            assert [len(batch.images) for batch in batches_on(redis)] == [MAX_BATCH_IMAGES] * 3
            take(redis, 3)

        with in_a_moment(come_back) as soon:

            def restart() -> None:
                redis.shutdown(save=False)
                soon()

            done = client.push(IMAGES, again=True, on_progress=once_queued(restart, len(IMAGES)))
    assert (done.queued, done.searchable) == (len(IMAGES), len(IMAGES))
    waiting, over = said
    assert waiting.startswith(f"Waiting up to 300 s: Redis at redis://127.0.0.1:{port}/0 cannot be")
    assert over.startswith("It answers again, after ")


def test_a_push_waits_while_redis_fails_over(redis_url: str) -> None:
    said: list[str] = []
    with (
        Redis.from_url(redis_url) as redis,
        Client(redis_url=redis_url, on_wait=said.append) as client,
        in_a_moment(lambda: redis.replicaof("NO", "ONE")) as promote,
    ):

        def demote() -> None:
            redis.replicaof("127.0.0.1", free_port())
            promote()

        done = client.push(IMAGES, again=True, wait=False, on_progress=once_queued(demote))
        assert done.queued == len(IMAGES)
        assert len(batches_on(redis)) == 3
    assert "is a read-only replica" in said[0]
    assert len(said) == 2


def test_a_redis_that_loads_its_data_is_away() -> None:
    error = BusyLoadingError("LOADING Redis is loading the dataset in memory")
    assert outage(error) == ("cannot be reached (LOADING Redis is loading the dataset in memory)")


def test_an_outage_that_lasts_too_long_ends_the_push(tmp_path: Path) -> None:
    with redis_running(tmp_path) as url, Redis.from_url(url) as redis, Client(redis_url=url) as c:
        stop = once_queued(partial(redis.shutdown, save=False))
        with pytest.raises(Unavailable, match="cannot be reached"):
            c.push(IMAGES, again=True, wait=False, on_progress=stop, outage_timeout_s=0.1)


def test_a_password_may_hold_what_a_url_may_not(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", "p/a+s:s@w#o?r%64=")

    async def pings() -> bool:
        redis = connect(redis_url, 5, os.environ["REDIS_PASSWORD"])
        async with redis:
            return bool(await redis.ping())

    with Redis.from_url(redis_url) as redis, Client(redis_url=redis_url) as client:
        redis.config_set("requirepass", os.environ["REDIS_PASSWORD"])
        try:
            client.push(IMAGES, again=True, wait=False)
            assert asyncio.run(pings())
        finally:
            redis.config_set("requirepass", "")


@pytest.mark.parametrize("password", ["", "wrong"])
def test_a_wrong_password_ends_a_push_at_once(redis_url: str, password: str) -> None:
    said: list[str] = []
    address = redis_url.removeprefix("redis://")
    with (
        Redis.from_url(redis_url) as redis,
        Client(
            redis_url=f"redis://:{password}@{address}" if password else redis_url,
            on_wait=said.append,
        ) as client,
    ):
        redis.config_set("requirepass", "right")
        try:
            with pytest.raises(Refused, match=rf"{address} rejects the user or password") as error:
                client.push(IMAGES, again=True, wait=False)
        finally:
            redis.config_set("requirepass", "")
    assert error.value.code == "PERMISSION_DENIED"
    assert "wrong@" not in str(error.value)
    assert said == []
