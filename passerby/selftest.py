"""Does an installation work from end to end? `python -m passerby.selftest`, run by `helm test`.

Pushes three drawn images through the queue into the gallery `selftest`, finds them by image and by
caption, and deletes them. Reports each step; the first that fails ends it with exit code 1.
"""

import importlib.resources
import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import click
import grpc

from passerby.client import Client
from passerby.counted import counted
from passerby.errors import PasserbyError, Refused, Unavailable
from passerby.values import Image

GALLERY = "selftest"
CAPTION = "a person in a red shirt and blue trousers"
INDEX_TIMEOUT_S = 120.0
POLL_S = 0.2
# DNS may fail at first to find a name that is as new as the test.
HEALTH_TIMEOUT_S = 15.0


class StepFailed(Exception):
    """What is wrong, for the operator."""


def drawn_people() -> dict[str, bytes]:
    """Name -> PNG of a figure, 48 pixels wide and 96 high, in the clothes that the name says."""
    folder = importlib.resources.files("passerby") / "selftest_images"
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    return {file.name: file.read_bytes() for file in files}


@dataclass(frozen=True)
class SelfTest:
    """One run. Each step returns what it found, or raises StepFailed or PasserbyError."""

    client: Client
    images: Mapping[str, bytes]
    """Filename -> image; the filenames are this run's own, so that two runs do not collide."""
    unready: str = ""
    """Address of query's gRPC port at pods that are not ready, too; empty: there is none."""

    def steps(self) -> dict[str, Callable[[], str]]:
        """Name -> step, in order."""
        return {
            "reach": self.reach,
            "push": self.push,
            "index": self.index,
            "search": self.search,
            "delete": self.delete,
        }

    def reach(self) -> str:
        try:
            galleries = counted(len(self.client.galleries()), "gallery", "galleries")
        except Unavailable as error:
            raise StepFailed(f"{error}{self._what_query_waits_for()}") from error
        return f"{self.client.query} answers and has {galleries}"

    def push(self) -> str:
        batch = (Image(name, data=data) for name, data in self.images.items())
        # Also what an earlier run left searchable: it is to be indexed now.
        self.client.push(batch, gallery=GALLERY, wait=False, outage_timeout_s=0, again=True)
        return f"{len(self.images)} images are on the queue"

    def index(self) -> str:
        start = time.monotonic()
        for name in self.images:
            while not self._is_indexed(name):
                self._check_dead_letters()
                if time.monotonic() - start > INDEX_TIMEOUT_S:
                    raise StepFailed(
                        f"not searchable after {INDEX_TIMEOUT_S:.0f} s, with "
                        f"{self.client.pending()} unfinished entries on the queue: is the indexer "
                        "ready? Its log says what it is waiting for"
                    )
                time.sleep(POLL_S)
        return f"searchable after {time.monotonic() - start:.1f} s"

    def search(self) -> str:
        name, data = next(iter(self.images.items()))
        similar = self.client.search(image=data, gallery=GALLERY, top_k=100)
        if name not in {hit.filename for hit in similar}:
            raise StepFailed(f"a search by image does not find that image: {len(similar)} hits")
        described = self.client.search(CAPTION, gallery=GALLERY)
        if not described:
            raise StepFailed(f"a search for {CAPTION!r} found nothing")
        return f"{len(similar)} hits by image, {len(described)} by caption"

    def delete(self) -> str:
        deleted = self.client.delete(gallery=GALLERY, filenames=list(self.images))
        if deleted != len(self.images):
            raise StepFailed(f"only {deleted} of {len(self.images)} images were there to delete")
        name = next(iter(self.images))
        if self._is_indexed(name):
            raise StepFailed(f"{name} was deleted and is still found")
        return f"{deleted} images were deleted"

    def _what_query_waits_for(self) -> str:
        """Pods that are not ready have no address in query's own Service."""
        if not self.unready:
            return ""
        # Where query runs this package is there; a client does not need it.
        from passerby.health import DEPENDENCIES, is_serving

        try:
            with grpc.insecure_channel(self.unready) as channel:
                grpc.channel_ready_future(channel).result(HEALTH_TIMEOUT_S)
                missing = [
                    name
                    for name in DEPENDENCIES
                    if not is_serving(channel, name, timeout_s=HEALTH_TIMEOUT_S)
                ]
        except (grpc.RpcError, grpc.FutureTimeoutError):
            return "; none of its pods answers: `passerby doctor` says why"
        waits = f"; its pods wait for {', '.join(missing)}: `passerby doctor` says why"
        return waits if missing else ""

    def _is_indexed(self, filename: str) -> bool:
        try:
            self.client.search(filename=filename, gallery=GALLERY, top_k=1)
        except Refused as error:
            if error.code == "NOT_FOUND":
                return False
            raise
        return True

    def _check_dead_letters(self) -> None:
        for letter in self.client.dead_letters(GALLERY):
            if letter.filename in self.images:
                raise StepFailed(f"the indexer rejected them: {letter.reason}")


def main() -> None:
    """$PASSERBY_QUERY, $PASSERBY_QUERY_UNREADY and $REDIS_URL say where the services are."""
    run = uuid.uuid4().hex[:8]
    images = {f"{run}/{name}": data for name, data in drawn_people().items()}
    unready = os.environ.get("PASSERBY_QUERY_UNREADY", "")
    with Client() as client:
        for name, step in SelfTest(client, images, unready).steps().items():
            try:
                click.echo(f"{name}: {step()}")
            except (StepFailed, PasserbyError) as error:
                click.echo(f"{name}: FAILED: {error}")
                sys.exit(1)


if __name__ == "__main__":
    main()
