"""The settings of the query service: QUERY_* and those that it shares with the indexer."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.gallery.settings import GallerySettings


class QuerySettings(GallerySettings):
    """Read from the environment at start."""

    model_config = SettingsConfigDict(env_prefix="QUERY_")

    port: int = Field(50052, ge=0, le=65535, description="port of the gRPC server")
    http_port: int = Field(8080, ge=0, le=65535, description="port of the page and of /v1/")
    embedder_address: str = Field(
        "127.0.0.1:50051",
        min_length=1,
        validation_alias="EMBEDDER_ADDRESS",
        description="host:port of the embedder, or any gRPC target",
    )
    timeout_s: float = Field(
        10, gt=0, le=600, description="seconds that an answer may take; a caller may ask for less"
    )
    max_image_bytes: int = Field(
        8 * 1024 * 1024,
        ge=64 * 1024,
        le=32 * 1024 * 1024,
        description="size of an image to search by",
    )
    max_connections: int = Field(
        512, ge=1, le=65_536, description="connections over HTTP at the same time"
    )
    max_connections_per_client: int = Field(
        256,
        ge=1,
        le=65_536,
        description="of them, those of one address; QUERY_TRUSTED_PROXIES may have more",
    )
