"""`python -m services.embedder`: images and captions -> vectors, on a GPU or on CPUs."""

import asyncio
import contextlib
from typing import Any

import structlog
import torch

from passerby.v1 import embedder_pb2_grpc
from services.embedder.dcpl.model_directory import InvalidModel, ModelCard
from services.embedder.decoding import Decoders
from services.embedder.device import Device, NoSuchDevice, choose_device, measure_memory
from services.embedder.encoder import Encoder
from services.embedder.served_model import ServedModel, load_encoder
from services.embedder.servicer import NAME, EmbedderServicer
from services.embedder.settings import EmbedderSettings
from services.runtime.grpc_server import listen, make_server
from services.runtime.health import Health
from services.runtime.private_port import private_port
from services.runtime.service import CannotStart, run, serving

log = structlog.get_logger()


async def main(settings: EmbedderSettings, stop: asyncio.Event) -> None:
    try:
        torch_device = choose_device(settings.device)
    except NoSuchDevice as error:
        raise CannotStart(str(error)) from error
    measure_memory(torch_device)
    async with contextlib.AsyncExitStack() as parts:
        threads = settings.cores if torch_device.type == "cpu" else 1
        device = await parts.enter_async_context(Device(threads))
        decoders = await parts.enter_async_context(
            Decoders(
                settings.cores,
                memory_mib=settings.decode_memory_mib,
                cpu_s=settings.decode_cpu_s,
            )
        )
        servicer = EmbedderServicer()

        health = Health({"models": None})
        await parts.enter_async_context(private_port(health, settings.host, settings.metrics_port))
        server = make_server(health, NAME)
        embedder_pb2_grpc.add_EmbedderServicer_to_server(servicer, server)
        listen(server, settings.host, settings.port)
        async with serving(health, server, stop=stop, drain_s=settings.drain_s):
            loading = asyncio.get_running_loop().run_in_executor(
                device.threads, _load, settings, torch_device
            )
            stopping = asyncio.create_task(stop.wait())
            either: set[asyncio.Future[Any]] = {loading, stopping}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                await server.stop(None)  # no call in hand can be answered any more
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
            # Stopped after the server, whose calls in hand wait for them.
            servicer.models = [await parts.enter_async_context(model) for model in models]
            await health.report("models", "")
            await stopping


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


if __name__ == "__main__":
    run("embedder", EmbedderSettings, main)
