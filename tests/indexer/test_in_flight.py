"""Slots are limited, and batches that write one name do so in the order of their start."""

import asyncio
from collections.abc import Sequence

from passerby.v1.queue_pb2 import Image
from services.indexer.consumer import entries_per_batch
from services.indexer.entries import Entry
from services.indexer.in_flight import Batch, InFlight


def entry(*filenames: str, gallery: str = "people") -> Entry:
    images = [Image(filename=name) for name in filenames]
    return Entry(b"1-0", {b"batch": b"x" * 100}, 1, gallery, images)


async def written(in_flight: InFlight, entries: Sequence[Entry]) -> list[str]:
    """The names in the order in which batches write them, the first of which is the slowest."""
    order: list[str] = []

    async def work(batch: Batch, slow_s: float) -> None:
        await asyncio.sleep(slow_s)
        await batch.earlier_writes()
        order.extend(image.filename for entry in batch.entries for image in entry.images)

    for place, one in enumerate(entries):
        batch = in_flight.batch([one])
        in_flight.start(batch, work(batch, 0.2 / (place + 1)))
    await in_flight.all_done()
    return order


async def test_batches_write_one_name_in_the_order_of_their_start() -> None:
    entries = [entry("a", "first"), entry("a", "second"), entry("b"), entry("a", "third")]
    order = await written(InFlight(4), entries)
    assert [name for name in order if name in ("first", "second", "third")] == [
        "first",
        "second",
        "third",
    ]
    assert order[0] == "b"  # waits for nobody


async def test_a_name_in_another_gallery_is_another_name() -> None:
    order = await written(InFlight(4), [entry("a"), entry("a", "other", gallery="others")])
    assert order == ["a", "other", "a"]


async def test_a_slot_becomes_free_when_a_batch_is_done() -> None:
    in_flight, release = InFlight(2), asyncio.Event()

    async def work(event: asyncio.Event) -> None:
        await event.wait()

    for event in (release, asyncio.Event()):
        batch = in_flight.batch([entry("a")], recovered=event is release)
        in_flight.start(batch, work(event))
    free = asyncio.create_task(in_flight.free_slot())
    await asyncio.sleep(0.05)
    assert not free.done()
    assert (len(in_flight), in_flight.recovered, len(in_flight.entries)) == (2, 1, 2)
    release.set()
    await asyncio.wait_for(free, 5)
    assert (len(in_flight), in_flight.recovered, len(in_flight.entries)) == (1, 0, 1)
    await in_flight.cancel()
    assert len(in_flight) == 0


def test_a_batch_has_as_many_entries_as_its_images_and_bytes_allow() -> None:
    assert entries_per_batch([entry(*"abcd")] * 3, batch_images=128) == 128 // 4
    assert entries_per_batch([entry()], batch_images=128) == 128
    large = Entry(b"1-0", {b"batch": bytes(64 * 1024 * 1024)}, 1)
    assert entries_per_batch([large], batch_images=128) == 1
