"""Of people among identical frames, how many does each index find, and how fast?

On Milvus Lite and on the full one; BENCH_PEOPLE=50000 for a larger gallery.
"""

import asyncio
import io
import json
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Picture

from services.embedder.images import decode
from services.embedder.served_model import load_encoder, parse_caption
from services.gallery.collection_names import CollectionName
from services.gallery.index import Index, Kind
from services.gallery.vectors import Row, Vectors
from tests.support.full_milvus import full_milvus_running
from tests.support.stores import milvus_client, milvus_running
from training.synthetic.dataset import generate

PEOPLE = int(os.environ.get("BENCH_PEOPLE", "1200"))
DRAWN = 1200
CAPTIONS = 100
FRAMES = (0, 200, 1000, 5000)
KINDS: tuple[Kind, ...] = ("AUTOINDEX", "FLAT", "IVF_FLAT")
Vector = NDArray[np.float32]


def main() -> None:
    # It logs every alias that is not there yet.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        people, captions, frame = embedded(folder / "people")
        for server, milvus in {"Lite": milvus_running, "full": full_milvus_running}.items():
            with milvus(folder / server) as uri:
                for frames in FRAMES:
                    for kind in KINDS:
                        measured = measure(uri, kind, people, captions, frame, frames)
                        line = asyncio.run(measured)
                        print(f"{server} {PEOPLE:>6} people {frames:>5} frames {kind:>9}: {line}")


def embedded(folder: Path) -> tuple[Vector, Vector, Vector]:
    """(people, dimension), (captions, dimension), (dimension,): by the demo's model. Beyond those
    that are drawn, people are drawn ones with a little noise."""
    generate(folder, images=DRAWN, seed=77)
    records = json.loads((folder / "reid_raw.json").read_text())
    card, encoder = load_encoder(Path("models/demo"), torch.device("cpu"), "auto")

    def of_image(data: bytes) -> Vector:
        pixels = decode(data, height=card.image_height, width=card.image_width)
        (vector,) = encoder.encode_images([pixels])
        return np.asarray(vector, np.float32)

    drawn = np.stack([of_image((folder / "imgs" / r["file_path"]).read_bytes()) for r in records])
    words = [parse_caption(r["captions"][0], card.vocabulary)[0] for r in records[:CAPTIONS]]
    black = io.BytesIO()
    Picture.new("RGB", (64, 128)).save(black, "PNG")
    random = np.random.default_rng(1)
    people = drawn[np.arange(PEOPLE) % len(drawn)]
    people[len(drawn) :] += random.normal(0, 0.015, people[len(drawn) :].shape)
    people /= np.linalg.norm(people, axis=1, keepdims=True)
    captions = np.stack([encoder.encode_captions([each])[0] for each in words])
    return people.astype(np.float32), captions, of_image(black.getvalue())


async def measure(
    uri: str, kind: Kind, people: Vector, captions: Vector, frame: Vector, frames: int
) -> str:
    vectors = Vectors(uri, timeout_s=120, index=Index(kind))
    images = np.concatenate([people, np.repeat(frame[None], frames, axis=0)])
    order = np.random.default_rng(2).permutation(len(images))
    await vectors.upsert("bench", "v", [Row(int(id_), images[id_]) for id_ in order])
    settle(uri, str(CollectionName("bench", "v")))
    sample = range(0, len(people), max(1, len(people) // 500))
    found = [id_ in await ids(vectors, people[id_], 12) for id_ in sample]
    took, best = [], []
    for caption in captions:
        started = time.perf_counter()
        hits = await vectors.search("bench", caption, 10)
        took.append(time.perf_counter() - started)
        tenth = np.partition(images @ caption, -10)[-10]
        best.append(sum(hit.score >= tenth - 1e-5 for hit in hits) / 10)
    deep = await vectors.search("bench", captions[0], 1000)
    await vectors.drop("bench")
    await vectors.close()
    return (
        f"themselves {np.mean(found):.1%}, best ten {np.mean(best):.1%}, of 1,000 {len(deep):,}, "
        f"p50 {1000 * statistics.median(took):.1f} ms"
    )


async def ids(vectors: Vectors, vector: Vector, top_k: int) -> set[int]:
    return {hit.id for hit in await vectors.search("bench", vector, top_k)}


def settle(uri: str, collection: str) -> None:
    """Has all that was written sealed, and waits until its index is built and loaded."""
    client = milvus_client(uri)
    client.flush(collection)
    index = {"pending_index_rows": 1}
    while int(index.get("pending_index_rows") or 0):
        time.sleep(1)
        index = client.describe_index(collection, "vector")
    client.close()
    time.sleep(8)
