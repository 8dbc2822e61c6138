"""How a service calls another: balanced over its healthy pods, retried while one restarts."""

import json

import grpc

from passerby.channel import CHANNEL_OPTIONS, SERVICE_CONFIG

# A pod that loads its models or drains still listens; it is watched and passed over.
_HEALTHY_ONLY = json.dumps({**SERVICE_CONFIG, "healthCheckConfig": {"serviceName": ""}})


def connect(address: str) -> grpc.aio.Channel:
    """A channel to `host:port` (or any gRPC target); opens lazily and again after every loss.

    While no pod is healthy, calls fail with UNAVAILABLE.
    """
    options = {**dict(CHANNEL_OPTIONS), "grpc.service_config": _HEALTHY_ONLY}
    return grpc.aio.insecure_channel(address, options=list(options.items()))
