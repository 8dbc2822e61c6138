"""Each filename has one id and each id one filename, whoever asks and however often."""

import asyncio

import pytest
from redis.asyncio import Redis

from services.gallery.ids import bucket_and_field, candidate_ids
from services.gallery.names import Names, names_key
from services.gallery.redis_connection import connect
from services.runtime.errors import Unavailable
from tests.support.hostile import FILENAMES
from tests.support.processes import free_port


async def claimed(names: Names, gallery: str, filenames: list[str]) -> list[int]:
    """The ids of filenames all of which get one."""
    ids = [id_ for id_ in await names.claim(gallery, filenames) if id_ is not None]
    assert len(ids) == len(filenames)
    return ids


async def test_a_claimed_name_is_found_in_both_directions(redis: Redis) -> None:
    names = Names(redis)
    ids = await claimed(names, "people", FILENAMES)
    assert ids == [candidate_ids("people", name)[0] for name in FILENAMES]
    assert await names.ids_of("people", FILENAMES) == ids
    assert await names.filenames_of("people", ids) == FILENAMES


async def test_claiming_again_changes_nothing(redis: Redis) -> None:
    names = Names(redis)
    first = await names.claim("people", ["a", "b", "a"])
    assert first[0] == first[2]
    assert await names.claim("people", ["b", "a"]) == [first[1], first[0]]
    keys = [key async for key in redis.scan_iter("*")]
    assert sum([await redis.hlen(key) for key in keys]) == 2


async def test_galleries_have_names_of_their_own(redis: Redis) -> None:
    names = Names(redis)
    (id_,) = await claimed(names, "left", ["a"])
    assert await names.ids_of("right", ["a"]) == [None]
    assert await names.filenames_of("right", [id_]) == [None]


async def test_a_forgotten_name_is_gone_and_its_neighbour_stays(redis: Redis) -> None:
    names = Names(redis)
    gone, stays = await claimed(names, "people", ["gone", "stays"])
    await names.forget("people", [gone])
    await names.forget("people", [gone])
    assert await names.ids_of("people", ["gone", "stays"]) == [None, stays]
    assert await names.filenames_of("people", [gone, stays]) == [None, "stays"]


def colliding(_gallery: str, filename: str) -> list[int]:
    """Every name wants the same three ids."""
    return [7, 8, 9] if filename != "other" else [10, 7, 8]


async def test_a_collision_takes_the_next_id_of_the_sequence(redis: Redis) -> None:
    names = Names(redis, candidates=colliding)
    assert await names.claim("people", ["a", "b"]) == [7, 8]
    assert await names.claim("people", ["c", "b", "a"]) == [9, 8, 7]
    assert await names.filenames_of("people", [7, 8, 9]) == ["a", "b", "c"]


async def test_a_name_without_a_free_id_is_told_so_and_its_neighbours_get_theirs(
    redis: Redis,
) -> None:
    names = Names(redis, candidates=colliding)
    await names.claim("people", ["a", "b", "c"])
    assert await names.claim("people", ["d", "other", "b"]) == [None, 10, 8]
    assert await names.ids_of("people", ["d"]) == [None]


async def test_a_name_keeps_its_id_when_a_better_one_becomes_free(redis: Redis) -> None:
    names = Names(redis, candidates=colliding)
    await names.claim("people", ["a", "b"])
    await names.forget("people", [7])
    assert await names.claim("people", ["b"]) == [8]


async def test_names_claimed_by_several_at_once_have_one_id_each(redis: Redis) -> None:
    names = Names(redis, candidates=lambda _, name: range(int(name) % 5, int(name) % 5 + 40))
    wanted = [str(number) for number in range(30)]
    claims = await asyncio.gather(
        *(names.claim("people", wanted[start:] + wanted[:start]) for start in range(0, 30, 3))
    )
    by_name = [
        dict(zip(wanted[start:] + wanted[:start], ids, strict=True))
        for start, ids in zip(range(0, 30, 3), claims, strict=True)
    ]
    assert all(claim == by_name[0] for claim in by_name)
    assert len(set(by_name[0].values())) == 30


async def test_a_full_bucket_stays_a_compact_list(redis: Redis) -> None:
    """With the setting that the stack and the chart give Redis: 380 names, of up to 255 bytes."""
    await redis.config_set("hash-max-ziplist-entries", 512)
    await redis.config_set("hash-max-ziplist-value", 255)
    names = Names(redis, candidates=lambda _, name: [int(name[-4:])])
    await names.claim("people", [f"{'camera/' * 35}{i:04d}" for i in range(380)])
    bucket, _ = bucket_and_field(0)
    encoding = await redis.object("encoding", names_key("people", bucket))
    assert encoding in (b"ziplist", b"listpack")


async def test_a_redis_that_is_away_is_unavailable() -> None:
    async with connect(f"redis://127.0.0.1:{free_port()}/0", timeout_s=1) as nobody:
        with pytest.raises(Unavailable, match="Redis cannot be reached"):
            await Names(nobody).claim("people", ["a"])


async def test_a_full_redis_takes_the_names_of_what_is_already_queued(redis: Redis) -> None:
    """Indexing an entry frees more than its names take; pushing stops long before."""
    names = Names(redis)
    ids = await names.claim("people", ["a"])
    try:
        await redis.config_set("maxmemory", 1)
        both = await names.claim("people", ["a", "b"])
    finally:
        await redis.config_set("maxmemory", 0)
    assert both[:1] == ids
    assert await names.filenames_of("people", [id_ for id_ in both if id_]) == ["a", "b"]
