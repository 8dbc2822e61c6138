"""Cuts a stream of images into the batches that the queue carries."""

from collections.abc import Callable, Iterable, Iterator

from passerby.v1 import queue_pb2
from passerby.values import Failure, Image

# Enough to keep a GPU's batches full, and small enough that an entry is done in a moment.
MAX_BATCH_IMAGES = 64
MAX_BATCH_BYTES = 4 * 1024 * 1024
# Together with its batch it must fit into one message to the embedder.
MAX_IMAGE_BYTES = 32 * 1024 * 1024


def messages(
    images: Iterable[Image], reject: Callable[[Failure], None]
) -> Iterator[queue_pb2.Image]:
    """The images as a batch carries them, in order.

    An image that a message cannot carry, or of more than MAX_IMAGE_BYTES, is given to `reject`.
    """
    for image in images:
        try:
            message = image.message()
        except (TypeError, ValueError) as error:
            reject(Failure(image.filename, str(error)))
            continue
        size = message.ByteSize()
        if size > MAX_IMAGE_BYTES:
            reason = f"{size:,} bytes are more than {MAX_IMAGE_BYTES:,}; scale the image down"
            reject(Failure(image.filename, reason))
            continue
        yield message


def batches(images: Iterable[queue_pb2.Image], gallery: str) -> Iterator[queue_pb2.ImageBatch]:
    """Batches of at most MAX_BATCH_IMAGES and MAX_BATCH_BYTES, in order; a larger image goes
    alone."""
    batch = queue_pb2.ImageBatch(gallery=gallery)
    batch_bytes = 0
    for image in images:
        size = image.ByteSize()
        is_full = len(batch.images) == MAX_BATCH_IMAGES or batch_bytes + size > MAX_BATCH_BYTES
        if batch.images and is_full:
            yield batch
            batch, batch_bytes = queue_pb2.ImageBatch(gallery=gallery), 0
        batch.images.append(image)
        batch_bytes += size
    if batch.images:
        yield batch
