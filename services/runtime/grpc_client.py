"""How a service calls another: balanced over its healthy pods, retried while one restarts."""

import json

import grpc

from passerby.channel import CHANNEL_OPTIONS, SERVICE_CONFIG

# A pod that loads its models or drains still listens; it is watched and passed over.
_HEALTHY_ONLY = json.dumps({**SERVICE_CONFIG, "healthCheckConfig": {"serviceName": ""}})
# Within a cluster answers take milliseconds. A process that is frozen acknowledges data, for its
# kernel does, but no ping.
_SILENCE_MS = 1_000


def connect(address: str, *, retries: bool = True) -> grpc.aio.Channel:
    """A channel to `host:port` (or any gRPC target); opens lazily and again after every loss.

    While no pod is healthy, calls fail with UNAVAILABLE. A pod that falls silent is passed over
    after about two seconds, and the calls that it had are retried on another one.

    retries: False for whoever retries by itself, and must know each attempt: what ended one pod is
    not to end the next ones.
    """
    options = {
        **dict(CHANNEL_OPTIONS),
        "grpc.service_config": _HEALTHY_ONLY,
        "grpc.enable_retries": int(retries),
        "grpc.keepalive_timeout_ms": _SILENCE_MS,
        "grpc.http2.ping_timeout_ms": _SILENCE_MS,
    }
    return grpc.aio.insecure_channel(address, options=list(options.items()))
