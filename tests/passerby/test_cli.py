"""The command line by itself: what it prints, on which stream, with which exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from passerby.cli import main
from passerby.contract import INGEST_STREAM
from tests.passerby.by_hand import BROKEN, batches_on, indexer, take
from tests.support.processes import free_port, wait_until
from tests.support.stores import put_aside

PASSERBY = Path(sys.executable).with_name("passerby")


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as redis:
        yield redis


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images; the hidden state of the tests lies beside them."""
    folder = tmp_path / "people"
    (folder / "gate").mkdir(parents=True)
    (folder / "gate" / "1.jpg").write_bytes(b"one")
    (folder / "2.jpg").write_bytes(b"two")
    return folder


def passerby(redis_url: str, *arguments: str | Path, typed: str | bytes | None = None) -> Result:
    """Without a query service, which a push could ask what is searchable already."""
    environment = {"REDIS_URL": redis_url, "PASSERBY_QUERY": f"127.0.0.1:{free_port()}"}
    return CliRunner().invoke(main, [str(a) for a in arguments], env=environment, input=typed)


def test_push_puts_a_folder_with_its_metadata_on_the_queue(
    redis_url: str, redis: Redis, folder: Path
) -> None:
    metadata = ("--camera", "gate", "--captured-at", "2026-05-01T12:00:00+02:00", "--tag", "a=b=c")
    done = passerby(redis_url, "push", folder, "--gallery", "mine", "--no-wait", *metadata)
    assert done.exit_code == 0, done.output
    assert "2 images are queued for mine" in done.stdout
    (batch,) = batches_on(redis)
    assert batch.gallery == "mine"
    assert [(i.filename, i.data) for i in batch.images] == [
        ("2.jpg", b"two"),
        ("gate/1.jpg", b"one"),
    ]
    for image in batch.images:
        assert image.camera == "gate"
        assert image.captured_at.ToJsonString() == "2026-05-01T10:00:00Z"
        assert dict(image.tags) == {"a": "b=c"}


def test_push_sums_up_what_failed_here_and_at_the_indexer(
    redis_url: str, redis: Redis, folder: Path
) -> None:
    (folder / "broken\x1b[1m.jpg").write_bytes(BROKEN)
    (folder / "gone.jpg").symlink_to("nowhere")
    with indexer(redis):
        done = passerby(redis_url, "push", folder)
    assert done.exit_code == 1
    assert "2 images are searchable in default" in done.stdout
    assert "2 failed" in done.stderr
    assert "broken\\x1b[1m.jpg: not an image" in done.stderr
    assert "gone.jpg: is a link, or leads through one: push it with --follow-links" in done.stderr
    assert "passerby dead-letters --gallery default" in done.stderr


def test_push_reads_a_list_from_standard_input(redis_url: str, redis: Redis, folder: Path) -> None:
    listed = f"{folder / '2.jpg'}\n{folder / 'gate' / '1.jpg'}\n"
    done = passerby(redis_url, "push", "-", "--no-wait", typed=listed)
    assert done.exit_code == 0, done.output
    assert [i.filename for batch in batches_on(redis) for i in batch.images] == listed.split()


def test_a_listed_name_that_is_not_text_is_one_failure(
    redis_url: str, redis: Redis, folder: Path
) -> None:
    listed = os.fsencode(folder / "2.jpg") + b"\n" + os.fsencode(folder) + b"/\xff.jpg\n"
    Path(os.fsdecode(listed.splitlines()[1])).write_bytes(b"x")
    done = passerby(redis_url, "push", "-", "--no-wait", typed=listed)
    assert done.exit_code == 1
    assert "1 images are queued" in done.stdout
    assert "\\udcff.jpg" in done.stderr
    assert len(batches_on(redis)) == 1


def test_shards_push_everything_between_them(redis_url: str, redis: Redis, folder: Path) -> None:
    for shard in ("0/2", "1/2"):
        done = passerby(redis_url, "push", folder, "--no-wait", "--shard", shard)
        assert done.exit_code == 0, done.output
    assert [[i.filename for i in batch.images] for batch in batches_on(redis)] == [
        ["2.jpg"],
        ["gate/1.jpg"],
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("push",), "SOURCE"),
        (("push", ".", "--gallery", "My Gallery"), "a gallery name has 1 to 63"),
        (("push", ".", "--captured-at", "yesterday"), "'yesterday' is not a time"),
        (("push", ".", "--captured-at", "2026-05-01T12:00:00"), "has no offset from UTC"),
        (("push", ".", "--tag", "floor"), "'floor' is not KEY=VALUE"),
        (("push", ".", "--tag", "a=1", "--tag", "a=2"), "given twice"),
        (("push", ".", "--shard", "4/4"), "'4/4' is not I/N"),
        (("search",), "give one of: CAPTION, --image FILE, --like FILENAME"),
        (("search", "a man", "--like", "1.jpg"), "give one of"),
        (("search", "a man", "--top-k", "many"), "--top-k"),
        (("search", "a man", "--top-k", "5000000000"), "--top-k"),
        (("search", "a man", "--offset", "-1"), "--offset"),
        (("search", "--image", "missing.jpg"), "missing.jpg"),
        (("delete",), "give FILENAMES, a filter"),
        (("delete", "1.jpg", "--camera", "gate"), "give FILENAMES, a filter"),
        (("delete", "--all", "--yes"), "--all: name the gallery with --gallery"),
        (("delete", "--all", "--gallery", "g", "1.jpg"), "neither FILENAMES nor a filter"),
        (("dead-letters", "--retry", "--clear"), "not both"),
    ],
)
def test_a_wrong_argument_is_named_with_exit_code_2(
    arguments: tuple[str, ...], message: str
) -> None:
    done = passerby("redis://127.0.0.1:1", *arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [
        (("search", "a man"), "PASSERBY_QUERY"),
        (("status",), "PASSERBY_QUERY"),
        (("delete", "1.jpg"), "PASSERBY_QUERY"),
        (("push", __file__, "--outage-timeout", "0", "--again"), "REDIS_URL"),
        (("dead-letters",), "REDIS_URL"),
    ],
)
def test_a_service_that_is_down_is_one_line_with_the_variable_to_set(
    arguments: tuple[str, ...], variable: str
) -> None:
    done = passerby(f"redis://127.0.0.1:{free_port()}", *arguments)
    assert done.exit_code == 75
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "cannot be reached" in line
    assert variable in line


def test_what_a_push_waits_for_is_said_on_standard_error() -> None:
    redis = f"redis://127.0.0.1:{free_port()}/0"
    done = passerby(redis, "push", __file__, "--again", "--outage-timeout", "0.1")
    assert done.exit_code == 75
    waiting, error = done.stderr.splitlines()
    assert waiting.startswith(f"Waiting up to 0.1 s: Redis at {redis} cannot be reached")
    assert error.startswith("Error: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "\udcff coat"),
        ("search", "a man", "--since", "0001-01-01T00:00:00+05:00"),
        ("delete", "\udcff.jpg"),
    ],
)
def test_an_argument_that_no_message_can_carry_is_one_line(arguments: tuple[str, ...]) -> None:
    done = passerby("redis://127.0.0.1:1", *arguments)
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")


def test_a_source_that_does_not_exist_is_one_line(redis_url: str) -> None:
    done = passerby(redis_url, "push", "no\x1b[1msuch")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "Error: no\\x1b[1msuch: no such file or folder\n"


def test_dead_letters_are_shown_retried_and_cleared(
    redis_url: str, redis: Redis, folder: Path
) -> None:
    (folder / "2.jpg").write_bytes(BROKEN)
    (folder / "gate" / "1.jpg").write_bytes(BROKEN)
    letters = ("dead-letters", "--gallery", "mine")
    assert "No dead letters of mine" in passerby(redis_url, *letters).stdout
    passerby(redis_url, "push", folder, "--gallery", "mine", "--no-wait")
    take(redis)

    shown = passerby(redis_url, *letters)
    assert shown.exit_code == 0
    assert [line.split()[1] for line in shown.stdout.splitlines()] == [
        "filename",
        "2.jpg",
        "gate/1.jpg",
    ]
    (first, _) = json.loads(passerby(redis_url, *letters, "--json").stdout)
    assert first.items() >= {"filename": "2.jpg", "reason": "not an image"}.items()

    assert "Put 2 dead letters" in passerby(redis_url, *letters, "--retry").stdout
    assert redis.xlen(INGEST_STREAM) == 2
    while take(redis):
        pass
    assert passerby(redis_url, *letters, "--clear", typed="n\n").exit_code == 1
    assert "Deleted 2 dead letters" in passerby(redis_url, *letters, "--clear", "--yes").stdout
    assert json.loads(passerby(redis_url, *letters, "--json").stdout) == []


def test_letters_that_were_not_kept_whole_are_not_retried_and_that_is_said(
    redis_url: str, redis: Redis
) -> None:
    put_aside(redis, b"1-1", {}, "mine", "large.jpg")
    put_aside(redis, b"1-1", {b"batch": b"x"}, "mine", "small.jpg")
    done = passerby(redis_url, "dead-letters", "--gallery", "mine", "--retry")
    assert "Put 1 dead letters of mine on the queue again" in done.stdout
    assert "1 were too large to be kept: push their images again" in done.stderr
    assert redis.xlen(INGEST_STREAM) == 1


def test_ctrl_c_says_what_is_queued(redis_url: str, redis: Redis, folder: Path) -> None:
    """Nobody takes from the queue, so the push waits."""
    environment = {**os.environ, "REDIS_URL": redis_url}
    process = subprocess.Popen(
        [PASSERBY, "push", folder],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that a shell runs in the background inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_until(lambda: redis.xlen(INGEST_STREAM) == 1, "the entry on the queue")
    time.sleep(0.2)  # the call that put it there returns
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Stopped. 2 of 2 images are queued and will be indexed; push again" in said
    assert "Traceback" not in said


def test_help_and_imports_need_nothing_heavy() -> None:
    script = (
        "import sys; from passerby.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pymilvus', 'numpy', 'services', 'kubernetes', 'redis'}\n"
        "sys.exit(str(sorted(heavy & sys.modules.keys())) if heavy & sys.modules.keys() else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"push", "search", "status", "dead-letters", "delete", "doctor"} <= set(
        done.stdout.split()
    )
