"""The indexer's settings: INDEXER_* and those that it shares with the query service."""

import socket
from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from services.gallery.settings import GallerySettings
from services.indexer.letter_limits import AGE, BYTES, COUNT, LETTER, LetterLimits


class IndexerSettings(GallerySettings):
    """INDEXER_... and the settings of the gallery."""

    model_config = SettingsConfigDict(env_prefix="INDEXER_")

    port: int = Field(50053, ge=0, le=65535, description="port of the gRPC health service")
    embedder_address: str = Field(
        "127.0.0.1:50051",
        min_length=1,
        validation_alias="EMBEDDER_ADDRESS",
        description="host:port of the embedder, or any gRPC target",
    )
    embed_timeout_s: float = Field(
        60, gt=0, le=600, description="seconds that the embedder has for a request of 32 images"
    )
    # A container that restarts keeps its host's name, and so finds its unfinished entries at once.
    consumer: str = Field(
        default_factory=socket.gethostname,
        min_length=1,
        max_length=253,
        description="name in the consumer group; no two running indexers may share it",
    )
    allowed_roots: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="absolute folders or fsspec URLs, separated by commas, below which an image's "
        "uri may be read; empty: none",
    )
    batch_images: int = Field(
        128, ge=1, le=4096, description="images that are read, embedded and written together"
    )
    in_flight: int = Field(4, ge=1, le=64, description="batches in flight at the same time")
    takeover_s: float = Field(
        10,
        ge=1,
        le=3600,
        description="seconds without a heartbeat after which another indexer's entries are "
        "taken over",
    )
    max_deliveries: int = Field(
        5,
        ge=3,
        le=1000,
        description="deliveries after which an unfinished entry becomes a dead letter",
    )
    max_image_bytes: int = Field(
        32 * 1024 * 1024,
        ge=1024,
        le=60 * 1024 * 1024,
        description="size of one image's file; larger ones are rejected",
    )

    max_galleries: int = Field(
        500, ge=1, le=60_000, description="galleries; a push that would make one more is rejected"
    )
    dead_letters: int = Field(
        int(COUNT.value), ge=1, description="dead letters that are kept; the oldest go first"
    )
    dead_letters_bytes: int = Field(
        int(BYTES.value),
        ge=1024 * 1024,
        description="bytes of Redis that dead letters may take: far less than its maxmemory",
    )
    dead_letters_age_s: float = Field(
        AGE.value, gt=0, description="seconds that a dead letter is kept"
    )
    dead_letter_bytes: int = Field(
        int(LETTER.value),
        ge=0,
        description="bytes of what was rejected that one dead letter keeps; of more it keeps the "
        "name alone",
    )

    @property
    def letter_limits(self) -> LetterLimits:
        return LetterLimits(
            self.dead_letters,
            self.dead_letters_bytes,
            self.dead_letters_age_s,
            self.dead_letter_bytes,
        )

    @field_validator("allowed_roots", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(root.strip() for root in value.split(",") if root.strip())
        return value

    @field_validator("allowed_roots")
    @classmethod
    def _absolute(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for root in value:
            if "://" not in root and not root.startswith("/"):
                raise ValueError(f"{root!r} must be an absolute folder or a URL")
        return value
