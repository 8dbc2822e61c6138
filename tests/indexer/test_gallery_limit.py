"""Galleries have a limit: at it and one beyond, and room again when one is deleted."""

from tests.support.indexer import Stack
from tests.support.indexer_parts import Indexer
from tests.support.pictures import picture
from tests.support.processes import Service


async def test_a_push_that_would_make_one_gallery_too_many_is_rejected(
    stack: Stack, embedder: Service
) -> None:
    indexer = Indexer(stack, embedder.address, max_galleries=2)
    for gallery in ("a", "b", "a", "c", "b"):
        stack.push(gallery, {"1.png": picture(1)})
        await indexer.index()
    assert await indexer.vectors.begun() == {"a", "b"}
    (letter,) = stack.dead_letters()
    assert letter["reason"].startswith(
        "gallery c: galleries: 3 galleries are more than the limit of 2 (set by "
        "INDEXER_MAX_GALLERIES); delete one with"
    )
    assert letter["gallery"] == "c"
    await indexer.vectors.drop("a")
    stack.push("c", {"1.png": picture(1)})
    await indexer.index()
    assert await indexer.vectors.begun() == {"b", "c"}
    await indexer.close()
