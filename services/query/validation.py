"""What a request may ask for: every rule of search.proto, each error naming the field."""

from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from passerby.contract import (
    DEFAULT_GALLERY,
    DEFAULT_TOP_K,
    GALLERY_NAME,
    GALLERY_RULE,
    MAX_CAPTION_CHARACTERS,
    MAX_DIGEST_BYTES,
    MAX_FILENAME_BYTES,
    MAX_FILENAMES,
    MAX_TOP_K,
    MAX_WINDOW,
    is_valid_timestamp,
)
from passerby.limits import Limit
from passerby.v1 import search_pb2
from services.gallery.filters import expression
from services.runtime.errors import InvalidRequest

_REJECTED = "INVALID_ARGUMENT (HTTP 400)"
CAPTION = Limit("caption", MAX_CAPTION_CHARACTERS, "characters", _REJECTED)
FILENAME = Limit("filename", MAX_FILENAME_BYTES, "bytes", _REJECTED)
FILENAMES = Limit("filenames", MAX_FILENAMES, "names", _REJECTED)
DIGESTS = Limit("images to ask for", MAX_FILENAMES, "images", _REJECTED)
DIGEST = Limit("digest", MAX_DIGEST_BYTES, "bytes", _REJECTED)
TOP_K = Limit("top_k", MAX_TOP_K, "hits", _REJECTED)
WINDOW = Limit("offset + top_k", MAX_WINDOW, "hits", _REJECTED)
# Milvus parses an expression for each search; a longer one is a mistake or an attack.
EXPRESSION = Limit("filter", 65_536, "characters as an expression", _REJECTED)
LIMITS = (CAPTION, FILENAME, FILENAMES, DIGESTS, DIGEST, TOP_K, WINDOW, EXPRESSION)


@dataclass(frozen=True)
class SearchQuery:
    """A checked request: its caption, image or filename is set, and of the images that
    `expression` matches it returns `top_k` past the first `offset`."""

    request: search_pb2.SearchRequest
    gallery: str
    offset: int
    top_k: int
    expression: str


def validated(request: search_pb2.SearchRequest) -> SearchQuery:
    """Raises InvalidRequest, naming the field, unless the request is right."""
    gallery = gallery_name(request.gallery)
    offset, top_k = _page(request)
    _check_query(request)
    return SearchQuery(request, gallery, offset, top_k, filter_expression(request.filter))


def gallery_name(name: str) -> str:
    """The gallery that a request names, `default` if it names none."""
    if name and not GALLERY_NAME.fullmatch(name):
        raise InvalidRequest(f"gallery: {name[:80]!r} is not a name; {GALLERY_RULE}")
    return name or DEFAULT_GALLERY


def _page(request: search_pb2.SearchRequest) -> tuple[int, int]:
    """(offset, top_k) of a search."""
    top_k = request.top_k if request.HasField("top_k") else DEFAULT_TOP_K
    if not 1 <= top_k <= MAX_TOP_K:
        raise InvalidRequest(f"top_k: {top_k} is not between 1 and {MAX_TOP_K}")
    if request.offset < 0:
        raise InvalidRequest(f"offset: {request.offset} is negative")
    if request.offset + top_k > MAX_WINDOW:
        raise InvalidRequest(
            f"{WINDOW.exceeded(request.offset + top_k)}, the deepest that a search can go; "
            "narrow it with a filter"
        )
    return request.offset, top_k


def _check_query(request: search_pb2.SearchRequest) -> None:
    """Exactly one of caption, image and filename, and that one not empty."""
    match request.WhichOneof("query"):
        case "caption":
            _check_caption(request.caption)
        case "image":
            if not request.image:
                raise InvalidRequest("image: is empty; send an encoded image, for example a JPEG")
        case "filename":
            check_filename("filename", request.filename)
        case _:
            raise InvalidRequest(
                "set exactly one of caption, image and filename: what to search for"
            )


def _check_caption(caption: str) -> None:
    if not caption.strip():
        raise InvalidRequest(
            "caption: is empty; say what the person looks like, "
            "for example 'a woman in a purple dress'"
        )
    if len(caption) > MAX_CAPTION_CHARACTERS:
        raise InvalidRequest(
            f"{CAPTION.exceeded(len(caption))}; describe only what can be seen of the person"
        )


def check_filename(field: str, filename: str) -> None:
    size = len(filename.encode())
    if not 1 <= size <= MAX_FILENAME_BYTES:
        wrong = FILENAME.exceeded(size) if size else "filename: it is empty"
        raise InvalidRequest(f"{field}: {wrong}" if field != "filename" else wrong)


def filter_expression(filter_: search_pb2.Filter) -> str:
    """The filter as Milvus evaluates it; empty if it has no condition."""
    for field in ("captured_from", "captured_to"):
        if filter_.HasField(field):
            _check_time(f"filter.{field}", getattr(filter_, field))
    if filter_.HasField("captured_from") and filter_.HasField("captured_to"):
        start, end = filter_.captured_from, filter_.captured_to
        if start.ToNanoseconds() >= end.ToNanoseconds():
            raise InvalidRequest(
                f"filter.captured_from: {start.ToJsonString()} is not before "
                f"captured_to, {end.ToJsonString()}; no image can match"
            )
    least = (len(filter_.cameras) + len(filter_.tags)) * len('"", ')
    if least > EXPRESSION.value:
        raise InvalidRequest(f"{EXPRESSION.exceeded(least)}; name fewer cameras or tags")
    if "" in filter_.tags:
        raise InvalidRequest("filter.tags: a tag's name is empty")
    text = expression(filter_)
    if len(text) > EXPRESSION.value:
        raise InvalidRequest(f"{EXPRESSION.exceeded(len(text))}; name fewer cameras or tags")
    return text


def _check_time(field: str, time: Timestamp) -> None:
    if not is_valid_timestamp(time):
        raise InvalidRequest(
            f"{field}: {time.seconds} s and {time.nanos} ns are not a time of the years 1 to 9999"
        )
