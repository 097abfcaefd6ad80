"""A full store takes nothing more and gives back all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable

import msgpack
import pytest

from flashsale.errors import StoreUnavailable
from tests.lua.scenarios_recovery import BEGINNING
from tests.lua.scenarios_room import DEFINITION, DIGEST, RULES, STOCK
from tests.lua.world import ENVELOPED, LIBRARY, VALID, World, busy

TAKES = {"open_drop", "join", "restore", "rebuild", "repair", "admit", "reserve", "extend", "advance"}
GIVES = {"confirm", "release", "expire", "steer_drop", "close_drop", "adjust_stock", "fence", "inspect", "leave", "draw"}


@pytest.fixture
async def full(world: World) -> AsyncIterator[World]:
    """A busy drop in a store whose memory is used up."""
    await busy(world)
    used = int((await world.client.info("memory"))["used_memory"])
    await world.client.config_set("maxmemory", used // 2)
    try:
        yield world
    finally:
        await world.client.config_set("maxmemory", 0)


def test_every_script_takes_or_gives() -> None:
    assert LIBRARY.keys() == TAKES | GIVES


@pytest.mark.parametrize("script", sorted(TAKES - {"rebuild"}))
async def test_taking_is_refused_before_it_begins(full: World, script: str) -> None:
    before = await full.digest()
    another = full.scripts.run("open_drop", "another", msgpack.packb([DIGEST, DEFINITION, RULES, STOCK]))
    call: Awaitable[object] = another if script == "open_drop" else full.act(script, *VALID[script])
    with pytest.raises(StoreUnavailable):
        await call
    if script != "open_drop":
        another.close()
    assert await full.digest() == before
    await full.client.config_set("maxmemory", 0)
    if script != "open_drop":
        assert (await full.act(script, *VALID[script]))[0] == "done"


@pytest.mark.parametrize("script", sorted(GIVES & ENVELOPED))
async def test_giving_back_works(full: World, script: str) -> None:
    before = await full.digest()
    assert (await full.act(script, *VALID[script]))[0] == "done"
    assert (await full.digest() != before) == (script != "inspect")


async def test_a_full_store_can_be_fenced_off(full: World) -> None:
    await full.client.script_flush()
    assert await full.fence() == "fenced"
    assert (await full.act("release", *VALID["release"]))[0] == "recovering"


@pytest.mark.parametrize("script", sorted(GIVES & ENVELOPED))
async def test_giving_back_works_when_the_script_has_to_be_loaded_first(full: World, script: str) -> None:
    await full.client.script_flush()
    assert (await full.act(script, *VALID[script]))[0] == "done"


async def test_a_full_store_is_not_rebuilt(full: World) -> None:
    await full.fence()
    before = await full.digest()
    with pytest.raises(StoreUnavailable):
        await full.act("rebuild", BEGINNING)
    assert await full.digest() == before
