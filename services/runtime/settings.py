"""Settings from the environment: read once, checked, logged without secrets."""

import os
from collections.abc import Mapping
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from passerby.limits import Limit
from passerby.redaction import redacted
from passerby.tracing import ENDPOINT

S = TypeVar("S", bound="ServiceSettings")


class InvalidSetting(Exception):
    """The operator's fault: names the variable, the value and what is allowed."""


class ServiceSettings(BaseSettings):
    """The settings that all services share; each service adds its own and sets its prefix."""

    # Fields decode their own text: pydantic-settings' error would not name the variable.
    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, enable_decoding=False
    )

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(0, ge=0, le=65535, description="port of the gRPC server")
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="private port: /metrics, /healthz and /readyz with its reasons; 0: none",
    )
    drain_s: float = Field(
        30, gt=0, le=3600, description="seconds that work in progress may take after SIGTERM"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", validation_alias="LOG_LEVEL", description="lowest level that is logged"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto",
        validation_alias="LOG_FORMAT",
        description="auto: console on a terminal, JSON elsewhere",
    )
    otlp_endpoint: str = Field(
        "",
        pattern="^(https?://.+)?$",
        validation_alias=ENDPOINT,
        description="http:// or https:// address of a collector that takes traces (OTLP over gRPC, "
        "usually port 4317); OpenTelemetry's other OTEL_* variables hold too; empty: no traces",
    )


def variable_of(settings: type[ServiceSettings], field: str) -> str:
    """The environment variable that sets a field, for example `INDEXER_PORT`."""
    alias = (
        settings.model_fields[field].validation_alias if field in settings.model_fields else None
    )
    if isinstance(alias, str):
        return alias
    return f"{settings.model_config.get('env_prefix', '')}{field}".upper()


def limit_of(
    settings: type[ServiceSettings], field: str, what: str, unit: str, beyond: str
) -> Limit:
    """The limit that a field sets, at its default."""
    default = settings.model_fields[field].default
    return Limit(what, default, unit, beyond, variable_of(settings, field))


def load(settings: type[S], environment: Mapping[str, str] | None = None) -> S:
    """The service's settings, or InvalidSetting with a line for each wrong variable."""
    environment = os.environ if environment is None else environment
    try:
        return settings()
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            field = str(problem["loc"][0]) if problem["loc"] else ""
            variable = variable_of(settings, field) if field in settings.model_fields else field
            if problem["type"] == "missing":
                lines.append(f"{variable} is not set: {_meaning(settings, variable)}")
            else:
                value = redacted(environment.get(variable, str(problem["input"])))
                lines.append(f"{variable}={value!r}: {problem['msg']}")
        raise InvalidSetting("\n".join(lines)) from None


def _meaning(settings: type[ServiceSettings], variable: str) -> str:
    for name, field in settings.model_fields.items():
        if variable_of(settings, name) == variable:
            return field.description or "it is required"
    return "it is required"


def shown(settings: ServiceSettings) -> dict[str, str]:
    """Variable -> value, fit for a log."""
    return {
        variable_of(type(settings), name): "***"
        if isinstance(value, SecretStr)
        else redacted(str(value))
        for name, value in settings
    }
