"""Every line of a log goes through one place that knows no secrets."""

import subprocess
import sys

import pytest

from tests.support.processes import REPOSITORY

SCRIPT = """
import logging, structlog
from services.runtime import logs
logs.configure("example", form=%r)
local = "redis://u:hush@h/0"
log = structlog.get_logger()
log.warning("lost", reason=local, uri="https://s3.example/a?sig=hush", parts=[local])
logging.getLogger("library").error("failed: %%s", local)
try:
    raise ValueError(local)
except ValueError:
    log.exception("failed")
raise RuntimeError("password=hush")
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_line_shows_a_secret(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT % form], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 1
    for event in ("lost", "failed", "ValueError", "crashed", "RuntimeError"):
        assert event in done.stderr
    assert "https://s3.example/a?***" in done.stderr
    # The script's own text is in no traceback.
    assert "hush" not in done.stderr, done.stderr
