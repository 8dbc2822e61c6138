"""Cuts a stream of images into the batches that the queue carries."""

from collections.abc import Callable, Iterable, Iterator

from passerby.v1 import queue_pb2
from passerby.values import Failure, Image

# Enough to keep a GPU's batches full, and small enough that an entry is done in a moment.
MAX_BATCH_IMAGES = 64
MAX_BATCH_BYTES = 4 * 1024 * 1024
# With its batch it has to fit one message to the embedder.
MAX_IMAGE_BYTES = 32 * 1024 * 1024


def batches(
    images: Iterable[Image],
    gallery: str,
    refuse: Callable[[Failure], None],
    *,
    max_images: int = MAX_BATCH_IMAGES,
    max_bytes: int = MAX_BATCH_BYTES,
    max_image_bytes: int = MAX_IMAGE_BYTES,
) -> Iterator[queue_pb2.ImageBatch]:
    """Batches of at most `max_images` and `max_bytes`, in order; a larger image goes alone.

    What no message can carry, or is larger than `max_image_bytes`, is given to `refuse`.
    """
    batch = queue_pb2.ImageBatch(gallery=gallery)
    batch_bytes = 0
    for image in images:
        try:
            message = image.message()
        except (TypeError, ValueError) as error:
            refuse(Failure(image.filename, str(error)))
            continue
        size = message.ByteSize()
        if size > max_image_bytes:
            refuse(
                Failure(
                    image.filename,
                    f"{size:,} bytes are more than {max_image_bytes:,}; scale it down",
                )
            )
            continue
        if batch.images and (len(batch.images) == max_images or batch_bytes + size > max_bytes):
            yield batch
            batch, batch_bytes = queue_pb2.ImageBatch(gallery=gallery), 0
        batch.images.append(message)
        batch_bytes += size
    if batch.images:
        yield batch
