"""The table of limits: it is what the code enforces, and names settings that exist."""

import re

import pytest

from deploy.helm.reference import SETTINGS
from deploy.limits import PAGE, TABLES, page_text
from passerby.limits import Limit
from services.runtime.settings import ServiceSettings, variable_of

LIMITS = [limit for limits in TABLES.values() for limit in limits]


def test_the_page_is_what_the_code_enforces() -> None:
    assert PAGE.read_text() == page_text(PAGE.read_text()), "run `make limits`"


def test_a_limit_that_changes_is_found() -> None:
    other = re.sub(r"\| 2,000 characters", "| 2,001 characters", PAGE.read_text())
    assert other != PAGE.read_text()
    assert page_text(other) == PAGE.read_text()


@pytest.mark.parametrize("limit", [limit for limit in LIMITS if limit.setting], ids=str)
def test_a_limit_that_a_setting_moves_has_its_default(limit: Limit) -> None:
    classes: list[type[ServiceSettings]] = [settings for settings, _ in SETTINGS.values()]
    (default,) = {
        field.default
        for settings in classes
        for name, field in settings.model_fields.items()
        if variable_of(settings, name) == limit.setting
    }
    assert limit.value == default


def test_what_is_said_beyond_a_limit_names_it_its_value_and_what_moves_it() -> None:
    limit = Limit("body", 65_536, "bytes", "HTTP 413", "QUERY_BODY_BYTES")
    assert limit.shown == "64 KiB"
    assert Limit("memory", 1024, "MiB", "death").shown == "1 GiB"
    assert limit.exceeded(65_537) == (
        "body: 65,537 bytes are more than the limit of 65,536 (set by QUERY_BODY_BYTES)"
    )
    assert (
        limit.at(1).exceeded() == "body: more than the limit of 1 bytes (set by QUERY_BODY_BYTES)"
    )
    assert Limit("wait", 0.5, "seconds", "HTTP 408").exceeded(0.75) == (
        "wait: 0.75 seconds are more than the limit of 0.5 (fixed)"
    )
