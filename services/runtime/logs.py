"""Logs are events: one line each, JSON in a pod, readable on a terminal."""

import logging
import sys
from typing import Literal

import structlog


def configure(
    service: str, level: str = "info", form: Literal["auto", "json", "console"] = "auto"
) -> None:
    """Sends structlog's and the standard library's records to stderr in one form."""
    console = form == "console" or (form == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    render: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer()]
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
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
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
