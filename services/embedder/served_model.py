"""One model being served: an image file or a caption in, a result for the caller out."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from grpc import StatusCode
from numpy.typing import NDArray

from passerby.contract import MAX_CAPTION_CHARACTERS
from passerby.v1 import embedder_pb2
from services.embedder.batcher import Batcher
from services.embedder.dcpl.model_directory import ModelCard, load_model
from services.embedder.dcpl.precision import choose_precision
from services.embedder.dcpl.vocabulary import WORDS, Vocabulary, tokenise
from services.embedder.decoding import Decoders
from services.embedder.device import Device
from services.embedder.encoder import Encoder, Pixels
from services.embedder.images import InvalidImage

# On a CPU larger batches fall out of the cache and are slower; a GPU wants them large.
SUITABLE_BATCH = {"cpu": 16, "cuda": 256}
UNKNOWN_WORDS_SHOWN = 10

Results = list[embedder_pb2.EmbedResult]


class InvalidCaption(ValueError):
    """The caller's fault: the caption says nothing that can be embedded; tells why."""


def parse_caption(caption: str, vocabulary: Vocabulary) -> tuple[list[int], list[str]]:
    """A caption -> the ids of its words, and those words (once each) that are not known.

    Raises InvalidCaption.
    """
    if len(caption) > MAX_CAPTION_CHARACTERS:
        raise InvalidCaption(
            f"the caption has {len(caption):,} characters; at most {MAX_CAPTION_CHARACTERS:,} "
            f"are taken"
        )
    words = tokenise(caption, vocabulary.lower)
    if not words:
        raise InvalidCaption("the caption has no words; say what the person looks like")
    if len(words) > WORDS.value:
        raise InvalidCaption(f"{WORDS.exceeded(len(words))}; say it in fewer")
    unknown = list(dict.fromkeys(word for word in words if not vocabulary.known(word)))
    if not any(vocabulary.known(word) for word in words):
        shown = ", ".join(unknown[:UNKNOWN_WORDS_SHOWN])
        more = ", ..." if len(unknown) > UNKNOWN_WORDS_SHOWN else ""
        raise InvalidCaption(
            f"no word of the caption is known to the model ({shown}{more}); use other words"
        )
    return vocabulary.ids(words), unknown


def length_bucket(words: Sequence[int]) -> int:
    """Captions of up to 32, 64, 128, ... words: within a bucket padding costs little."""
    return max(len(words) - 1, 31).bit_length()


class ServedModel:
    """A loaded model with its two queues; within `async with` they are worked off."""

    def __init__(
        self,
        card: ModelCard,
        encoder: Encoder,
        device: Device,
        decoders: Decoders,
        *,
        max_batch: int,
        max_queue: int,
    ) -> None:
        self.card = card
        self._decoders = decoders
        max_batch = max_batch or SUITABLE_BATCH[encoder.device.type]
        self._images = Batcher[Pixels](
            encoder.encode_images,
            device,
            model=card.name,
            modality="images",
            max_batch=max_batch,
            max_queue=max_queue,
        )
        self._captions = Batcher[Sequence[int]](
            encoder.encode_captions,
            device,
            model=card.name,
            modality="captions",
            max_batch=max_batch,
            max_queue=max_queue,
            length_bucket=length_bucket,
        )
        self._running = contextlib.AsyncExitStack()
        # Decoded images are large: no more of them than keep the device busy.
        enough = (device.passes_at_once + 1) * max_batch
        self._decoded = {bulk: asyncio.Semaphore(enough) for bulk in (False, True)}
        self.description = embedder_pb2.Model(
            name=card.name,
            version=card.version,
            dimension=card.architecture.dimension,
            device=str(encoder.device),
            precision=str(encoder.precision).removeprefix("torch."),
            vocabulary_size=len(card.vocabulary),
            image_size=embedder_pb2.ImageSize(height=card.image_height, width=card.image_width),
        )

    async def __aenter__(self) -> Self:
        group = await self._running.enter_async_context(asyncio.TaskGroup())
        for running in (self._images.run(), self._captions.run()):
            self._running.callback(group.create_task(running).cancel)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._running.aclose()

    async def embed_images(self, images: Sequence[bytes], *, bulk: bool = False) -> Results:
        """One result for each image file, in order: its vector, or what is wrong with it.

        bulk: what is not goes first.
        Raises Overloaded, InvalidRequest (more than can ever be queued) and ForwardFailed.
        """
        with self._images.admit(len(images), bulk=bulk):
            return await _all(self._embed_image(data, bulk) for data in images)

    async def embed_captions(self, captions: Sequence[str]) -> Results:
        """One result for each caption, in order: its vector and the words that were ignored, or
        what is wrong with it. Raises as embed_images does.
        """
        with self._captions.admit(len(captions)):
            return await _all(self._embed_caption(caption) for caption in captions)

    async def _embed_image(self, data: bytes, bulk: bool) -> embedder_pb2.EmbedResult:
        async with self._decoded[bulk]:
            try:
                pixels = await self._decoders.decode(
                    data, height=self.card.image_height, width=self.card.image_width, bulk=bulk
                )
            except InvalidImage as error:
                self._images.count_refused("invalid")
                return _refused(str(error))
            return _embedded(await self._images.embed(pixels, bulk=bulk))

    async def _embed_caption(self, caption: str) -> embedder_pb2.EmbedResult:
        try:
            words, unknown = parse_caption(caption, self.card.vocabulary)
        except InvalidCaption as error:
            self._captions.count_refused("invalid")
            return _refused(str(error))
        return _embedded(await self._captions.embed(words), unknown)


def load_encoder(
    directory: Path, device: torch.device, precision: str
) -> tuple[ModelCard, Encoder]:
    """Reads a model and runs it at some sizes, so that the first requests are fast as well.

    precision: auto, float32 or bfloat16, see choose_precision.
    Raises InvalidModel, or ArithmeticError if its vectors are not finite.
    """
    network, card = load_model(directory)
    chosen = choose_precision(precision, device, card.image_width)
    encoder = Encoder(network, card, device, chosen)
    grey = np.full((card.image_height, card.image_width, 3), 127, np.uint8)
    batch = SUITABLE_BATCH[device.type]
    while batch:  # the sizes that a GPU sees, unless it is told to take larger ones
        encoder.encode_images([grey] * batch)
        encoder.encode_captions([[card.vocabulary.unknown] * 20] * batch)
        batch //= 2
    return card, encoder


async def _all(answers: Iterable[Coroutine[Any, Any, embedder_pb2.EmbedResult]]) -> Results:
    """Awaits them together, in order; the first failure cancels the rest and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer) for answer in answers]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


def _embedded(
    vector: NDArray[np.float32], unknown_words: Sequence[str] = ()
) -> embedder_pb2.EmbedResult:
    return embedder_pb2.EmbedResult(
        vector=vector.astype("<f4").tobytes(), unknown_words=unknown_words
    )


def _refused(message: str) -> embedder_pb2.EmbedResult:
    return embedder_pb2.EmbedResult(
        error=embedder_pb2.ItemError(code=StatusCode.INVALID_ARGUMENT.name, message=message)
    )
