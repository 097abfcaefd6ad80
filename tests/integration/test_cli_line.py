"""`drop rate`, `capacity`, `message`, `joining`, `signal`, `remove` and `invites` as a user has them, on real stores."""

from __future__ import annotations

import csv
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from admission.invites import InviteCodes
from flashsale.cli.compose import read_signing_keys
from flashsale.keys import drop_keys
from flashsale.model import secret_hash_of
from tests.integration.command_line import Done, find_by_environment, flashsale
from tests.integration.http_client import running_service, with_signing_keys
from tests.integration.test_cli_commands import drop_file

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from flashsale.connections.database import Database
    from flashsale.settings import Settings

TRIAL = "trial"
EXAMPLES = Path(__file__).parents[2] / "config" / "drops"


@pytest.fixture
def keyed(settings: Settings, store: Redis, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    keyed = with_signing_keys(settings, tmp_path)
    find_by_environment(keyed, tmp_path, monkeypatch)
    return keyed


@pytest.fixture
async def trial(keyed: Settings, tmp_path: Path) -> None:
    assert (await flashsale("drop", "create", str(drop_file(tmp_path, TRIAL, opens="in 10m")))).code == 0


@pytest.fixture
async def members(keyed: Settings, tmp_path: Path) -> str:
    """A drop that takes invite codes, with two groups."""
    text = (EXAMPLES / "members.toml").read_text(encoding="utf-8").replace("2027-03-05T11:00:00+01:00", '"in 10m"')
    path = tmp_path / "members.toml"
    path.write_text(text, encoding="utf-8")
    created = await flashsale("drop", "create", str(path))
    assert created.code == 0
    assert "identity.keys_file is not set" in created.err
    return "members"


# ---------------------------------------------------------------------------------------------------------------- telling


@pytest.mark.usefixtures("trial")
@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (("rate", TRIAL, "77"), "rate_per_min", b"77"),
        (("capacity", TRIAL, "88"), "capacity", b"88"),
        (("message", TRIAL, "Nearly gone."), "notice", b"Nearly gone."),
        (("joining", TRIAL, "closed"), "joining", b"closed"),
        (("signal", TRIAL, "0.25", "--for", "2m"), "signal", b"250"),
    ],
)
async def test_what_is_told_is_in_the_store(store: Redis, arguments: tuple[str, ...], field: str, value: bytes) -> None:
    told = await flashsale("drop", *arguments)
    assert (told.code, told.out) == (0, "")
    assert told.err.startswith(TRIAL)
    assert await store.hget(drop_keys(TRIAL).drop, field) == value
    as_json = await flashsale("drop", *arguments, "--json")
    assert (as_json.json["drop_id"], as_json.json["outcome"]) == (TRIAL, "done")


@pytest.mark.usefixtures("trial")
async def test_a_message_is_taken_back_and_joining_opened_again(store: Redis) -> None:
    await flashsale("drop", "message", TRIAL, "Nearly gone.")
    assert (await flashsale("drop", "message", TRIAL, "--clear")).code == 0
    await flashsale("drop", "joining", TRIAL, "closed")
    assert (await flashsale("drop", "joining", TRIAL, "open")).code == 0
    assert await store.hmget(drop_keys(TRIAL).drop, ["notice", "joining"]) == [b"", b"open"]


@pytest.mark.usefixtures("trial")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rate", TRIAL, "0"), "Invalid value"),
        (("capacity", TRIAL, "x"), "Invalid value"),
        (("message", TRIAL), "Nothing was said"),
        (("message", TRIAL, "x", "--clear"), "either given or taken back"),
        (("message", TRIAL, "x" * 201), "at most 200"),
        (("joining", TRIAL, "shut"), "Invalid value"),
        (("signal", TRIAL, "2"), "Invalid value"),
        (("signal", TRIAL, "1", "--for", "2h"), "length of time"),
        (("signal", TRIAL, "1", "--for", "soon"), "length of time"),
        (("remove", TRIAL, "no-ticket", "--why", "x"), "not a ticket of trial"),
        (("remove", TRIAL, f"{TRIAL}.t{'A' * 22}"), "--why"),
        (("remove", TRIAL, f"{TRIAL}.t{'A' * 22}", "--why", " "), "without a reason"),
        (("invites", TRIAL, "--count", "0"), "Invalid value"),
        (("invites", TRIAL, "--uses", "1001"), "Invalid value"),
    ],
    ids=str,
)
async def test_what_is_malformed_is_wrong_usage_and_changes_nothing(store: Redis, arguments: tuple[str, ...], words: str) -> None:
    before = await store.hgetall(drop_keys(TRIAL).drop)
    refused = await flashsale("drop", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert words in refused.err
    assert await store.hgetall(drop_keys(TRIAL).drop) == before


@pytest.mark.usefixtures("keyed")
@pytest.mark.parametrize(
    "arguments", [("rate", "5"), ("message", "x"), ("signal", "1"), ("remove", f"nothing.t{'A' * 22}", "--why", "x"), ("invites",)], ids=str
)
async def test_a_drop_there_is_not_is_said_to_be_none(arguments: tuple[str, ...]) -> None:
    word, *rest = arguments
    refused = await flashsale("drop", word, "nothing", *rest)
    assert (refused.code, refused.out) == (4, "")
    assert "no drop called nothing" in refused.err


@pytest.mark.usefixtures("trial")
async def test_a_closed_drop_has_no_rate_any_more() -> None:
    await flashsale("drop", "close", TRIAL, "--yes")
    refused = await flashsale("drop", "rate", TRIAL, "5")
    assert refused.code == 4
    assert "is closed" in refused.err


# --------------------------------------------------------------------------------------------------------------- removing


async def test_a_place_is_taken_away_and_its_shopper_is_told(keyed: Settings, database: Database, trial: None) -> None:
    secret = "a-secret-of-one-shopper"
    async with running_service(keyed, database) as service:
        await service.until(lambda: service.services.inlet.get(TRIAL) is not None)
        body = {"secret_hash": secret_hash_of(secret)}
        joined = await service.post(f"/v1/drops/{TRIAL}/tickets", body)
        ticket_id = joined.json["ticket_id"]
        for outcome in ("removed", "replayed"):
            removed = await flashsale("drop", "remove", TRIAL, ticket_id, "--why", "forty places of one person", "--json")
            assert (removed.code, removed.json) == (0, {"drop_id": TRIAL, "ticket_id": ticket_id, "outcome": outcome})
        assert (await service.post(f"/v1/drops/{TRIAL}/tickets", body)).code == "removed"
    nobody = await flashsale("drop", "remove", TRIAL, f"{TRIAL}.t{'A' * 22}", "--why", "x")
    assert nobody.code == 4


# ----------------------------------------------------------------------------------------------------------- invite codes


async def made(*arguments: str) -> Done:
    done = await flashsale("drop", "invites", *arguments)
    assert done.code == 0, done.err
    return done


async def test_codes_are_printed_one_a_line_and_let_people_in(keyed: Settings, members: str, database: Database) -> None:
    codes = (await made(members, "--count", "40", "--uses", "2", "--group", "gold")).out.split()
    assert len(set(codes)) == 40
    reader = InviteCodes(read_signing_keys(keyed.tokens.signing_keys_file))
    claims = [reader.read_code(members, code) for code in codes]
    assert {(claim.uses_max, claim.line) for claim in claims if claim} == {(2, 1)}
    async with running_service(keyed, database) as service:
        await service.until(lambda: service.services.inlet.get(members) is not None)
        body = {"secret_hash": secret_hash_of("a-secret-of-one-shopper"), "code": codes[0]}
        joined = await service.post(f"/v1/drops/{members}/tickets", body)
        assert (joined.status, joined.json["group"]) == (201, "gold")


def rows_of(path: Path) -> list[dict[str, Any]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


async def test_codes_go_into_a_new_file_for_its_owner_only(members: str, tmp_path: Path) -> None:
    path = tmp_path / "codes.csv"
    done = await made(members, "--count", "3", "--csv", str(path))
    assert (done.out, stat.S_IMODE(path.stat().st_mode)) == ("", 0o600)
    rows = rows_of(path)
    assert [(row["uses"], row["group"]) for row in rows] == [("1", "")] * 3
    assert not [row for row in rows if row["code"] in done.err]
    again = await flashsale("drop", "invites", members, "--csv", str(path))
    assert (again.code, "exists" in again.err) == (2, True)
    assert rows_of(path) == rows


async def test_codes_as_json_say_what_they_are_for(members: str) -> None:
    told = (await made(members, "--count", "2", "--group", "press", "--json")).json
    assert (told["drop_id"], told["group"], told["uses"], len(told["codes"])) == (members, "press", 1, 2)


async def test_a_drop_shows_who_may_have_a_place(members: str) -> None:
    shown = (await flashsale("drop", "show", members)).out
    assert "by draw, invite code required, identity accepted" in shown
    assert "gold  Gold members, 50 % of the admissions" in shown


async def test_a_group_there_is_not_is_said_to_be_none(members: str) -> None:
    refused = await flashsale("drop", "invites", members, "--group", "silver")
    assert (refused.code, refused.out) == (2, "")
    assert "gold, press" in refused.err


@pytest.mark.usefixtures("trial")
async def test_a_drop_that_takes_no_codes_is_given_none() -> None:
    refused = await flashsale("drop", "invites", TRIAL)
    assert (refused.code, refused.out) == (4, "")
    assert "takes no invite codes" in refused.err
