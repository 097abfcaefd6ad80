"""Wrong types, wrong arguments, lost keys, wrong epochs: whatever a script is given, it changes nothing it should not."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from flashsale.errors import ScriptError
from tests.lua.scenario import HOT
from tests.lua.scenarios_recovery import BEGINNING
from tests.lua.scenarios_room import DEFINITION, DIGEST, RULES, STOCK
from tests.lua.world import (
    BEAT_MS,
    ENVELOPED,
    KEYS,
    LIBRARY,
    VALID,
    World,
    admission,
    busy,
    extending,
    joining,
    paying,
    releasing,
    reserved,
    reserving,
    restoring,
    secret_of,
    t,
)

OTHER_TYPE: dict[str, tuple[str | int, ...]] = {"hash": ("ZADD", 1, "x"), "zset": ("HSET", "x", 1), "stream": ("HSET", "x", 1)}
KEYS_OF_SCRIPTS = [(name, key) for name, script in LIBRARY.items() for key in script.keys]

BATCH_MAX = 1_024
UNREADABLE = [b"", b"\xc1", b"\x93\x01", b"text", b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"]
NOT_NUMBERS: list[Any] = [None, "1", "", True, [], [1], {}, {"a": 1}, b"\x00\xff"]
BAD_NUMBERS: list[Any] = [*NOT_NUMBERS, -2, 0.5, 1.5, 1e300, 2**63, 2**53 + 2, math.nan, math.inf, -math.inf]
BAD_TEXTS: list[Any] = [None, 0, 7, -1, 1.5, True, [], ["a"], {}, {"a": 1}, "x" * 300_000]
EMPTY_ALLOWED = {"request_id", "confirm_key", "why"}
NEGATIVE_ALLOWED = {"delta"}

OPENING: list[Any] = [DIGEST, DEFINITION, {name: value for name, value in RULES.items() if name != "clock"}, STOCK]

ALONE: dict[str, list[Any]] = {"open_drop": OPENING, "fence": [1, 0, "test"], "rebuild": BEGINNING}
"""The one argument of each script that takes no envelope."""
LEAVES: dict[str, Any] = {
    "join": [{"ticket_id": "dora", "secret_hash": secret_of("dora")}],
    "admit": [{"ticket_id": "carl", "fresh_token_id": "carl-token"}],
    "leave": {"ticket_id": "carl", "word": "left", "why": "", "place": -1, "queue": -1},
    "draw": {"word": "gone", "places": [0], "queue_places": [0]},
    "advance": {"beat_ms": BEAT_MS, "rate_per_min": 60_000},
    "reserve": [
        {
            "reservation_id": "r2",
            "ticket_id": "bob",
            "token_id": "bob-token",
            "request_id": "q-r2",
            "items": [{"sku": "s1", "quantity": 1}, {"sku": "s2", "quantity": 1}],
        }
    ],
    "confirm": [
        {
            "reservation_id": "r1",
            "payment_reference": "pay",
            "amount_minor": 1_500,
            "request_id": "q-confirm",
            "confirm_key": "k-confirm",
        }
    ],
    "release": [{"reservation_id": "r1", "request_id": "q-release", "reason": "shopper", "paid_too": 0}],
    "extend": [{"reservation_id": "r0", "extend_key": "k-extend", "request_id": "q-extend", "extension_ms": 30_000}],
    "restore": [
        {
            "reservation_id": "r9",
            "ticket_id": "dora",
            "request_id": "q-r9",
            "epoch": 0,
            "number": 0,
            "items": [{"sku": "s1", "quantity": 1}],
            "amount_minor": 1_500,
            "reserved_at_ms": t(1_000),
            "expires_at_ms": t(61_000),
        }
    ],
    "repair": {"id": "fix", "steps": [{"word": "tell", "reservation_id": "r1"}]},
    "adjust_stock": {"id": "a1", "sku": "s1", "delta": -4, "drain": 1},
    "steer_drop": {"word": "capacity", "value": 9},
}
"""The structured argument of `VALID` with a name on every part, so that each can be spoilt."""


def plain(named: Any) -> Any:
    """`named` as the script takes it: maps become arrays of their values."""
    if isinstance(named, dict):
        return [plain(value) for value in named.values()]
    return [plain(value) for value in named] if isinstance(named, list) else named


def spoilt(named: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every way to spoil one part of `named`: (where and how, the argument as the script would get it)."""
    yield from _spoilt_at(named, named, path)


def _spoilt_at(whole: Any, part: Any, path: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    values: list[Any] = BAD_NUMBERS if isinstance(part, int) else BAD_TEXTS if isinstance(part, str) else [*NOT_NUMBERS, 7]
    if isinstance(part, str) and path[-1] not in EMPTY_ALLOWED:
        values = [*values, ""]
    if isinstance(part, int) and path[-1] in NEGATIVE_ALLOWED:
        values = [value for value in values if value != -2]
    for value in values:
        if value is None and path and path[-1] == _last(whole, path):
            continue  # a nil at the end of an array cannot be seen: the array is one shorter
        changed = copy.deepcopy(whole)
        if not path:
            yield f"{value!r:.40}", value
            continue
        holder = changed
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = value
        yield f"{path} = {value!r:.40}", plain(changed)
    for step in part if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ():
        yield from _spoilt_at(whole, part[step], (*path, step))


def _last(whole: Any, path: tuple[Any, ...]) -> Any:
    for step in path[:-1]:
        whole = whole[step]
    return len(whole) - 1 if isinstance(whole, list) else None


async def refused(world: World, script: str, *packed: bytes | int | str) -> None:
    """The call ends in an error that is told as a defect of the caller, and no byte has changed."""
    before = await world.digest()
    with pytest.raises(ScriptError):
        await world.scripts.run(script, "d", *packed)
    assert await world.digest() == before


@pytest.mark.parametrize("script", VALID)
async def test_the_valid_call_does_its_work(world: World, script: str) -> None:
    """Otherwise the refusals below would prove nothing."""
    await busy(world)
    before = await world.digest()
    assert (await world.act(script, *VALID[script]))[0] == "done"
    assert (await world.digest() != before) == (script != "inspect")


def test_every_script_has_a_valid_call() -> None:
    assert VALID.keys() == ENVELOPED
    assert ALONE.keys() == LIBRARY.keys() - ENVELOPED
    for script, named in LEAVES.items():
        assert VALID[script][0] == plain(named)


@pytest.mark.parametrize(("script", "key"), KEYS_OF_SCRIPTS)
async def test_a_key_of_the_wrong_type_stops_the_script_before_it_writes(world: World, script: str, key: str) -> None:
    if script != "open_drop":
        await busy(world)
    arguments = world.arguments(script, *VALID.get(script, (ALONE.get(script),)))
    kind = dict(zip(LIBRARY[script].keys, LIBRARY[script].key_types, strict=True))[key]
    command, *rest = OTHER_TYPE[kind]
    await world.client.delete(getattr(KEYS, key))
    await world.command(command, getattr(KEYS, key), *rest)
    await refused(world, script, *arguments)


@pytest.mark.parametrize("script", LEAVES)
async def test_a_spoilt_argument_changes_nothing(world: World, script: str) -> None:
    await busy(world)
    before = await world.digest()
    taken = []
    for how, argument in spoilt(LEAVES[script]):
        try:
            await world.act(script, argument if isinstance(argument, list) else msgpack.packb(argument))
        except ScriptError:
            continue
        finally:
            assert await world.digest() == before, how
        taken.append(how)
    assert taken == []


@pytest.mark.parametrize("script", VALID)
@pytest.mark.parametrize("envelope", [None, -1, 1.5, "1", 2**53 + 2, [], {}], ids=repr)
async def test_a_spoilt_envelope_changes_nothing(world: World, script: str, envelope: Any) -> None:
    await busy(world)
    rest = world.arguments(script, *VALID[script])[1:]
    later = [[1, envelope], [1, t(61_000), envelope]] if envelope is not None else []
    for spoilt_envelope in ([envelope, t(61_000), 0], envelope, [], [1, t(61_000), 0, 0], *later):
        await refused(world, script, msgpack.packb(spoilt_envelope), *rest)


@pytest.mark.parametrize("script", LIBRARY)
async def test_bytes_that_are_no_msgpack_change_nothing(world: World, script: str) -> None:
    await busy(world)
    valid = world.arguments(script, *VALID.get(script, (ALONE.get(script),)))
    for index in range(len(valid)):
        for junk in UNREADABLE:
            await refused(world, script, *valid[:index], junk, *valid[index + 1 :])
        await refused(world, script, *valid[:index])


@pytest.mark.parametrize("number", ["", "x", "0", "-1", "1.5", "1001", "nan", "inf", "1e9", "9007199254740994"])
async def test_a_spoilt_batch_size_expires_nothing(world: World, number: str) -> None:
    await busy(world)
    await refused(world, "expire", world.envelope(), number)


@pytest.mark.parametrize("script", sorted(HOT))
async def test_a_batch_beyond_the_limit_is_refused_whole(world: World, script: str) -> None:
    await busy(world)
    [requests] = VALID[script]
    await refused(world, script, world.envelope(), msgpack.packb(requests * (BATCH_MAX + 1)))
    await refused(world, script, world.envelope(), msgpack.packb([]))
    assert (await world.act(script, requests * BATCH_MAX))[0] == "done"


@pytest.mark.parametrize("position", ["first", "last"])
@pytest.mark.parametrize(
    ("script", "good", "bad"),
    [
        ("join", joining("dora"), ["erin", ""]),
        ("admit", admission("carl"), ["ann", 5]),
        ("reserve", reserving("bob", "r2", s1=1), reserving("bob", "r3", s1=-1)),
        ("confirm", paying("r1"), ["r1", "pay", -1, "", ""]),
        ("release", releasing("r1"), ["r1", "q", "", 0]),
        ("extend", extending("r0"), ["r0", "k", "q", 0]),
        ("restore", restoring("dora", "r9", s1=1), restoring("dora", "r8", s1=0)),
    ],
)
async def test_one_bad_request_refuses_the_batch(world: World, script: str, good: Any, bad: Any, position: str) -> None:
    await busy(world)
    requests = [bad, good] if position == "first" else [good, bad]
    await refused(world, script, world.envelope(), msgpack.packb(requests))


@pytest.mark.parametrize(
    "items",
    [
        pytest.param([["s1", 1], ["s1", 1]], id="twice the same"),
        pytest.param([["s1", 1], ["s2", 1], ["s1", 1]], id="twice the same, apart"),
        pytest.param([["s1", 0]], id="none"),
        pytest.param([["s1", 1_001]], id="too many units"),
        pytest.param([[f"s{i:02}", 1] for i in range(11)], id="too many SKUs"),
        pytest.param([["s1"]], id="no quantity"),
        pytest.param([[["s1"], 1]], id="nested"),
    ],
)
async def test_items_out_of_form_are_refused(world: World, items: Any) -> None:
    await busy(world)
    await refused(world, "reserve", world.envelope(), msgpack.packb([["r2", "bob", "bob-token", "q", items]]))


@pytest.mark.parametrize(
    "command",
    [["explode", 1], ["pause"], ["rate_per_min", 0], ["rate_per_min", 1e8], ["capacity", "many"], ["notice", "x" * 501], ["notice", 5]],
    ids=repr,
)
async def test_a_command_that_is_none_steers_nothing(world: World, command: list[Any]) -> None:
    await busy(world)
    if command == ["pause"]:
        assert await world.steer("pause") == ["done", "paused"]  # needs no value
        return
    await refused(world, "steer_drop", world.envelope(), msgpack.packb(command))


def _opening(**rules: Any) -> list[Any]:
    return [DIGEST, DEFINITION, {**OPENING[2], **rules}, STOCK]


def _stock(*rows: list[Any]) -> list[Any]:
    return [DIGEST, DEFINITION, OPENING[2], list(rows)]


@pytest.mark.parametrize(
    "definition",
    [
        *(pytest.param(_opening(**{rule: bad}), id=f"{rule} = {bad!r}") for rule in OPENING[2] for bad in (None, -1, 1.5, "1", 2**54)),
        pytest.param([5, DEFINITION, OPENING[2], STOCK], id="digest"),
        pytest.param(["", DEFINITION, OPENING[2], STOCK], id="no digest"),
        pytest.param([DIGEST, "", OPENING[2], STOCK], id="no definition"),
        pytest.param([DIGEST, "x" * 262_145, OPENING[2], STOCK], id="huge definition"),
        pytest.param([DIGEST, DEFINITION, 5, STOCK], id="rules"),
        pytest.param([DIGEST, DEFINITION, OPENING[2], []], id="no SKU"),
        pytest.param([DIGEST, DEFINITION, OPENING[2], [[f"s{i}", 1, 1, 0, 1, 1] for i in range(51)]], id="51 SKUs"),
        pytest.param(_stock(["s1", 5, 5, 0, 1, 1], ["s1", 5, 5, 0, 1, 1]), id="one SKU twice"),
        pytest.param(_stock(["s1", 0, 0, 0, 1, 1]), id="no unit"),
        pytest.param(_stock(["s1", 5, 4, 0, 1, 1]), id="a unit missing"),
        pytest.param(_stock(["s1", 5, 6, -1, 1, 1]), id="negative sold"),
        pytest.param(_stock(["s1", 5.5, 5.5, 0, 1, 1]), id="half a unit"),
        pytest.param(_stock(["s1", 1e8, 1e8, 0, 1, 1]), id="too many units"),
        pytest.param(_stock(["s1", 5, 5, 0, -1, 1]), id="negative price"),
        pytest.param(_stock(["s1", 5, 5, 0, 2**53, 1]), id="a price whose multiples lose bits"),
        pytest.param(_stock(["s1", 5, 5, 0, 1, 0]), id="no limit"),
        pytest.param(_stock(["", 5, 5, 0, 1, 1]), id="no name"),
        pytest.param(_stock(["s1", 5, 5]), id="short"),
    ],
)
async def test_a_spoilt_definition_opens_nothing(world: World, definition: list[Any]) -> None:
    await refused(world, "open_drop", msgpack.packb(definition))
    assert await world.client.dbsize() == 0


# ------------------------------------------------------------------------------------------------------- lost and foreign


OF_THE_DRAW = {b"draw_secret", b"beacon", b"closed_entries_at_ms"}
"""Fields that only the draw and what is published of it need."""
LATER = {b"order", b"lines", b"root", b"joining", b"signal", b"signal_until_ms", b"drawn_at_ms", b"resumed_at_ms", b"paused_ms"}
"""Fields that a drop of an earlier version does not have: it is then as it was in that version."""


async def test_a_drop_of_an_earlier_version_goes_on_as_it_was(world: World) -> None:
    await reserved(world)
    await world.client.hdel(KEYS.drop, *OF_THE_DRAW, *LATER)
    assert (await world.join("carl"))[0] == ["joined", 2, 1, t(1_000), "carl"]
    world.at(1_100)
    assert await world.beat() == "advanced"
    assert (await world.admit("carl"))[0][0] == "admitted"
    assert (await world.release("r1"))[0] == "released"
    assert await world.leave("bob") == ["left", 1]
    assert (await world.act("steer_drop", ["signal", 500, 60_000]))[2] == ["done", "open"]
    assert (await world.close())[0] == "closed"


@pytest.mark.parametrize("script", VALID)
async def test_whatever_is_lost_of_drop_and_stock_the_answer_is_recovering(world: World, script: str) -> None:
    """Never "zero" and never "full": each field alone, then the keys. Steering and closing need no units."""
    await busy(world)
    for key in (name for name in ("drop", "stock") if name in LIBRARY[script].keys):
        for field, value in (await world.client.hgetall(getattr(KEYS, key))).items():
            if field in OF_THE_DRAW | LATER or (field == b"definition" and script != "inspect"):
                continue
            await world.client.hdel(getattr(KEYS, key), field)
            await _recovers(world, script, epoch=1 if key == "stock" or field == b"definition" else 0)
            await world.client.hset(getattr(KEYS, key), field, value)
        renamed = await world.client.rename(getattr(KEYS, key), "fs:drops")
        assert renamed
        before = await world.digest()
        word, epoch, results = await world.act(script, *VALID[script])
        assert (word, epoch, results) == ("recovering", 1 if key == "stock" else 0, [])
        assert await world.digest() == before
        await world.client.rename("fs:drops", getattr(KEYS, key))
    assert (await world.act(script, *VALID[script]))[0] == "done"


@pytest.mark.parametrize("script", VALID)
async def test_a_number_that_is_none_is_as_good_as_lost(world: World, script: str) -> None:
    await busy(world)
    texts = {b"state", b"skus", b"entries", b"key", b"notice", b"digest", b"clock", b"definition", b"fenced"}
    for key in (name for name in ("drop", "stock") if name in LIBRARY[script].keys):
        for field, value in (await world.client.hgetall(getattr(KEYS, key))).items():
            if field in texts | OF_THE_DRAW | LATER:
                continue
            await world.client.hset(getattr(KEYS, key), field, "many")
            await _recovers(world, script, epoch=1 if key == "stock" else 0)
            await world.client.hset(getattr(KEYS, key), field, value)


async def _recovers(world: World, script: str, epoch: int) -> None:
    before = await world.digest()
    assert await world.act(script, *VALID[script]) == ("recovering", epoch, [])
    assert await world.digest() == before


@pytest.mark.parametrize("script", VALID)
@pytest.mark.parametrize("epoch", [2, 7])
async def test_a_caller_of_another_epoch_changes_nothing(world: World, script: str, epoch: int) -> None:
    """The store is behind what the caller has seen, or the caller is behind the store: both hear the store's epoch."""
    await busy(world)
    if epoch == 7:
        await world.client.hset(KEYS.drop, "epoch", 7)
    else:
        world.epoch = epoch
    await _recovers(world, script, epoch=7 if epoch == 7 else 1)


@pytest.mark.parametrize("script", VALID)
async def test_a_caller_who_has_seen_no_epoch_is_served(world: World, script: str) -> None:
    await busy(world)
    world.epoch = 0
    assert (await world.act(script, *VALID[script]))[0] == "done"


@pytest.mark.parametrize("script", [name for name, script in LIBRARY.items() if "stats" in script.keys and name != "inspect"])
async def test_totals_that_cannot_be_counted_stop_nothing(world: World, script: str) -> None:
    """Nothing decides by the totals for people, so a spoilt one must not tear a transition apart."""
    await busy(world)
    await world.client.hset(KEYS.stats, mapping={"reserved_units": "many", "expired_units": "many", "slots_lapsed": "many"})
    await world.client.hset(KEYS.stats, "late_payments_honoured", "many")
    before = await world.client.xlen(KEYS.journal)
    assert (await world.act(script, *VALID[script]))[0] == "done"
    if script != "advance":
        assert await world.client.xlen(KEYS.journal) == before + 1
