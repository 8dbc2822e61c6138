"""The embedder's settings: EMBEDDER_* in the environment."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode, SettingsConfigDict

from services.runtime.settings import ServiceSettings


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


class EmbedderSettings(ServiceSettings):
    """Variables with the prefix EMBEDDER_, for example EMBEDDER_MODELS."""

    model_config = SettingsConfigDict(env_prefix="EMBEDDER_")

    port: int = Field(50051, ge=0, le=65535, description="port of the gRPC server")
    models: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_comma_separated)] = Field(
        min_length=1,
        description="model directories, separated by commas; the first one is preferred",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto (CUDA if there is one), cpu, cuda or cuda:<number>",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the device computes in it, else float32"
    )
    max_batch: int = Field(
        0, ge=0, le=4096, description="items in one forward pass; 0 takes what suits the device"
    )
    max_queue: int = Field(
        4096,
        ge=1,
        le=1_000_000,
        description="items taken and not yet answered, for each model, images, images in bulk (of "
        "the indexer) and captions apart; more are refused with RESOURCE_EXHAUSTED",
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="CPU threads for forward passes, and as many processes for decoding, at most "
        "16; 0 takes every core that the process may use",
    )

    decode_cpu_s: float = Field(
        10,
        gt=0,
        le=600,
        description="seconds of CPU to decode one image; what takes more is rejected",
    )
    decode_memory_mib: int = Field(
        1024,
        ge=64,
        le=65_536,
        description="MiB of memory to decode one image; what needs more is rejected, what needs "
        "more than 192 is decoded one at a time",
    )

    @property
    def cores(self) -> int:
        return self.threads or len(os.sched_getaffinity(0))
