"""Where Redis, Milvus and the image store are: the settings that indexer and query share."""

import json
from typing import Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict
from redis.asyncio.connection import parse_url

from services.gallery.index import BREADTH, DEFAULT, Index, Kind
from services.runtime.settings import ServiceSettings


class GallerySettings(ServiceSettings):
    """Base of both services' settings; these variables have no prefix."""

    model_config = SettingsConfigDict(populate_by_name=True)

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        validation_alias="REDIS_URL",
        description="redis://, rediss:// or unix:// URL of the queue and the names",
    )
    redis_password: SecretStr = Field(
        SecretStr(""),
        validation_alias="REDIS_PASSWORD",
        description="password, as it is, where the URL has none",
    )
    redis_timeout_s: float = Field(
        5,
        gt=0,
        le=60,
        validation_alias="REDIS_TIMEOUT_S",
        description="seconds that a command of Redis may take",
    )
    milvus_uri: str = Field(
        "http://127.0.0.1:19530",
        validation_alias="MILVUS_URI",
        description="http:// or https:// address of Milvus",
    )
    milvus_token: SecretStr = Field(
        SecretStr(""), validation_alias="MILVUS_TOKEN", description="user:password or an API key"
    )
    milvus_timeout_s: float = Field(
        10,
        gt=0,
        le=600,
        validation_alias="MILVUS_TIMEOUT_S",
        description="seconds that a call of Milvus may take",
    )
    milvus_index: Kind = Field(
        DEFAULT,
        validation_alias="MILVUS_INDEX",
        description="index of collections that are created from now on",
    )
    milvus_index_params: dict[str, Any] = Field(
        {},
        validation_alias="MILVUS_INDEX_PARAMS",
        description='JSON, for example {"nlist": 4096}',
    )
    milvus_search_params: dict[str, Any] = Field(
        {}, validation_alias="MILVUS_SEARCH_PARAMS", description='JSON, for example {"nprobe": 128}'
    )
    images_uri: str = Field(
        "",
        validation_alias="IMAGES_URI",
        description="fsspec URL where the indexed images are kept for the page; empty: nowhere",
    )

    @property
    def index(self) -> Index:
        return Index(self.milvus_index, self.milvus_index_params, self.milvus_search_params)

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must start with redis://, rediss:// or unix://")
        try:
            parse_url(value)
        except ValueError as error:
            # Its text would show the password, which is what a / or # in one makes of the port.
            if "cast" in str(error):
                raise ValueError(
                    "its port is not a number: is a / ? or # in the password not percent-encoded?"
                ) from None
            raise
        return value

    @field_validator("milvus_uri")
    @classmethod
    def _milvus_scheme(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value

    @field_validator("milvus_index_params", "milvus_search_params", mode="before")
    @classmethod
    def _json(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("milvus_search_params")
    @classmethod
    def _whole_numbers(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in BREADTH & value.keys():
            if type(value[name]) is not int or value[name] < 1:
                raise ValueError(f"{name} must be a whole number of 1 or more")
        return value

    @field_validator("images_uri")
    @classmethod
    def _images_scheme(cls, value: str) -> str:
        if value and "://" not in value:
            raise ValueError("must be a URL such as file:///var/lib/passerby or s3://bucket/people")
        return value
