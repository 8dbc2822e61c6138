"""The embedder's gRPC server: loads the models, answers, and drains when it is told to stop."""

# grpc's classes take type parameters in their stubs only, not at run time.
from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import structlog
import torch

from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from services.embedder.batcher import Device
from services.embedder.dcpl.model_directory import InvalidModel, ModelCard
from services.embedder.encoder import Encoder, NoSuchDevice, choose_device
from services.embedder.served_model import ServedModel, load_encoder
from services.embedder.settings import EmbedderSettings
from services.runtime.errors import Unavailable, WrongModel
from services.runtime.grpc_server import listen, make_server
from services.runtime.health import Health
from services.runtime.process import CannotStart

log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]
Results = list[embedder_pb2.EmbedResult]


class EmbedderServicer(embedder_pb2_grpc.EmbedderServicer):
    """Answers for the models that are loaded so far; the first one is preferred."""

    def __init__(self) -> None:
        self.models: Sequence[ServedModel] = ()

    async def EmbedImages(  # noqa: N802
        self, request: embedder_pb2.EmbedImagesRequest, _context: Context
    ) -> embedder_pb2.EmbedImagesResponse:
        model = self._model(request.model)
        with model.images.admit(len(request.images)):
            results = await _all(model.embed_image(data) for data in request.images)
        return embedder_pb2.EmbedImagesResponse(model=model.card.version, results=results)

    async def EmbedCaptions(  # noqa: N802
        self, request: embedder_pb2.EmbedCaptionsRequest, _context: Context
    ) -> embedder_pb2.EmbedCaptionsResponse:
        model = self._model(request.model)
        with model.captions.admit(len(request.captions)):
            results = await _all(model.embed_caption(caption) for caption in request.captions)
        return embedder_pb2.EmbedCaptionsResponse(model=model.card.version, results=results)

    async def GetModel(  # noqa: N802
        self, request: embedder_pb2.GetModelRequest, _context: Context
    ) -> embedder_pb2.Model:
        return self._model(request.model).description

    def _model(self, wanted: str) -> ServedModel:
        """By name or version, the preferred one for ''. Raises WrongModel and Unavailable."""
        if not self.models:
            raise Unavailable("the embedder is still loading its models; try again in a moment")
        for model in self.models:
            if wanted in ("", model.card.name, model.card.version):
                return model
        served = ", ".join(f"{model.card.name} ({model.card.version})" for model in self.models)
        raise WrongModel(f"model: {wanted!r} is not served here; served are {served}")


async def serve(settings: EmbedderSettings, stop: asyncio.Event) -> None:
    """Serves until `stop` is set, then finishes what is in hand. Raises CannotStart."""
    try:
        torch_device = choose_device(settings.device)
    except NoSuchDevice as error:
        raise CannotStart(str(error)) from error
    device = Device(settings.cores if torch_device.type == "cpu" else 1)
    health = Health(["models"])
    await health.start()
    server = make_server(health, "passerby.v1.Embedder")
    servicer = EmbedderServicer()
    embedder_pb2_grpc.add_EmbedderServicer_to_server(servicer, server)
    port = listen(server, settings.host, settings.port)
    await server.start()
    log.info("listening", host=settings.host, port=port)
    with ThreadPoolExecutor(settings.cores, "decode") as decoders:
        try:
            loading = asyncio.get_running_loop().run_in_executor(
                device.threads, _load, settings, torch_device
            )
            stopping = asyncio.create_task(stop.wait())
            either: set[asyncio.Future[Any]] = {loading, stopping}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                return
            models = [
                ServedModel(
                    card,
                    encoder,
                    device,
                    decoders,
                    max_batch=settings.max_batch,
                    max_queue=settings.max_queue,
                )
                for card, encoder in await loading
            ]
            async with asyncio.TaskGroup() as group:
                batchers = [
                    group.create_task(batcher.run())
                    for model in models
                    for batcher in model.batchers
                ]
                servicer.models = models
                await health.report("models", "")
                await stopping
                await health.drain()
                await server.stop(settings.drain_s)
                for batcher in batchers:
                    batcher.cancel()
        finally:
            await server.stop(None)
            # Loading cannot be cut short, but a second signal is to be heard.
            await asyncio.to_thread(device.threads.shutdown)


def _load(settings: EmbedderSettings, device: torch.device) -> list[tuple[ModelCard, Encoder]]:
    try:
        loaded = []
        for directory in settings.models:
            card, encoder = load_encoder(directory, device, settings.precision)
            log.info(
                "model_loaded",
                name=card.name,
                version=card.version,
                device=str(device),
                precision=str(encoder.precision).removeprefix("torch."),
            )
            loaded.append((card, encoder))
    except (InvalidModel, ArithmeticError) as error:
        raise CannotStart(str(error)) from error
    return loaded


async def _all(answers: Iterable[Coroutine[Any, Any, embedder_pb2.EmbedResult]]) -> Results:
    """Awaits them together, in order; the first failure cancels the rest and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer) for answer in answers]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]
