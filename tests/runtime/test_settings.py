"""A wrong setting is refused with its variable, its value and what is allowed."""

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from services.runtime.settings import InvalidSetting, ServiceSettings, load, shown


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="EXAMPLE_")

    folder: str = Field(description="where the example looks")
    token: SecretStr = Field(SecretStr(""), validation_alias="EXAMPLE_TOKEN")
    url: str = "redis://127.0.0.1"
    limits: dict[str, int] = Field({})


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_FOLDER", "here")


def test_each_field_has_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_PORT", "1234")
    monkeypatch.setenv("LOG_LEVEL", "debug")
    settings = load(Settings)
    assert (settings.port, settings.log_level, settings.folder) == (1234, "debug", "here")


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("EXAMPLE_PORT", "70000", "65535"),
        ("EXAMPLE_PORT", "web", "integer"),
        ("EXAMPLE_DRAIN_S", "-1", "greater than 0"),
        ("LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("EXAMPLE_LIMITS", "{a: 1}", "dictionary"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSetting) as error:
        load(Settings)
    assert f"{variable}={value!r}" in str(error.value)
    assert allowed in str(error.value)


def test_a_missing_variable_is_named_with_its_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXAMPLE_FOLDER")
    with pytest.raises(InvalidSetting, match="EXAMPLE_FOLDER is not set: where the example looks"):
        load(Settings)


def test_every_wrong_variable_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_PORT", "x")
    monkeypatch.setenv("EXAMPLE_METRICS_PORT", "y")
    with pytest.raises(InvalidSetting) as error:
        load(Settings)
    assert len(str(error.value).splitlines()) == 2


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_TOKEN", "hush")
    monkeypatch.setenv("EXAMPLE_URL", "redis://user:hush@redis.example:6379/0")
    text = str(shown(load(Settings)))
    assert "hush" not in text
    assert "redis://user:***@redis.example:6379/0" in text
