"""Log lines: what they hold, and what they never do."""

from __future__ import annotations

import io
import json
import logging
import os

import msgspec
import pytest
import structlog
from structlog.testing import capture_logs

from flashsale.log import REDACTED, Trouble, configure_logging, redact
from flashsale.settings import LogSettings

TICKET_SECRET = "c2VjcmV0LW9mLWEtc2hvcHBlci1oZXJl"
TICKET = "sneaker-x.t" + "A" * 22
API_KEY = "fs_live_" + "A" * 12 + "_" + "s" * 43
TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRETS = (TICKET_SECRET, "s" * 43, "c2lnbmF0dXJl", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "hunter2")


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    configure_logging(LogSettings(level="info", format="json", sample_ok=1), stream)
    return stream


@pytest.mark.parametrize(
    "event",
    [
        {"authorization": f"Bearer {API_KEY}"},
        {"headers": {"Authorization": f"Ticket {TICKET}.{TICKET_SECRET}", "cookie": "hunter2"}},
        {"event": f"refused Bearer {TOKEN} twice"},
        {"event": f"Ticket {TICKET}.{TICKET_SECRET}"},
        {"error": f"key {API_KEY} is unknown"},
        {"anything": [{"deep": (f"x {TOKEN} y", API_KEY.encode())}]},
        {"what": ValueError(f"bad {WEBHOOK_SECRET}")},
        {"url": "redis://user:hunter2@store:6379/0"},
        {"url": "postgresql://:hunter2@db/flashsale"},
        {"url": "redis://:ab/hunter2@store:6379/0"},
        {"url": "redis://:ab@hunter2@store:6379/0"},
        {"error": "cannot use postgresql:///flashsale?user=u&password=hunter2&sslmode=require."},
        {"error": "cannot use postgresql://db:5432/flashsale?user=u&password=x@hunter2"},
        {"webhook_secret": WEBHOOK_SECRET, "admission_token": TOKEN, "password": "hunter2"},
        {"a": {"b": {"c": {"d": {"e": {"f": {"g": API_KEY}}}}}}},
    ],
)
def test_secrets_never_reach_a_line(lines: io.StringIO, event: dict[str, object]) -> None:
    structlog.get_logger().warning(**{"event": "something", **event})
    line = lines.getvalue()
    assert REDACTED in line
    for secret in SECRETS:
        assert secret not in line


def test_what_is_no_secret_stays(lines: io.StringIO) -> None:
    structlog.get_logger().info("request", route="join", status=201, ticket_id=TICKET, token_ttl_ms=5, url="http://localhost:8080/x")
    line = json.loads(lines.getvalue())
    assert {name: line[name] for name in ("event", "level", "route", "status", "ticket_id", "token_ttl_ms", "url")} == {
        "event": "request",
        "level": "info",
        "route": "join",
        "status": 201,
        "ticket_id": TICKET,
        "token_ttl_ms": 5,
        "url": "http://localhost:8080/x",
    }
    assert line["timestamp"].endswith("Z")


def test_a_traceback_is_redacted_too(lines: io.StringIO) -> None:
    try:
        os.environ[f"cannot use {API_KEY}"]
    except KeyError as error:
        structlog.get_logger().error("request_failed", exc_info=error)
    line = lines.getvalue()
    assert "KeyError" in json.loads(line)["exception"]
    assert "s" * 43 not in line


def test_the_level_and_what_libraries_log(lines: io.StringIO) -> None:
    structlog.get_logger().debug("quiet")
    logging.getLogger("aiohttp.server").info("quiet")
    logging.getLogger("aiohttp.server").error("upset by %s", API_KEY)
    line = json.loads(lines.getvalue())
    assert (line["event"], line["logger"], line["level"]) == (f"upset by {REDACTED}", "aiohttp.server", "error")


def test_console_format_is_redacted_as_well() -> None:
    stream = io.StringIO()
    configure_logging(LogSettings(level="info", format="console", sample_ok=1), stream)
    structlog.get_logger().info("request", authorization="Bearer hunter2", key=API_KEY)
    assert "hunter2" not in stream.getvalue()
    assert "s" * 43 not in stream.getvalue()


def test_the_processor_leaves_its_input_alone() -> None:
    event = {"event": "x", "headers": {"authorization": "hunter2"}}
    before = msgspec.json.encode(event)
    assert redact(None, "info", event)["headers"] == {"authorization": REDACTED}
    assert msgspec.json.encode(event) == before


def test_trouble_is_said_when_it_begins_and_when_it_is_over() -> None:
    with capture_logs() as said:
        trouble = Trouble(structlog.get_logger(), "held_up", "resumed", drop="x")
        trouble.passed()
        for error in ("first", "second"):
            trouble.met(error=error)
        trouble.passed()
        trouble.passed()
        trouble.met(error="third")
    assert said == [
        {"event": "held_up", "log_level": "warning", "drop": "x", "error": "first"},
        {"event": "resumed", "log_level": "info", "drop": "x"},
        {"event": "held_up", "log_level": "warning", "drop": "x", "error": "third"},
    ]
