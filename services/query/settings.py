"""The settings of the query service: QUERY_* and those that it shares with the indexer."""

import ipaddress
from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

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
    max_calls: int = Field(
        64, ge=1, le=10_000, description="requests that are answered at the same time"
    )
    max_calls_per_client: int = Field(
        48, ge=1, le=10_000, description="of them, those of one client"
    )
    calls_per_s: float = Field(
        300, gt=0, le=1_000_000, description="requests of one client a second"
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="networks of proxies, separated by commas (10.0.0.0/8): who comes through them "
        "is told apart by X-Forwarded-For; empty: a proxy counts as one client",
    )

    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="names by which browsers may call it, separated by commas, besides localhost "
        "and its addresses: *.example.org is all below example.org, * any name, which lets any "
        "website search through the browser of whoever can (DNS rebinding)",
    )

    @field_validator("trusted_proxies", "allowed_hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network)
        return value
