import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SearchRequest(_message.Message):
    __slots__ = ("gallery", "caption", "image", "filename", "top_k", "offset", "filter", "explain")
    GALLERY_FIELD_NUMBER: _ClassVar[int]
    CAPTION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    gallery: str
    caption: str
    image: bytes
    filename: str
    top_k: int
    offset: int
    filter: Filter
    explain: bool
    def __init__(self, gallery: _Optional[str] = ..., caption: _Optional[str] = ..., image: _Optional[bytes] = ..., filename: _Optional[str] = ..., top_k: _Optional[int] = ..., offset: _Optional[int] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ..., explain: _Optional[bool] = ...) -> None: ...

class Filter(_message.Message):
    __slots__ = ("cameras", "captured_from", "captured_to", "tags")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CAMERAS_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FROM_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_TO_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    cameras: _containers.RepeatedScalarFieldContainer[str]
    captured_from: _timestamp_pb2.Timestamp
    captured_to: _timestamp_pb2.Timestamp
    tags: _containers.ScalarMap[str, str]
    def __init__(self, cameras: _Optional[_Iterable[str]] = ..., captured_from: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., captured_to: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., tags: _Optional[_Mapping[str, str]] = ...) -> None: ...

class SearchResponse(_message.Message):
    __slots__ = ("hits", "model", "took", "explanation")
    HITS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[Hit]
    model: str
    took: _duration_pb2.Duration
    explanation: Explanation
    def __init__(self, hits: _Optional[_Iterable[_Union[Hit, _Mapping]]] = ..., model: _Optional[str] = ..., took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., explanation: _Optional[_Union[Explanation, _Mapping]] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("filename", "score", "camera", "captured_at", "tags")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    filename: str
    score: float
    camera: str
    captured_at: _timestamp_pb2.Timestamp
    tags: _containers.ScalarMap[str, str]
    def __init__(self, filename: _Optional[str] = ..., score: _Optional[float] = ..., camera: _Optional[str] = ..., captured_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., tags: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("unknown_words", "expression", "embed_took", "search_took", "resolve_took")
    UNKNOWN_WORDS_FIELD_NUMBER: _ClassVar[int]
    EXPRESSION_FIELD_NUMBER: _ClassVar[int]
    EMBED_TOOK_FIELD_NUMBER: _ClassVar[int]
    SEARCH_TOOK_FIELD_NUMBER: _ClassVar[int]
    RESOLVE_TOOK_FIELD_NUMBER: _ClassVar[int]
    unknown_words: _containers.RepeatedScalarFieldContainer[str]
    expression: str
    embed_took: _duration_pb2.Duration
    search_took: _duration_pb2.Duration
    resolve_took: _duration_pb2.Duration
    def __init__(self, unknown_words: _Optional[_Iterable[str]] = ..., expression: _Optional[str] = ..., embed_took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., search_took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., resolve_took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class DeleteRequest(_message.Message):
    __slots__ = ("gallery", "filenames", "filter")
    GALLERY_FIELD_NUMBER: _ClassVar[int]
    FILENAMES_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    gallery: str
    filenames: _containers.RepeatedScalarFieldContainer[str]
    filter: Filter
    def __init__(self, gallery: _Optional[str] = ..., filenames: _Optional[_Iterable[str]] = ..., filter: _Optional[_Union[Filter, _Mapping]] = ...) -> None: ...

class DeleteResponse(_message.Message):
    __slots__ = ("deleted",)
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: int
    def __init__(self, deleted: _Optional[int] = ...) -> None: ...

class FindMissingRequest(_message.Message):
    __slots__ = ("gallery", "images")
    GALLERY_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    gallery: str
    images: _containers.RepeatedCompositeFieldContainer[ImageDigest]
    def __init__(self, gallery: _Optional[str] = ..., images: _Optional[_Iterable[_Union[ImageDigest, _Mapping]]] = ...) -> None: ...

class ImageDigest(_message.Message):
    __slots__ = ("filename", "digest")
    FILENAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    filename: str
    digest: bytes
    def __init__(self, filename: _Optional[str] = ..., digest: _Optional[bytes] = ...) -> None: ...

class FindMissingResponse(_message.Message):
    __slots__ = ("filenames",)
    FILENAMES_FIELD_NUMBER: _ClassVar[int]
    filenames: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, filenames: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteGalleryRequest(_message.Message):
    __slots__ = ("gallery",)
    GALLERY_FIELD_NUMBER: _ClassVar[int]
    gallery: str
    def __init__(self, gallery: _Optional[str] = ...) -> None: ...

class DeleteGalleryResponse(_message.Message):
    __slots__ = ("deleted", "dead_letters")
    DELETED_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    deleted: int
    dead_letters: int
    def __init__(self, deleted: _Optional[int] = ..., dead_letters: _Optional[int] = ...) -> None: ...

class GetGalleryRequest(_message.Message):
    __slots__ = ("gallery",)
    GALLERY_FIELD_NUMBER: _ClassVar[int]
    gallery: str
    def __init__(self, gallery: _Optional[str] = ...) -> None: ...

class Gallery(_message.Message):
    __slots__ = ("gallery", "count", "model", "pending", "dead_letters")
    GALLERY_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    DEAD_LETTERS_FIELD_NUMBER: _ClassVar[int]
    gallery: str
    count: int
    model: str
    pending: int
    dead_letters: int
    def __init__(self, gallery: _Optional[str] = ..., count: _Optional[int] = ..., model: _Optional[str] = ..., pending: _Optional[int] = ..., dead_letters: _Optional[int] = ...) -> None: ...

class ListGalleriesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListGalleriesResponse(_message.Message):
    __slots__ = ("galleries",)
    GALLERIES_FIELD_NUMBER: _ClassVar[int]
    galleries: _containers.RepeatedCompositeFieldContainer[Gallery]
    def __init__(self, galleries: _Optional[_Iterable[_Union[Gallery, _Mapping]]] = ...) -> None: ...
