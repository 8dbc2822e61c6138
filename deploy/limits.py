"""Writes docs/operations/limits.md from the limits that the code enforces: `make limits`."""

from collections.abc import Iterable
from pathlib import Path

from passerby.limits import Limit
from services.embedder import decoding, images
from services.embedder.dcpl import model_directory, reference_checkpoint, vocabulary
from services.indexer import entry_limits, gallery_limit, letter_limits
from services.query import doors, galleries, held, validation
from services.query.http import bodies, connections
from services.runtime import grpc_server

PAGE = Path(__file__).parents[1] / "docs" / "operations" / "limits.md"
MARKER = "<!-- Below: written by `make limits`, from the code that enforces the limits. -->"

# Heading -> the limits under it.
TABLES: dict[str, Iterable[Limit]] = {
    "Connections and requests over HTTP": (*connections.LIMITS, *bodies.LIMITS),
    "Calls over gRPC": grpc_server.LIMITS,
    "Requests to the query service, over gRPC and HTTP": doors.LIMITS,
    "What a request may ask for": (
        *validation.LIMITS,
        vocabulary.WORDS,
        *held.LIMITS,
        *galleries.LIMITS,
    ),
    "Entries of the queue": (*entry_limits.LIMITS, *gallery_limit.LIMITS),
    "Dead letters": letter_limits.LIMITS,
    "Models": (*model_directory.LIMITS, *reference_checkpoint.LIMITS),
    "Images": (*images.LIMITS, *decoding.LIMITS),
}


def page_text(current: str) -> str:
    """The page with everything below its marker replaced by the tables."""
    head, marker, _ = current.partition(MARKER)
    lines = [head + marker]
    for heading, limits in TABLES.items():
        lines += ["", f"## {heading}", ""]
        lines += ["| limit | value | setting | beyond it |", "|---|---|---|---|"]
        lines += [_row(limit) for limit in limits]
    return "\n".join(lines) + "\n"


def _row(limit: Limit) -> str:
    setting = f"`{limit.setting}`" if limit.setting else "fixed"
    return f"| {limit.what} | {limit.shown} | {setting} | {limit.beyond} |"


if __name__ == "__main__":
    PAGE.write_text(page_text(PAGE.read_text()))
