"""Names in Redis: which filename an id stands for, in small hashes of tens of bytes a name."""

from collections.abc import Callable, Iterable, Sequence

from redis.asyncio import Redis

from services.gallery.ids import BUCKET_BITS, bucket_and_field, candidate_ids
from services.gallery.redis_connection import FieldSetter, chunks, redis_errors


class Names:
    """The names of all galleries. Outages of Redis raise Unavailable."""

    def __init__(
        self, redis: Redis, candidates: Callable[[str, str], Sequence[int]] = candidate_ids
    ) -> None:
        self._redis = redis
        self._set_fields = FieldSetter(redis)
        self._candidates = candidates

    async def claim(self, gallery: str, filenames: Sequence[str]) -> list[int | None]:
        """The id of each filename, in order; a filename without one gets one.

        A filename keeps the id that it has, even when an earlier one of its candidates has
        become free: it never has two. None: all ids that it may have belong to others.
        """
        ids: dict[str, int] = {}
        waiting = list(dict.fromkeys(filenames))
        while waiting:
            found, free = await self._look_up(gallery, waiting)
            ids |= found
            # After a lost race for an id look again: the winner may have been the same name.
            if free:
                won = await self._set_if_absent(gallery, [(id_, n) for n, id_ in free.items()])
                ids |= {name: free[name] for name, mine in zip(free, won, strict=True) if mine}
            waiting = [name for name in free if name not in ids]
        return [ids.get(name) for name in filenames]

    async def ids_of(self, gallery: str, filenames: Sequence[str]) -> list[int | None]:
        """The id of each filename, in order; None for a name that the gallery does not have."""
        found, _ = await self._look_up(gallery, list(dict.fromkeys(filenames)))
        return [found.get(name) for name in filenames]

    async def filenames_of(self, gallery: str, ids: Sequence[int]) -> list[str | None]:
        """The filename of each id, in order; None for an id that has none."""
        names = await self._values(gallery, ids)
        return [None if name is None else name.decode() for name in names]

    async def forget(self, gallery: str, ids: Sequence[int]) -> None:
        """Takes the names away; ids without one are passed over."""
        with redis_errors("PIPELINE HDEL"):
            for chunk in chunks(ids):
                pipeline = self._redis.pipeline(transaction=False)
                for id_ in chunk:
                    bucket, field = bucket_and_field(id_)
                    pipeline.hdel(names_key(gallery, bucket), field)
                await pipeline.execute()

    async def exist(self, gallery: str) -> bool:
        """Whether the gallery has any name."""
        with redis_errors("EXISTS"):
            for keys in chunks(_all_keys(gallery)):
                if await self._redis.exists(*keys):
                    return True
        return False

    async def forget_gallery(self, gallery: str) -> None:
        """Takes all of a gallery's names away."""
        with redis_errors("UNLINK"):
            for keys in chunks(_all_keys(gallery)):
                await self._redis.unlink(*keys)

    async def _look_up(
        self, gallery: str, filenames: Sequence[str]
    ) -> tuple[dict[str, int], dict[str, int]]:
        """(filename -> its id, filename without one -> the first id that is free)."""
        candidates = [list(self._candidates(gallery, name)) for name in filenames]
        holders = iter(await self._values(gallery, [id_ for ids in candidates for id_ in ids]))
        found: dict[str, int] = {}
        free: dict[str, int] = {}
        for name, ids in zip(filenames, candidates, strict=True):
            holder_of = {id_: next(holders) for id_ in ids}
            mine = [id_ for id_, holder in holder_of.items() if holder == name.encode()]
            vacant = [id_ for id_, holder in holder_of.items() if holder is None]
            if mine:
                found[name] = mine[0]
            elif vacant:
                free[name] = vacant[0]
        return found, free

    async def _values(self, gallery: str, ids: Iterable[int]) -> list[bytes | None]:
        values: list[bytes | None] = []
        with redis_errors("PIPELINE HGET"):
            for chunk in chunks(list(ids)):
                pipeline = self._redis.pipeline(transaction=False)
                for id_ in chunk:
                    bucket, field = bucket_and_field(id_)
                    pipeline.hget(names_key(gallery, bucket), field)
                values += await pipeline.execute()
        return values

    async def _set_if_absent(self, gallery: str, names: Sequence[tuple[int, str]]) -> list[bool]:
        fields = []
        for id_, name in names:
            bucket, field = bucket_and_field(id_)
            fields.append((names_key(gallery, bucket), field, name))
        return await self._set_fields("HSETNX", fields)


def names_key(gallery: str, bucket: int) -> str:
    """The Redis hash that holds one bucket of a gallery's names."""
    return f"passerby:names:{gallery}:{bucket:05x}"


def _all_keys(gallery: str) -> list[str]:
    return [names_key(gallery, bucket) for bucket in range(1 << BUCKET_BITS)]
