"""How a service's process starts and ends: settings, logs, signals, exit codes."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from prometheus_client import start_http_server

from services.runtime import logs
from services.runtime.grpc_server import PortTaken
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
    try:
        if values.metrics_port:
            start_http_server(values.metrics_port, addr=values.host)
        asyncio.run(_until_stopped(values, main))
    except (CannotStart, PortTaken, OSError) as error:
        log.error("cannot_start", reason=str(error))  # noqa: TRY400 - the reason is all of it
        sys.exit(2)
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
