"""What is said of a connection's URL."""

from __future__ import annotations

import io

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from flashsale.connections.wording import reason_unquoted, redacted
from flashsale.log import configure_logging
from flashsale.settings import LogSettings

SECRET = "hunter2"
around = st.text("aZ9/:@?#[]%+!.,;'\"$é~-", max_size=6)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("redis://:ab/cd@host:6379/0", "redis://:***@host:6379/0"),
        ("redis://:p@ss@host:6379/0", "redis://:***@host:6379/0"),
        ("redis://host:6379/0?password=secret", "redis://host:6379/0?password=***"),
        ("redis+sentinel://:a:b@one:26379,two:26379/main", "redis+sentinel://:***@one:26379,two:26379/main"),
        ("user:secret@host:6379", "user:***@host:6379"),
        ("postgresql://user:secret@host/name", "postgresql://user:***@host/name"),
        ("postgresql://user@host:5432/name?sslmode=require", "postgresql://user@host:5432/name?sslmode=require"),
        ("postgresql:///name?user=u&password=secret&sslpassword=other", "postgresql:///name?user=u&password=***&sslpassword=***"),
        ("postgresql:///name?user=u:v&password=a@secret", "postgresql:///name?user=u:v&password=***"),
        ("host=db password=secret user=u", "host=db password=*** user=u"),
        ("redis://host/0", "redis://host/0"),
        ("unix:///folder/a:b@c.sock", "unix:///folder/a:***@c.sock"),
        ("redis:///:pw@h", "redis:///:***@h"),
        ("redis:////user:pw@h", "redis:////user:***@h"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown


@given(st.sampled_from(["redis", "redis+cluster", "postgresql"]), st.sampled_from(["", "user", "us/er", "user@tenant"]), around, around)
def test_no_part_of_an_account_s_password_is_shown(scheme: str, user: str, before: str, after: str) -> None:
    require_hidden(f"{scheme}://{user}:{before}{SECRET}{after}@host:6379/0")


@given(st.sampled_from(["redis://host:6379/0", "postgresql://u@host:5432/name", "unix:///a/b.sock"]), around, around)
def test_no_part_of_a_query_s_password_is_shown(start: str, before: str, after: str) -> None:
    require_hidden(f"{start}?user=u&password={before}{SECRET}{after}&sslmode=require")


def require_hidden(url: str) -> None:
    assert SECRET not in redacted(url)
    stream = io.StringIO()
    configure_logging(LogSettings(level="info", format="json", sample_ok=1), stream)
    structlog.get_logger().warning("refused", error=f"Cannot use {url} at all.")
    assert SECRET not in stream.getvalue()


def test_a_reason_without_what_it_quotes() -> None:
    assert (
        reason_unquoted(ValueError("Port could not be cast to integer value as 'a'b'.")) == "Port could not be cast to integer value as '…'"
    )
    assert reason_unquoted(ValueError("It has no host.")) == "It has no host"
