"""How services stop: not ready at once, calls in hand finished, a second signal ends all."""

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from passerby.v1 import embedder_pb2, embedder_pb2_grpc
from services.runtime.grpc_server import listen, make_server
from services.runtime.health import Health
from services.runtime.service import serving
from tests.support.embedder_servicer import EmptyEmbedder
from tests.support.processes import REPOSITORY, free_port


class Servicer(EmptyEmbedder):
    """Answers a call once it is released."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.release = asyncio.Event()

    async def GetModel(  # noqa: N802 - the contract's name
        self, request: embedder_pb2.GetModelRequest, context: Any
    ) -> embedder_pb2.Model:
        self.arrived.set()
        await self.release.wait()
        return embedder_pb2.Model(name="example")


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


class Parts:
    """What `serving` is given, and a client of it."""

    def __init__(self, servicer: Servicer, health: Health) -> None:
        self.health = health
        self.stop = asyncio.Event()
        self.server = make_server(health)
        embedder_pb2_grpc.add_EmbedderServicer_to_server(servicer, self.server)
        port = listen(self.server, "127.0.0.1", 0)
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.client: embedder_pb2_grpc.EmbedderAsyncStub = embedder_pb2_grpc.EmbedderStub(
            self.channel
        )

    async def call(self) -> str:
        return (await self.client.GetModel(embedder_pb2.GetModelRequest(), timeout=30)).name


@pytest.fixture
async def parts(servicer: Servicer) -> AsyncIterator[Parts]:
    parts = Parts(servicer, Health({}))
    yield parts
    await parts.channel.close()


async def test_health_follows_the_probes_while_the_service_runs(servicer: Servicer) -> None:
    async def probe() -> None:
        probed.set()

    probed = asyncio.Event()
    health = Health({"redis": probe, "models": None})
    parts = Parts(servicer, health)
    async with serving(health, parts.server, stop=parts.stop, drain_s=1), asyncio.timeout(10):
        await probed.wait()
        while health.problems["redis"]:
            await asyncio.sleep(0.01)
        before = health.ready
        await health.report("models", "")
        assert (before, health.ready) == (False, True)
    await parts.channel.close()


async def test_a_stopped_service_is_not_ready_while_its_own_work_goes_on(parts: Parts) -> None:
    async with serving(parts.health, parts.server, stop=parts.stop, drain_s=1):
        assert parts.health.ready
        parts.stop.set()
        async with asyncio.timeout(10):
            while parts.health.ready:
                await asyncio.sleep(0.01)


async def test_calls_in_hand_are_finished_after_the_stop(parts: Parts, servicer: Servicer) -> None:
    async with serving(parts.health, parts.server, stop=parts.stop, drain_s=30):
        call = asyncio.create_task(parts.call())
        await servicer.arrived.wait()
        asyncio.get_running_loop().call_later(0.2, servicer.release.set)
    assert await call == "example"


async def test_calls_that_outlast_the_drain_are_ended(parts: Parts, servicer: Servicer) -> None:
    async with serving(parts.health, parts.server, stop=parts.stop, drain_s=0.1):
        call = asyncio.create_task(parts.call())
        await servicer.arrived.wait()
    with pytest.raises(grpc.aio.AioRpcError):
        await asyncio.wait_for(call, 10)


async def test_a_leaving_service_still_takes_up_calls(parts: Parts, servicer: Servicer) -> None:
    servicer.release.set()

    async def leave() -> None:
        async with serving(parts.health, parts.server, stop=parts.stop, drain_s=1, leaving_s=2):
            await parts.stop.wait()

    leaving = asyncio.create_task(leave())
    assert await parts.call() == "example"
    parts.stop.set()
    while parts.health.ready:
        await asyncio.sleep(0.01)
    assert await parts.call() == "example"
    assert not leaving.done()
    await leaving


async def test_an_error_of_the_service_ends_all_at_once_and_is_raised(
    parts: Parts, servicer: Servicer
) -> None:
    async def fail_during_a_call() -> None:
        async with serving(parts.health, parts.server, stop=parts.stop, drain_s=600, leaving_s=600):
            calls.append(asyncio.create_task(parts.call()))
            await servicer.arrived.wait()
            raise KeyError

    calls: list[asyncio.Task[str]] = []
    with pytest.raises(KeyError):
        await asyncio.wait_for(fail_during_a_call(), 30)
    with pytest.raises(grpc.aio.AioRpcError):
        await asyncio.wait_for(calls[0], 10)


BUSY = """
    import asyncio
    from services.runtime.service import run
    from services.runtime.settings import ServiceSettings

    async def main(settings, stop):
        print("started", flush=True)
        await stop.wait()
        print("stopping", flush=True)
        await asyncio.sleep({busy_s})

    run("example", ServiceSettings, main)
"""


def started(busy_s: float) -> "subprocess.Popen[str]":
    """A process whose main works on for some seconds after the stop."""
    code = textwrap.dedent(BUSY).format(busy_s=busy_s)
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "stopping\n"
    return process


def test_after_the_first_signal_the_service_finishes_and_ends_well() -> None:
    with started(busy_s=0.2) as process:
        assert process.wait(30) == 0


def test_a_second_signal_ends_the_process_at_once() -> None:
    with started(busy_s=600) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 128 + signal.SIGINT


async def test_a_taken_port_ends_the_start_with_code_2_and_the_address() -> None:
    code = """
        from services.runtime.grpc_server import listen, make_server
        from services.runtime.health import Health
        from services.runtime.service import run
        from services.runtime.settings import ServiceSettings

        async def main(settings, stop):
            listen(make_server(Health({{}})), "127.0.0.1", {port})

        run("example", ServiceSettings, main)
    """
    port = free_port()
    server = make_server(Health({}))
    listen(server, "127.0.0.1", port)
    await server.start()
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", textwrap.dedent(code).format(port=port)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    await server.stop(None)
    assert ended.returncode == 2
    assert f"127.0.0.1:{port} is in use" in ended.stderr
    assert "Traceback" not in ended.stderr
