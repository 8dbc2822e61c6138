"""How every service starts, probes what it needs, drains and stops."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

import structlog

from passerby import tracing
from services.runtime import logs
from services.runtime.grpc_server import PortTaken
from services.runtime.health import Health
from services.runtime.settings import InvalidSetting, ServiceSettings, load, shown

log = structlog.get_logger()

S = TypeVar("S", bound=ServiceSettings)


class CannotStart(Exception):
    """The operator's fault: the message says what to change."""


def run(
    service: str, settings: type[S], main: Callable[[S, asyncio.Event], Awaitable[None]]
) -> None:
    """Runs `main(settings, stop)` until it returns; exits the process.

    The first SIGTERM or SIGINT sets `stop`: main stops taking work, finishes what is in hand and
    returns (exit code 0). A second one ends the process at once. A setting that is wrong or a
    start that is impossible is said in plain words (exit code 2).
    """
    try:
        values = load(settings)
    except InvalidSetting as error:
        print(f"{service}: cannot start\n{error}", file=sys.stderr)  # noqa: T201 - no log yet
        sys.exit(2)
    logs.configure(service, values.log_level, values.log_format)
    log.info("starting", **shown(values))
    end_tracing = tracing.start(f"passerby-{service}") if values.otlp_endpoint else None
    try:
        asyncio.run(_until_stopped(values, main))
    except (CannotStart, PortTaken, OSError) as error:
        log.error("cannot_start", reason=str(error))  # noqa: TRY400 - the reason is all of it
        sys.exit(2)
    finally:
        if end_tracing:
            end_tracing()
    log.info("stopped")


async def _until_stopped(settings: S, main: Callable[[S, asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            log.warning("stopped_at_once", signal=signal.Signals(number).name)
            os._exit(128 + number)
        log.info("draining", signal=signal.Signals(number).name, drain_s=settings.drain_s)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    await main(settings, stop)


class Server(Protocol):
    """What answers callers between its start and its stop, as gRPC's server does."""

    async def start(self) -> None: ...

    async def stop(self, grace: float | None) -> None:
        """grace: seconds that calls in hand may take; None ends them."""


@contextlib.asynccontextmanager
async def serving(
    health: Health, *servers: Server, stop: asyncio.Event, drain_s: float, leaving_s: float = 0
) -> AsyncIterator[None]:
    """Runs the servers and the probes beside the body, and drains them after it.

    Once `stop` is set the service is reported as not ready, so that callers turn to other
    replicas, while the body finishes its own work. After the body, the servers take up calls for
    another `leaving_s` seconds and finish those in hand within `drain_s`. If the body raises, the
    servers are told to end at once.
    """
    await health.start()
    beside = [
        asyncio.create_task(health.watch(name, probe))
        for name, probe in health.probes.items()
        if probe
    ]
    beside.append(asyncio.create_task(_drain_on(stop, health)))
    grace: float | None = None
    try:
        for server in servers:
            await server.start()
        yield
        await health.drain()
        await asyncio.sleep(leaving_s)
        grace = drain_s
    finally:
        await asyncio.gather(*(server.stop(grace) for server in servers))
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


async def _drain_on(stop: asyncio.Event, health: Health) -> None:
    await stop.wait()
    await health.drain()
