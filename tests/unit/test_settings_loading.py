"""Settings: one order of precedence, no silent misspelling, no secret in an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flashsale.errors import ConfigurationError
from flashsale.settings import load_settings

SECRET = "hunter2-is-not-for-logs"


def told(environment: dict[str, str] | None = None, path: Path | None = None, **overrides: dict[str, Any]) -> str:
    with pytest.raises(ConfigurationError) as error:
        load_settings(path, environment or {}, overrides)
    return str(error.value)


def test_defaults_come_from_the_file_of_defaults() -> None:
    settings = load_settings(environment={})
    assert settings.batch.size_max == 256
    assert settings.store.url == "redis://127.0.0.1:6379/0"


def test_each_source_goes_over_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[http]\nport = 1001\nhost = 'file'\nworkers = 3\n", encoding="utf-8")
    environment = {"FLASHSALE_CONFIG": str(file), "FLASHSALE_HTTP_PORT": "1002", "FLASHSALE_HTTP_HOST": "env"}
    settings = load_settings(environment=environment, overrides={"http": {"port": 1003}})
    assert (settings.http.port, settings.http.host, settings.http.workers) == (1003, "env", 3)


def test_a_named_file_goes_before_the_one_in_the_environment(tmp_path: Path) -> None:
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text("[http]\nport = 1\n", encoding="utf-8")
    two.write_text("[http]\nport = 2\n", encoding="utf-8")
    assert load_settings(one, {"FLASHSALE_CONFIG": str(two)}).http.port == 1


def test_the_environment_is_typed() -> None:
    settings = load_settings(
        environment={
            "FLASHSALE_PAYMENTS_TEST_PROVIDER": "true",
            "FLASHSALE_HTTP_RATE_PER_S": "2.5",
            "FLASHSALE_WAITING_ROOM_BEAT_MS": "100",
            "FLASHSALE_HTTP_CORS_ORIGINS": "https://a.example, https://b.example",
            "FLASHSALE_HTTP_TRUSTED_PROXIES": '["10.0.0.0/8"]',
            "FLASHSALE_HTTP_RATE_EXEMPT": "",
        }
    )
    assert settings.payments.test_provider is True
    assert settings.http.rate_per_s == 2.5
    assert settings.waiting_room.beat_ms == 100
    assert settings.http.cors_origins == ["https://a.example", "https://b.example"]
    assert settings.http.trusted_proxies == ["10.0.0.0/8"]
    assert settings.http.rate_exempt == []


def test_a_value_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("redis://from-file/0\n", encoding="utf-8")
    assert load_settings(environment={"FLASHSALE_STORE_URL_FILE": str(file)}).store.url == "redis://from-file/0"
    both = {"FLASHSALE_STORE_URL_FILE": str(file), "FLASHSALE_STORE_URL": "redis://direct/0"}
    assert load_settings(environment=both).store.url == "redis://direct/0"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert "FLASHSALE_STORE_URL_FILE" in told({"FLASHSALE_STORE_URL_FILE": str(missing)})
    assert str(missing) in told(path=missing)
    assert str(missing) in told({"FLASHSALE_CONFIG": str(missing)})
    broken = tmp_path / "broken.toml"
    broken.write_bytes(b"[http\nport = 1")
    assert "line 1" in told(path=broken)
    broken.write_bytes(b"\xff\xfe")
    assert str(broken) in told(path=broken)


@pytest.mark.parametrize(
    ("text", "part"),
    [("[htpp]\nport = 1\n", "[htpp]"), ("[http]\nprot = 1\n", "http.prot"), ("http = 1\n", "[http]"), ("port = 1\n", "[port]")],
)
def test_a_misspelt_name_in_a_file_is_refused(tmp_path: Path, text: str, part: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text, encoding="utf-8")
    assert part in told(path=file)


def test_a_misspelt_override_is_refused() -> None:
    assert "http.prot" in told(http={"prot": 1})
    assert "[htpp]" in told(htpp={"port": 1})


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("http", "port", 70_000),
        ("http", "workers", 0),
        ("batch", "size_max", 1_025),
        ("batch", "in_flight_max", 17),
        ("waiting_room", "beat_ms", 10),
        ("tokens", "ttl_ms", 600_001),
        ("reaper", "interval_ms", 5_000),
        ("store", "timeout_ms", 0),
        ("store", "url", 5),
        ("log", "format", "xml"),
        ("payments", "test_provider", "yes"),
        ("http", "cors_origins", [1]),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(section: str, name: str, value: object) -> None:
    overrides: dict[str, Any] = {section: {name: value}}
    assert f"{section}.{name}" in told(**overrides)


@pytest.mark.parametrize(
    "variable", ["FLASHSALE_HTTP_PORT", "FLASHSALE_PAYMENTS_TEST_PROVIDER", "FLASHSALE_HTTP_RATE_PER_S", "FLASHSALE_STORE_TIMEOUT_MS"]
)
def test_a_secret_in_the_wrong_place_is_not_repeated(variable: str) -> None:
    message = told({variable: SECRET})
    assert variable in message
    assert SECRET not in message


def test_a_secret_in_a_file_of_the_wrong_name_is_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET, encoding="utf-8")
    assert SECRET not in told({"FLASHSALE_HTTP_PORT_FILE": str(file)})


def test_settings_cannot_be_changed() -> None:
    settings = load_settings(environment={})
    with pytest.raises(AttributeError):
        settings.http.port = 1  # type: ignore[misc]


def test_a_misspelt_variable_is_refused_with_the_nearest_name() -> None:
    text = told({"FLASHSALE_STORE_ULR": "redis://x"})
    assert "FLASHSALE_STORE_ULR" in text
    assert "FLASHSALE_STORE_URL?" in text


def test_variables_of_others_are_left_alone() -> None:
    others = {"FLASHSALE_DATA": "/x", "FLASHSALE_STOREFRONT_KEY": "k", "STORE_ULR": "x"}
    assert load_settings(environment=others) == load_settings(environment={})


def test_a_broken_list_is_refused_by_name() -> None:
    assert "FLASHSALE_HTTP_CORS_ORIGINS" in told({"FLASHSALE_HTTP_CORS_ORIGINS": "['oops"})


@pytest.mark.parametrize("name", ["level", "format"])
def test_a_secret_among_choices_is_not_repeated(name: str) -> None:
    text = told({f"FLASHSALE_LOG_{name.upper()}": SECRET})
    assert SECRET not in text
    assert f"log.{name}" in text


def test_origins_that_may_not_call_are_found_before_a_drop_relies_on_them() -> None:
    origins = ("https://shop.example", "https://other.example")
    assert load_settings(environment={}).http.barred(origins) == []
    listed = load_settings(environment={"FLASHSALE_HTTP_CORS_ORIGINS": "https://shop.example"})
    assert listed.http.barred(origins) == ["https://other.example"]
