"""Does an installation work from end to end? `python -m passerby.selftest`, run by `helm test`.

Pushes three drawn images through the queue into the gallery `selftest`, finds them by image and by
caption, and deletes them. Says each step; the first that fails ends it with exit code 1.
"""

import struct
import sys
import time
import uuid
import zlib
from collections.abc import Callable

import click

from passerby.client import Client
from passerby.errors import PasserbyError, Refused
from passerby.values import Image

GALLERY = "selftest"
CAPTION = "a person in a red shirt and blue trousers"
INDEX_TIMEOUT_S = 120.0
POLL_S = 0.2
WIDTH, HEIGHT = 48, 96

Colour = tuple[int, int, int]
CLOTHES: dict[str, tuple[Colour, Colour]] = {
    "red-on-blue.png": ((200, 30, 30), (30, 40, 150)),
    "green-on-black.png": ((40, 140, 60), (20, 20, 20)),
    "white-on-brown.png": ((235, 235, 235), (110, 70, 40)),
}


class StepFailed(Exception):
    """What is wrong, for the operator."""


def drawn_person(shirt: Colour, trousers: Colour) -> bytes:
    """A PNG of a figure in these clothes, without any imaging library."""
    street, skin = (150, 150, 145), (225, 180, 150)
    rows = []
    for y in range(HEIGHT):
        if y < HEIGHT // 5:
            colour, half = skin, WIDTH // 9
        elif y < HEIGHT // 2:
            colour, half = shirt, WIDTH // 4
        else:
            colour, half = trousers, WIDTH // 6
        row = [colour if abs(x - WIDTH // 2) <= half else street for x in range(WIDTH)]
        rows.append(b"\0" + bytes(channel for pixel in row for channel in pixel))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def steps(client: Client, run: str) -> dict[str, Callable[[], str]]:
    """Name -> action, in order; an action returns what it found or raises.

    run: makes this run's filenames its own, so that two runs do not disturb each other.
    """
    images = {f"{run}/{name}": drawn_person(*clothes) for name, clothes in CLOTHES.items()}
    first = next(iter(images))

    def reach() -> str:
        return f"{client.query} answers, {len(client.galleries())} galleries"

    def push() -> str:
        batch = (Image(name, data=data) for name, data in images.items())
        client.push(batch, gallery=GALLERY, wait=False)
        return f"{len(images)} images are on the queue"

    def index() -> str:
        start = time.monotonic()
        for name in images:
            while not is_indexed(client, name):
                refused = [
                    letter.reason
                    for letter in client.dead_letters(GALLERY)
                    if letter.filename in images
                ]
                if refused:
                    raise StepFailed(f"the indexer refused them: {refused[0]}")
                if time.monotonic() - start > INDEX_TIMEOUT_S:
                    raise StepFailed(
                        f"not searchable after {INDEX_TIMEOUT_S:.0f} s, {client.pending()} entries "
                        "are unfinished: is the indexer ready? Its log says what it waits for"
                    )
                time.sleep(POLL_S)
        return f"searchable after {time.monotonic() - start:.1f} s"

    def search() -> str:
        alike = client.search(image=images[first], gallery=GALLERY, top_k=100)
        if first not in {hit.filename for hit in alike}:
            raise StepFailed(f"an image does not find itself among {len(alike)} hits")
        described = client.search(CAPTION, gallery=GALLERY)
        if not described:
            raise StepFailed(f"{CAPTION!r} finds nothing")
        return f"{len(alike)} hits by image, {len(described)} by caption"

    def delete() -> str:
        deleted = client.delete(gallery=GALLERY, filenames=list(images))
        if deleted != len(images):
            raise StepFailed(f"{deleted} of {len(images)} images were there to delete")
        if is_indexed(client, first):
            raise StepFailed(f"{first} is still found")
        return f"{deleted} images are gone"

    return {"reach": reach, "push": push, "index": index, "search": search, "delete": delete}


def is_indexed(client: Client, filename: str) -> bool:
    """Whether the gallery has this image."""
    try:
        client.search(filename=filename, gallery=GALLERY, top_k=1)
    except Refused as error:
        if error.code == "NOT_FOUND":
            return False
        raise
    return True


def main() -> None:
    """Where the services are is said by $PASSERBY_QUERY and $REDIS_URL."""
    with Client() as client:
        for name, action in steps(client, uuid.uuid4().hex[:8]).items():
            try:
                click.echo(f"{name}: {action()}")
            except (StepFailed, PasserbyError) as error:
                click.echo(f"{name}: FAILED: {error}")
                sys.exit(1)


if __name__ == "__main__":
    main()
