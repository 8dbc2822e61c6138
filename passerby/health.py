"""Asks a service through gRPC's standard health protocol whether it can do its work."""

from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

# What indexer and query wait for before they are ready.
DEPENDENCIES: Final = ("embedder", "milvus", "redis")


def is_serving(channel: grpc.Channel, name: str = "", *, timeout_s: float) -> bool:
    """Whether the service as a whole is ready or, with a name, whether it reaches that dependency.

    Raises grpc.RpcError if it does not answer.
    """
    # The stubs of grpcio-health-checking declare no methods.
    answer = health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
        health_pb2.HealthCheckRequest(service=name), timeout=timeout_s
    )
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
