"""The embedder through gRPC beside the bare loop: images/s, captions/s, and how equal they are."""

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from deploy.local.stack import REPOSITORY
from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from services.embedder.dcpl.model_directory import load_model
from services.embedder.images import decode
from services.runtime.grpc_client import connect
from tests.support.processes import Service
from training.data.augment import normalise
from training.synthetic.dataset import generate

MODEL = REPOSITORY / "models" / "demo"
IMAGES = 512
BARE = 32
ROUNDS = 3
REQUEST = 32
AT_ONCE = 4
# PyTorch's default, and one, which is faster where the cores are shared.
THREADS = (torch.get_num_threads(), 1)

Vectors = NDArray[np.float32]
Item = TypeVar("Item", bytes, str)
Bare = Callable[[Item], Vectors]  # one image or caption -> its vector


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), images=IMAGES, seed=31)
        records = json.loads((Path(folder) / "reid_raw.json").read_text())
        images = [(Path(folder) / "imgs" / r["file_path"]).read_bytes() for r in records]
        captions = [record["captions"][0] for record in records]
        environment = {"EMBEDDER_MODELS": str(MODEL), "LOG_LEVEL": "warning"}
        with Service("embedder", environment) as embedder:
            embedder.wait_until_serving(timeout_s=120)
            asyncio.run(measure(embedder.address, images, captions))


async def measure(address: str, images: list[bytes], captions: list[str]) -> None:
    async with connect(address) as channel:
        stub = embedder_pb2_grpc.EmbedderStub(channel)
        model = await stub.GetModel(embedder_pb2.GetModelRequest())
        print(f"{model.name} on {model.device} in {model.precision}")

        async def embed_images(chosen: Sequence[bytes]) -> Vectors:
            request = embedder_pb2.EmbedImagesRequest(images=chosen)
            return read(await stub.EmbedImages(request))

        async def embed_captions(chosen: Sequence[str]) -> Vectors:
            return read(
                await stub.EmbedCaptions(embedder_pb2.EmbedCaptionsRequest(captions=chosen))
            )

        bare_image, bare_caption = bare_loops()
        await compare("images", images, bare_image, embed_images)
        await compare("captions", captions, bare_caption, embed_captions)
        singles: dict[str, Callable[[int], Awaitable[Vectors]]] = {
            "image": lambda i: embed_images(images[i : i + 1]),
            "caption": lambda i: embed_captions(captions[i : i + 1]),
        }
        for what, one in singles.items():
            took = []
            for number in range(100):
                started = time.monotonic()
                await one(number)
                took.append(time.monotonic() - started)
            p50, p95 = np.percentile(took, [50, 95]) * 1000
            print(f"one {what} alone: p50 {p50:.1f} ms, p95 {p95:.1f} ms")


async def compare(
    what: str,
    items: Sequence[Item],
    bare: Bare[Item],
    embed: Callable[[Sequence[Item]], Awaitable[Vectors]],
) -> None:
    """Rounds of the bare loop and of the service in turn, so that both meet the same neighbours."""
    requests = [items[start : start + REQUEST] for start in range(0, len(items), REQUEST)]
    turns = asyncio.Semaphore(AT_ONCE)

    async def request(chosen: Sequence[Item]) -> Vectors:
        async with turns:
            return await embed(chosen)

    await asyncio.gather(*map(request, requests[:2]))
    rounds = []
    for _ in range(ROUNDS):
        plain, expected = max(
            (bare_speed(bare, items[:BARE], threads) for threads in THREADS), key=itemgetter(0)
        )
        started = time.monotonic()
        vectors = np.concatenate(await asyncio.gather(*map(request, requests)))
        rounds.append((len(items) / (time.monotonic() - started), plain))
    served, plain = np.median(rounds, axis=0)
    ratio = np.median([served / plain for served, plain in rounds])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    cosine = (vectors[:BARE] * expected).sum(axis=1).min()
    print(
        f"{what}: {served:.0f}/s through gRPC ({AT_ONCE} requests of {REQUEST} at once), "
        f"{ratio:.1f} x the bare loop ({plain:.0f}/s, the faster of "
        f"{' and '.join(map(str, THREADS))} threads); smallest cosine to it {cosine:.6f}"
    )


def bare_speed(bare: Bare[Item], items: Sequence[Item], threads: int) -> tuple[float, Vectors]:
    """Items/s of the bare loop, and its vectors."""
    torch.set_num_threads(threads)
    started = time.monotonic()
    vectors = np.concatenate([bare(item) for item in items])
    return len(items) / (time.monotonic() - started), vectors


def bare_loops() -> tuple[Bare[bytes], Bare[str]]:
    """Decoding and embedding one by one: eager, float32, default memory format."""
    network, card = load_model(MODEL)

    def image(data: bytes) -> Vectors:
        pixels = decode(data, height=card.image_height, width=card.image_width)
        with torch.inference_mode():
            values = normalise(torch.from_numpy(pixels)[None]).contiguous()
            return network.encode_images(values).numpy()

    def caption(text: str) -> Vectors:
        words = torch.tensor([card.vocabulary.encode(text)])
        with torch.inference_mode():
            return network.encode_captions(words, torch.tensor([words.shape[1]])).numpy()

    return image, caption


def read(
    answer: embedder_pb2.EmbedImagesResponse | embedder_pb2.EmbedCaptionsResponse,
) -> Vectors:
    return np.stack([np.frombuffer(result.vector, "<f4") for result in answer.results])
