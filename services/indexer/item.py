"""One image on its way through the pipeline: from an entry to its row in Milvus."""

from dataclasses import dataclass

from passerby.v1.queue_pb2 import Image
from services.gallery.vectors import Row
from services.indexer.entries import Entry
from services.runtime.embedder_client import Embedding


@dataclass
class Item:
    """data is empty until the image has been fetched, embedding is None until it has a vector."""

    entry: Entry
    image: Image
    data: bytes = b""
    embedding: Embedding | None = None
    rejected: bool = False

    def reject(self, reason: str) -> None:
        """Makes the image a dead letter of its entry; the entry's other images go on."""
        self.rejected = True
        self.entry.reject_image(self.image, reason)


def row(id_: int, image: Image, embedding: Embedding) -> Row:
    return Row(
        id_,
        embedding.vector,
        image.camera,
        image.captured_at.ToMicroseconds() if image.HasField("captured_at") else None,
        dict(image.tags),
    )
