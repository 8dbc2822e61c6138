"""Whether a service can do its work: one state for each thing it needs, one for all together."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping

import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio
from prometheus_client import Gauge

from services.runtime.errors import first_line

log = structlog.get_logger()

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

PROBE_TIMEOUT_S = 5
REMIND_S = 30

Probe = Callable[[], Awaitable[object]]
"""Raises when what it asks is not well."""

READY = Gauge("passerby_ready", "1 while the service can do its work, else 0.")
DEPENDENCY_UP = Gauge(
    "passerby_dependency_up", "1 while what the service needs is well, else 0.", ["dependency"]
)


class Health:
    """Keeps the standard gRPC health service, and the measurement of readiness, up to date.

    The service name `""` is the whole (readiness): it serves when every dependency does and the
    service is not draining. Each dependency also has its own name; `live` serves as long as the
    process can answer at all (liveness).
    """

    def __init__(self, probes: Mapping[str, Probe | None]) -> None:
        """probes: by dependency; None where the service itself reports how it is."""
        self.servicer = aio.HealthServicer()
        self.probes = probes
        self.problems: dict[str, str] = {name: f"{name} has not answered yet" for name in probes}
        self._draining = False

    async def start(self) -> None:
        await self.servicer.set("live", SERVING)
        for name in self.problems:
            DEPENDENCY_UP.labels(name).set(0)
            await self.servicer.set(name, NOT_SERVING)
        await self._publish()

    @property
    def ready(self) -> bool:
        return not self._draining and not any(self.problems.values())

    async def report(self, dependency: str, problem: str) -> None:
        """Sets what is wrong with a dependency; an empty problem means that it is well."""
        before, self.problems[dependency] = self.problems[dependency], problem
        if bool(before) != bool(problem):
            DEPENDENCY_UP.labels(dependency).set(not problem)
            await self.servicer.set(dependency, NOT_SERVING if problem else SERVING)
            await self._publish()
            if problem:
                log.warning("dependency_lost", dependency=dependency, reason=problem)
            else:
                log.info("dependency_ready", dependency=dependency)

    async def drain(self) -> None:
        """Takes the service out of rotation before it stops."""
        self._draining = True
        await self._publish()

    async def _publish(self) -> None:
        READY.set(self.ready)
        await self.servicer.set("", SERVING if self.ready else NOT_SERVING)

    async def watch(self, dependency: str, probe: Probe, *, interval_s: float = 1.0) -> None:
        """Probes a dependency until cancelled.

        A probe has PROBE_TIMEOUT_S. Its first failure is logged, and what lasts every 30 seconds.
        """
        said = -math.inf
        while True:
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    await probe()
                problem = ""
            except TimeoutError:
                problem = f"{dependency} did not answer within {PROBE_TIMEOUT_S} s"
            except Exception as error:  # noqa: BLE001 - whatever a probe raises is the finding
                problem = f"{dependency}: {first_line(error)}"
            now = asyncio.get_running_loop().time()
            if problem and not self.problems[dependency]:
                said = now  # by the report that follows
            await self.report(dependency, problem)
            if problem and now - said >= REMIND_S:
                said = now
                log.warning("still_waiting", dependency=dependency, reason=problem)
            await asyncio.sleep(interval_s)
