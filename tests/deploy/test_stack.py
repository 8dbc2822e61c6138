"""The local stack: ports, processes and what a user is told when something is in the way."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from deploy.local.__main__ import demo
from deploy.local.stack import Ports, Stack, variable
from deploy.local.supervisor import StackError
from tests.support.processes import wait_until
from tests.support.stack import make_stack

REPOSITORY = Path(__file__).parents[2]


def test_a_port_that_is_not_a_number_is_named() -> None:
    with pytest.raises(StackError, match=r"QUERY_HTTP_PORT='web': a port is 1 to 65535"):
        Ports.from_environment({"QUERY_HTTP_PORT": "web"})


def test_the_callers_redis_is_not_the_stacks(tmp_path: Path) -> None:
    elsewhere = {"REDIS_URL": "redis://elsewhere", "REDIS_PASSWORD": "of another Redis"}
    stack = Stack(tmp_path, make_stack(tmp_path).ports, elsewhere)
    assert stack.environment["REDIS_URL"] == stack.redis_url
    assert stack.environment["REDIS_PASSWORD"] == ""


def test_a_taken_port_is_said_plainly_and_nothing_is_started(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    with (
        socket.create_server(("127.0.0.1", stack.ports.milvus)),
        pytest.raises(StackError, match=rf"port {stack.ports.milvus}.* is in use.*MILVUS_PORT="),
    ):
        stack.up()
    assert stack.dead() == [program.name for program in stack.programs]


def test_a_stack_that_runs_on_other_ports_is_named_and_left_alone(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    redis = stack.programs[0]
    (tmp_path / "run").mkdir()
    only_redis = Stack(tmp_path, stack.ports, {})
    only_redis.programs = [redis]
    for folder in ("logs", "redis"):
        (tmp_path / folder).mkdir()
    only_redis.up()
    try:
        other = Stack(tmp_path, replace(stack.ports, query_http=1), {})
        with pytest.raises(StackError, match=rf"running with REDIS_PORT={stack.ports.redis}"):
            other.up()
        # `make demo` stops what it has started, and nothing else.
        with pytest.raises(StackError, match="is already running"):
            demo(other)
        assert only_redis.dead() == []
        only_redis.up()
    finally:
        only_redis.down()


def test_a_second_ctrl_c_leaves_no_part_of_the_demo_running(tmp_path: Path) -> None:
    """It comes while the first one is obeyed."""
    ports = make_stack(tmp_path).ports
    environment = {variable(name): str(port) for name, port in asdict(ports).items()}
    demo = subprocess.Popen(
        [sys.executable, "-m", "deploy.local", "demo"],
        cwd=REPOSITORY,
        env={**os.environ, **environment, "PASSERBY_STATE": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    stack = Stack(tmp_path, ports, {})
    try:
        wait_until(lambda: len(stack.dead()) < len(stack.programs), "a program's start", 60)
        while demo.poll() is None:
            demo.send_signal(signal.SIGINT)
            time.sleep(0.05)
        assert stack.dead() == [program.name for program in stack.programs]
    finally:
        demo.kill()
        demo.communicate()
        stack.down()


def test_a_wrong_setting_ends_the_start_with_its_name(tmp_path: Path) -> None:
    stack = make_stack(tmp_path, EMBEDDER_MAX_BATCH="none")
    try:
        with pytest.raises(StackError, match="EMBEDDER_MAX_BATCH='none'"):
            stack.up()
    finally:
        stack.down()
    assert stack.dead() == [program.name for program in stack.programs]
