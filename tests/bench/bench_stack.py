"""The whole stack: push to searchable, searches, and ingestion beside the bare loop."""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from redis import Redis

from deploy.local.stack import REPOSITORY, Stack
from passerby import Client
from passerby.contract import INGEST_STREAM
from services.embedder.dcpl.model_directory import load_model
from services.embedder.images import decode
from tests.support.stack import enqueue, make_stack
from training.data.augment import normalise
from training.synthetic.dataset import generate

IMAGES = 2000
SINGLES = 30
SEARCHES = 300
BATCH = 64


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / "people", images=IMAGES, seed=31)
        files = sorted((Path(folder) / "people" / "imgs").rglob("*.jpg"))
        people = [file.read_bytes() for file in files]
        bare = bare_loop(people[:200])
        stack = make_stack(Path(folder) / "state")
        stack.up()
        try:
            measure(stack, people, bare)
        finally:
            stack.down()


def bare_loop(people: list[bytes]) -> float:
    """Images/s of decoding and embedding one by one: eager, float32, default memory format."""
    network, card = load_model(REPOSITORY / "models" / "demo")
    started = time.monotonic()
    with torch.inference_mode():
        for data in people:
            pixels = decode(data, height=card.image_height, width=card.image_width)
            network.encode_images(normalise(torch.from_numpy(pixels)[None]))
    return len(people) / (time.monotonic() - started)


def measure(stack: Stack, people: list[bytes], bare: float) -> None:
    with (
        Redis.from_url(stack.redis_url) as redis,
        Client(query=stack.query, redis_url=stack.redis_url) as client,
    ):
        enqueue(redis, "bench", {"warm": people[0]})
        drain(redis)
        until_searchable = [searchable_after(redis, client, people, i) for i in range(SINGLES)]
        show("pushed to searchable, idle stack", until_searchable)

        started = time.monotonic()
        for start in range(0, IMAGES, BATCH):
            chosen = range(start, min(start + BATCH, IMAGES))
            enqueue(redis, "bench", {f"{i}.jpg": people[i] for i in chosen})
        drain(redis)
        speed = IMAGES / (time.monotonic() - started)
        print(
            f"ingestion through queue, embedder, Redis and Milvus: {speed:.0f} images/s, "
            f"{speed / bare:.1f} x the bare embedding loop ({bare:.0f} images/s)"
        )

        def search(number: int) -> float:
            started = time.monotonic()
            colour = ("red", "blue", "green", "black", "white")[number % 5]
            hits = client.search(f"a woman with a {colour} coat and a bag", gallery="bench")
            assert len(hits) == 12
            return time.monotonic() - started

        show("search, one at a time", [search(i) for i in range(SEARCHES)])
        started = time.monotonic()
        with ThreadPoolExecutor(8) as threads:
            took = list(threads.map(search, range(SEARCHES)))
        show("search, 8 at a time", took)
        print(f"searches: {SEARCHES / (time.monotonic() - started):.0f} per second, 8 at a time")


def searchable_after(redis: Redis, client: Client, people: list[bytes], number: int) -> float:
    """Seconds from XADD until a search finds the image."""
    name = f"single/{number}.jpg"
    started = time.monotonic()
    enqueue(redis, "bench", {name: people[number + 1]})
    while not any(
        hit.filename == name for hit in client.search(image=people[number + 1], gallery="bench")
    ):
        time.sleep(0.01)
    return time.monotonic() - started


def drain(redis: Redis) -> None:
    while redis.xlen(INGEST_STREAM):
        time.sleep(0.02)


def show(what: str, seconds: list[float]) -> None:
    p50, p95, worst = np.percentile(seconds, [50, 95, 100]) * 1000
    print(
        f"{what}: p50 {p50:.0f} ms, p95 {p95:.0f} ms, worst {worst:.0f} ms ({len(seconds)} times)"
    )
