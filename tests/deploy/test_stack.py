"""The local stack: ports, processes and what a user is told when something is in the way."""

import socket
from pathlib import Path

import pytest

from deploy.local.stack import Ports, StackError
from tests.e2e.conftest import make_stack

REPOSITORY = Path(__file__).parents[2]


def test_a_port_that_is_no_port_is_named() -> None:
    with pytest.raises(StackError, match=r"QUERY_HTTP_PORT='web': a port is 1 to 65535"):
        Ports.from_environment({"QUERY_HTTP_PORT": "web"})


def test_a_taken_port_is_said_plainly_and_nothing_is_started(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", stack.ports.milvus))
        other.listen()
        with pytest.raises(StackError, match=rf"port {stack.ports.milvus} is taken.*MILVUS_PORT="):
            stack.up()
    assert stack.dead() == [program.name for program in stack.programs]


def test_a_wrong_setting_ends_the_start_with_its_name(tmp_path: Path) -> None:
    stack = make_stack(tmp_path, EMBEDDER_MAX_BATCH="none")
    try:
        with pytest.raises(StackError, match="EMBEDDER_MAX_BATCH='none'"):
            stack.up()
    finally:
        stack.down()
    assert stack.dead() == [program.name for program in stack.programs]
