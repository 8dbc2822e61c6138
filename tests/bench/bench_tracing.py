"""What traces cost a search: two stacks, one of which sends all of its traces, asked in turns."""

import statistics
import tempfile
import time
from pathlib import Path

from redis import Redis

from passerby import Client
from tests.support.otlp import receiving
from tests.support.stack import enqueue, make_stack, wait_until_indexed
from training.synthetic.dataset import generate

IMAGES = 500
WARM_UP = 50
ROUNDS = 1000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, receiving() as collector:
        generate(Path(folder) / "people", images=IMAGES, seed=31)
        people = sorted((Path(folder) / "people" / "imgs").rglob("*.jpg"))
        stacks = {
            "off": make_stack(Path(folder) / "off"),
            "on": make_stack(Path(folder) / "on", OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint),
        }
        try:
            for stack in stacks.values():
                stack.up()
                with Redis.from_url(stack.redis_url) as redis:
                    enqueue(redis, "bench", {file.name: file.read_bytes() for file in people})
                    wait_until_indexed(redis, timeout_s=600)
            took = in_turns({name: stack.query for name, stack in stacks.items()})
        finally:
            for stack in stacks.values():
                stack.down()
        spans = len(collector.spans())
    off, on = (statistics.median(took[name]) for name in ("off", "on"))
    print(
        f"search p50: {off * 1000:.2f} ms without traces, {on * 1000:.2f} ms with "
        f"({on / off - 1:+.1%}; {ROUNDS} of each in turns, {spans:,} spans received)"
    )


def in_turns(addresses: dict[str, str]) -> dict[str, list[float]]:
    """Seconds of each search; who is asked first changes with each round."""
    clients = {name: Client(query=address) for name, address in addresses.items()}
    took: dict[str, list[float]] = {name: [] for name in clients}
    for number in range(WARM_UP + ROUNDS):
        caption = f"a woman with a {('red', 'blue', 'green')[number % 3]} coat and a bag"
        for name in sorted(clients, reverse=bool(number % 2)):
            started = time.perf_counter()
            assert len(clients[name].search(caption, gallery="bench")) == 12
            if number >= WARM_UP:
                took[name].append(time.perf_counter() - started)
    for client in clients.values():
        client.close()
    return took
