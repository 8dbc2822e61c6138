"""The indexer's settings come from the environment and are checked before anything starts."""

import socket

import pytest

from services.indexer.settings import IndexerSettings
from services.runtime.settings import InvalidSetting, load


def test_roots_are_a_list_and_the_consumer_is_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDEXER_ALLOWED_ROOTS", " /srv/images, s3://bucket/people ,")
    settings = load(IndexerSettings)
    assert settings.allowed_roots == ("/srv/images", "s3://bucket/people")
    assert settings.consumer == socket.gethostname()
    monkeypatch.setenv("INDEXER_ALLOWED_ROOTS", "")
    assert load(IndexerSettings).allowed_roots == ()


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("INDEXER_ALLOWED_ROOTS", "/srv,images", "'images' must be an absolute folder or a URL"),
        ("INDEXER_MAX_DELIVERIES", "1", "greater than or equal to 3"),
        ("INDEXER_TAKEOVER_S", "0", "greater than or equal to 1"),
        ("IMAGES_URI", "/srv/kept", "must be a URL such as"),
        ("MILVUS_INDEX", "BEST", "'AUTOINDEX'"),
        ("MILVUS_INDEX_PARAMS", "{M: 16}", "property name enclosed in double quotes"),
        ("MILVUS_SEARCH_PARAMS", "[200]", "valid dictionary"),
        ("MILVUS_SEARCH_PARAMS", '{"ef": "200"}', "ef must be a whole number"),
        ("MILVUS_SEARCH_PARAMS", '{"nprobe": 0}', "nprobe must be a whole number"),
        ("REDIS_URL", "redis://localhost:port", "its port is not a number"),
        ("REDIS_URL", "redis://localhost:66379", "0-65535"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSetting) as error:
        load(IndexerSettings)
    assert f"{variable}={value!r}" in str(error.value)
    assert allowed in str(error.value)


def test_a_password_that_is_taken_for_a_port_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:secret/123@localhost:6379")
    with pytest.raises(InvalidSetting, match="percent-encoded") as error:
        load(IndexerSettings)
    assert "secret" not in str(error.value)
