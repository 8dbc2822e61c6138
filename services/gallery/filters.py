"""The one place that builds Milvus expressions, and so the one that quotes every literal."""

from urllib.parse import quote, unquote

from passerby.contract import TIMESTAMP_SECONDS
from passerby.v1 import search_pb2

# Milvus' escapes that Lite's server and all releases of the real one agree on; any other
# character stands for itself.
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})

# What an image without a time has as captured_at (old servers know no NULL).
NO_TIME = -(2**63)
# What the empty key is stored as; no other one becomes that.
_NO_KEY = "%"


def expression(filter_: search_pb2.Filter) -> str:
    """The filter as Milvus evaluates it; empty if it has no condition."""
    conditions = []
    if filter_.cameras:
        cameras = ", ".join(_literal(camera) for camera in filter_.cameras)
        conditions.append(f"camera in [{cameras}]")
    if filter_.HasField("captured_from"):
        conditions.append(f"captured_at >= {filter_.captured_from.ToMicroseconds()}")
    if filter_.HasField("captured_to"):
        conditions.append(f"captured_at < {filter_.captured_to.ToMicroseconds()}")
        if not filter_.HasField("captured_from"):
            conditions.append(f"captured_at >= {1_000_000 * TIMESTAMP_SECONDS.start}")
    for key, value in sorted(filter_.tags.items()):
        conditions.append(f"tags[{_literal(stored_key(key))}] == {_literal(value)}")
    return " and ".join(conditions)


def id_range(low: int, high: int) -> str:
    """Ids from `low` to below `high`."""
    return f"id >= {low} and id < {high}"


def ids_in(ids: list[int]) -> str:
    return f"id in {ids}"


def all_but(id_: int) -> str:
    return f"id != {id_}"


def both(left: str, right: str) -> str:
    """What both expressions match; an empty one matches all."""
    return f"({left}) and ({right})" if left and right else left or right


def stored_key(key: str) -> str:
    """A tag's key as it stands in Milvus.

    Servers split a JSON path at brackets and quotes without regard to escapes, and take no empty
    one, so a key has to be free of them.
    """
    return quote(key, safe=" ") or _NO_KEY


def shown_key(stored: str) -> str:
    return "" if stored == _NO_KEY else unquote(stored)


def _literal(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'
