"""Dynamic batching: what shares a forward pass, and that every waiter gets an answer."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from prometheus_client import REGISTRY

from services.embedder.batcher import Batcher, ForwardFailed
from services.embedder.device import Device, Turns
from services.runtime.errors import InvalidRequest, Overloaded


class Network:
    """Numbers become vectors (number, its square); keeps the batches; can be held and broken."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.fail_with: Exception | None = None
        self.memory = 1000

    def forward(self, numbers: Sequence[int]) -> NDArray[np.float32]:
        self.entered.set()
        assert self.go_on.wait(10)
        self.batches.append(list(numbers))
        if self.fail_with:
            raise self.fail_with
        if len(numbers) > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return np.array([(n, n * n) for n in numbers], np.float32)


@pytest.fixture
def network() -> Network:
    return Network()


Make = Callable[..., Batcher[int]]


@pytest.fixture
async def make(network: Network) -> AsyncIterator[Make]:
    device, running = Device(1), []

    def make_batcher(
        *,
        max_batch: int = 4,
        max_queue: int = 100,
        length_bucket: Callable[[int], int] = lambda _: 0,
    ) -> Batcher[int]:
        batcher = Batcher[int](
            network.forward,
            device,
            model="tiny",
            modality="images",
            max_batch=max_batch,
            max_queue=max_queue,
            length_bucket=length_bucket,
        )
        running.append(asyncio.create_task(batcher.run()))
        return batcher

    yield make_batcher
    network.go_on.set()
    for task in running:
        task.cancel()
    device.threads.shutdown()


async def hold(network: Network, batcher: Batcher[int]) -> asyncio.Task[NDArray[np.float32]]:
    """Keeps the device busy with the number 0 until `go_on` is set."""
    network.go_on.clear()
    held = asyncio.create_task(batcher.embed(0))
    await asyncio.to_thread(network.entered.wait, 10)
    return held


async def queued(
    batcher: Batcher[int], *numbers: int, bulk: bool = False
) -> list[asyncio.Task[NDArray[np.float32]]]:
    tasks = [asyncio.create_task(batcher.embed(number, bulk=bulk)) for number in numbers]
    await asyncio.sleep(0)
    return tasks


async def test_items_that_wait_for_the_device_share_the_next_pass(
    network: Network, make: Make
) -> None:
    batcher = make(max_batch=4)
    held = await hold(network, batcher)
    tasks = await queued(batcher, 1, 2, 3, 4, 5, 6)
    network.go_on.set()
    vectors = await asyncio.gather(held, *tasks)
    assert network.batches == [[0], [1, 2, 3, 4], [5, 6]]
    assert [vector.tolist() for vector in vectors] == [[n, n * n] for n in range(7)]


async def test_items_whose_caller_has_gone_never_reach_the_device(
    network: Network, make: Make
) -> None:
    batcher = make()
    held = await hold(network, batcher)
    gone, kept = await queued(batcher, 1, 2)
    gone.cancel()
    network.go_on.set()
    await asyncio.gather(held, kept)
    assert network.batches == [[0], [2]]


async def test_a_queue_whose_callers_have_all_gone_does_not_stop_the_batcher(
    network: Network, make: Make
) -> None:
    batcher = make()
    held = await hold(network, batcher)
    for task in await queued(batcher, 1, 2, 3):
        task.cancel()
    network.go_on.set()
    await held
    assert (await batcher.embed(4)).tolist() == [4, 16]
    assert network.batches == [[0], [4]]


async def test_a_failing_pass_answers_every_waiter_and_the_next_one_succeeds(
    network: Network, make: Make
) -> None:
    batcher = make()
    held = await hold(network, batcher)
    tasks = await queued(batcher, 1, 2, 3)
    network.fail_with = RuntimeError("device-side assert")
    network.go_on.set()
    answers = await asyncio.gather(held, *tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ForwardFailed] * 4
    assert "RuntimeError" in str(answers[1])
    network.fail_with = None
    assert (await batcher.embed(5)).tolist() == [5, 25]


async def test_out_of_memory_halves_the_batch_and_keeps_it_small(
    network: Network, make: Make
) -> None:
    batcher = make(max_batch=8)
    network.memory = 3
    held = await hold(network, batcher)
    tasks = await queued(batcher, *range(1, 9))
    network.go_on.set()
    vectors = await asyncio.gather(held, *tasks)
    assert [vector.tolist() for vector in vectors] == [[n, n * n] for n in range(9)]
    network.batches.clear()
    await asyncio.gather(*await queued(batcher, *range(6)))
    assert max(map(len, network.batches)) <= 3


async def test_an_item_that_does_not_fit_alone_is_an_error(network: Network, make: Make) -> None:
    network.memory = 0
    with pytest.raises(ForwardFailed, match="OutOfMemoryError"):
        await make().embed(1)


async def test_length_buckets_do_not_share_a_pass_and_the_oldest_item_goes_first(
    network: Network, make: Make
) -> None:
    batcher = make(length_bucket=lambda number: number // 100)
    held = await hold(network, batcher)
    tasks = await queued(batcher, 501, 1, 2, 502, 3)
    network.go_on.set()
    await asyncio.gather(held, *tasks)
    assert network.batches == [[0], [501, 502], [1, 2, 3]]


async def test_two_batchers_take_turns_on_one_device(network: Network, make: Make) -> None:
    busy, other = make(max_batch=1), make(max_batch=1)
    held = await hold(network, busy)
    tasks = [*await queued(busy, 1, 2, 3, 4), *await queued(other, 9)]
    network.go_on.set()
    await asyncio.gather(held, *tasks)
    assert network.batches.index([9]) <= 2


async def test_searches_go_before_bulk_and_share_no_pass_with_it(
    network: Network, make: Make
) -> None:
    batcher = make(max_batch=2)
    held = await hold(network, batcher)
    tasks = await queued(batcher, 1, 2, 3, bulk=True)
    tasks += await queued(batcher, 7, 8, 9)
    network.go_on.set()
    await asyncio.gather(held, *tasks)
    assert network.batches == [[0], [7, 8], [9], [1, 2], [3]]


async def test_a_search_goes_before_the_bulk_that_another_batcher_waits_with(
    network: Network, make: Make
) -> None:
    images, other, captions = make(max_batch=1), make(max_batch=1), make(max_batch=1)
    held = await hold(network, images)
    tasks = [*await queued(images, 1, 2, bulk=True), *await queued(other, 3, bulk=True)]
    tasks += await queued(captions, 9)
    tasks += await queued(other, 8)
    network.go_on.set()
    await asyncio.gather(held, *tasks)
    assert network.batches == [[0], [8], [9], [1], [3], [2]]


async def test_a_turn_that_nobody_waits_for_any_more_goes_to_the_next() -> None:
    turns = Turns(1)
    await turns.acquire(lambda: False)
    gone, waiting = (asyncio.create_task(turns.acquire(lambda: False)) for _ in range(2))
    await asyncio.sleep(0)
    turns.release()
    gone.cancel()  # in the moment in which it got the turn
    async with asyncio.timeout(10):
        await waiting


async def test_each_thread_of_the_device_computes_a_batch_of_its_own(network: Network) -> None:
    device = Device(2)
    together = threading.Barrier(2)

    def forward(numbers: Sequence[int]) -> NDArray[np.float32]:
        together.wait(10)
        return network.forward(numbers)

    batcher = Batcher[int](
        forward, device, model="tiny", modality="images", max_batch=1, max_queue=10
    )
    running = asyncio.create_task(batcher.run())
    vectors = await asyncio.gather(*(batcher.embed(number) for number in (1, 2, 3, 4)))
    assert [vector.tolist() for vector in vectors] == [[n, n * n] for n in (1, 2, 3, 4)]
    running.cancel()
    device.threads.shutdown()


async def test_a_full_queue_is_overloaded_until_there_is_room_again(make: Make) -> None:
    batcher = make(max_queue=10)
    with batcher.admit(6):
        refused = pytest.raises(Overloaded, match=r"6 are in hand for tiny and 5 more exceed 10")
        with refused, batcher.admit(5):
            pass
        with batcher.admit(4):
            pass
    with batcher.admit(10):
        pass


async def test_bulk_leaves_searches_their_room(make: Make) -> None:
    batcher = make(max_queue=10)
    with batcher.admit(10, bulk=True), batcher.admit(10):
        with pytest.raises(Overloaded), batcher.admit(1, bulk=True):
            pass
        with pytest.raises(Overloaded), batcher.admit(1):
            pass


async def test_a_request_that_can_never_fit_is_told_to_be_split(make: Make) -> None:
    refused = pytest.raises(InvalidRequest, match=r"11 in one request .* 10.* split")
    with refused, make(max_queue=10).admit(11):
        pass


def test_the_batcher_needs_no_torch() -> None:
    code = "import sys, services.embedder.batcher; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_counters_are_there_before_anything_is_counted(network: Network) -> None:
    """An alert's `rate` would miss the first refusal if its series began with it."""
    Batcher[int](
        network.forward, Device(1), model="fresh", modality="images", max_batch=1, max_queue=1
    )
    labels = {"model": "fresh", "modality": "images"}
    for reason in ("overloaded", "invalid", "abandoned", "failed"):
        found = REGISTRY.get_sample_value(
            "passerby_embedder_refused_total", labels | {"reason": reason}
        )
        assert found == 0, reason
    assert REGISTRY.get_sample_value("passerby_embedder_embedded_total", labels) == 0


async def test_the_wait_of_the_oldest_item_is_measured(make: Make, network: Network) -> None:
    def waited() -> float:
        labels = {"model": "tiny", "modality": "images"}
        return REGISTRY.get_sample_value("passerby_embedder_wait_seconds_sum", labels) or 0

    before, batcher = waited(), make()
    network.go_on.clear()
    first = asyncio.create_task(batcher.embed(1))
    while not network.entered.is_set():
        await asyncio.sleep(0.01)
    second = asyncio.create_task(batcher.embed(2))
    await asyncio.sleep(0.2)
    network.go_on.set()
    await asyncio.gather(first, second)
    assert waited() - before > 0.2
