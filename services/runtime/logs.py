"""Logs are events: one line each, JSON in a pod, readable on a terminal."""

import logging
import sys
import time
from types import TracebackType
from typing import Literal

import structlog

from passerby import tracing
from passerby.redaction import redacted

# OpenTelemetry says at each attempt that its collector is away.
_OPENTELEMETRY_EVERY_S = 300.0


def configure(
    service: str, level: str = "info", form: Literal["auto", "json", "console"] = "auto"
) -> None:
    """Sends structlog's and the standard library's records to stderr in one form."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _trace,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    render: list[structlog.typing.Processor] = (
        # Not its own tracebacks, which show what local variables hold.
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Seldom())
    handler.setFormatter(
        _Redacting(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # pymilvus logs a traceback for each failed call although it also raises;
    # ours says it once, with what is being done about it.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    structlog.contextvars.bind_contextvars(service=service)
    sys.excepthook = _crashed


def _crashed(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """What nobody caught is a line of the log as well."""
    structlog.get_logger().critical("crashed", exc_info=(kind, error, traceback))


def _trace(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Adds the ids by which the trace that the line belongs to is found."""
    event.update(tracing.ids())
    return event


class _Redacting(structlog.stdlib.ProcessorFormatter):
    """The one place through which every line goes, those of libraries and tracebacks too."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


class _Seldom(logging.Filter):
    """Lets one of OpenTelemetry's own lines through every five minutes."""

    def __init__(self) -> None:
        super().__init__()
        self._quiet_until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("opentelemetry"):
            return True
        now = time.monotonic()
        if now < self._quiet_until:
            return False
        self._quiet_until = now + _OPENTELEMETRY_EVERY_S
        return True
