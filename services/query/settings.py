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
