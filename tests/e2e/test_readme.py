"""The README's commands, run as they stand there, in their order, on a state of their own."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from deploy.local.stack import REPOSITORY, Stack, variable
from passerby.contract import INGEST_STREAM
from tests.support.processes import wait_until
from tests.support.stack import make_stack
from tests.support.stores import REDIS_CLI

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
STAYS_UP = "make demo"
SHELL = [
    command
    for language, block in BLOCKS
    if language == "sh"
    for command in block.strip().splitlines()
    if command not in (STAYS_UP, "make up", "make down", "make test")
]
PYTHON = [block for language, block in BLOCKS if language == "python"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """`make demo` until its page is there, Ctrl-C, then `make up`; `make down` at the end."""
    state = tmp_path_factory.mktemp("readme")
    stack = make_stack(state)
    tools = state / "bin"
    tools.mkdir()
    (tools / "redis-cli").symlink_to(REDIS_CLI)
    environment = {
        **os.environ,
        **{variable(name): str(getattr(stack.ports, name)) for name in vars(stack.ports)},
        "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PASSERBY_STATE": str(state),
        "PASSERBY_QUERY": stack.query,
        "REDIS_URL": stack.redis_url,
        "REDISCLI_PORT": str(stack.ports.redis),
        "INDEXER_ALLOWED_ROOTS": str(state / "srv"),
    }
    run_demo(stack, environment, state / "demo-output")
    pushed_by_hand = state / "srv" / "images" / "gate" / "1.jpg"
    pushed_by_hand.parent.mkdir(parents=True)
    shutil.copy(next((state / "demo-people" / "imgs").rglob("*.jpg")), pushed_by_hand)
    make("up", environment)
    yield environment
    make("down", environment)
    assert stack.dead() == [program.name for program in stack.programs]


def run_demo(stack: Stack, environment: dict[str, str], output: Path) -> None:
    with output.open("wb") as out:
        demo = subprocess.Popen(
            STAYS_UP.split(), cwd=REPOSITORY, env=environment, stdout=out, stderr=out
        )
        try:
            wait_until(
                lambda: b"The page:" in output.read_bytes() or demo.poll() is not None,
                "the page's address",
                300,
            )
            # Ctrl-C reaches make's whole process group; here only what make started is told.
            subprocess.run(["pkill", "-INT", "-P", str(demo.pid)], check=True)
            demo.send_signal(signal.SIGINT)
            demo.wait(60)
        finally:
            demo.kill()
    text = output.read_text()
    assert f"The page: {stack.page}?gallery=demo" in text, text
    assert "1,200" in text or "1200" in text
    assert stack.dead() == [program.name for program in stack.programs]


def make(target: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["make", target], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def as_installed_here(command: str, environment: dict[str, str]) -> str:
    """The command with this run's ports and folders instead of the usual ones."""
    state = environment["PASSERBY_STATE"]
    return (
        command.replace("127.0.0.1:8080", f"127.0.0.1:{environment['QUERY_HTTP_PORT']}")
        .replace("redis-cli ", f"redis-cli -p {environment['REDIS_PORT']} ")
        .replace(".passerby/", f"{state}/")
        .replace("file:///srv", f"file://{state}/srv")
    )


@pytest.mark.parametrize("command", SHELL)
def test_a_command_of_the_readme_works(command: str, environment: dict[str, str]) -> None:
    if shutil.which(command.split()[0], path=environment["PATH"]) is None:
        pytest.skip(f"{command.split()[0]} is not installed here")
    done = subprocess.run(
        ["bash", "-c", as_installed_here(command, environment)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
    assert '"code":' not in done.stdout.replace(" ", ""), done.stdout
    if " XADD " in command:
        with Redis.from_url(environment["REDIS_URL"]) as redis:
            wait_until(lambda: redis.xlen(INGEST_STREAM) == 0, "indexing what was pushed by hand")
    if command == "passerby delete --gallery mine gate/1.jpg":
        assert "Deleted 1 of 1" in done.stdout


@pytest.mark.parametrize("block", PYTHON)
def test_the_python_of_the_readme_works(block: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", as_installed_here(block, environment)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3


def test_every_target_of_make_that_the_readme_names_exists() -> None:
    help_text = subprocess.run(
        ["make"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    targets = {line.split()[0] for line in help_text.splitlines()}
    assert set(re.findall(r"\bmake ([a-z-]+)", README)) <= targets
