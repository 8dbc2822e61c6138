"""How a service calls another: balanced over its pods, retried while it restarts."""

import grpc

from passerby.channel import CHANNEL_OPTIONS


def connect(address: str) -> grpc.aio.Channel:
    """A channel to `host:port` (or any gRPC target); opens lazily and again after every loss."""
    return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
