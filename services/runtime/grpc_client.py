"""How a service calls another: balanced over its pods, retried while it restarts."""

import json

import grpc

from services.runtime.grpc_server import MESSAGE_LIMITS

_SERVICE_CONFIG = {
    # A connection stays with one pod; over all addresses of a headless service calls balance.
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 3,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


def connect(address: str) -> grpc.aio.Channel:
    """A channel to `host:port` (or any gRPC target); opens lazily and again after every loss."""
    return grpc.aio.insecure_channel(
        address,
        options=[
            *MESSAGE_LIMITS,
            ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            # The default is two minutes: a restarted neighbour would be found that late.
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ],
    )
