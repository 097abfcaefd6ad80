"""The real scripts and the real reconciler, broken on purpose: each break is caught by its name, and nothing else is.

A checker that never found anything proves nothing. Each mutation is a substitution in a script's text; one that no longer
finds its text fails here, so that it is brought up to date with the script.
"""

from __future__ import annotations

import shutil
import sys
import types
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

import reconciler.consumer
from flashsale.connections.database import Database
from flashsale.resources import resource_dir
from flashsale.scripts import read_scripts
from loadtest.checker.model import Rules
from loadtest.checker.violations import Name
from tests.checker import workloads
from tests.checker.shop import DROP_ID, Shop
from tests.integration import reconciler_stage
from tests.integration.reconciler_stage import query

LUA = resource_dir("lua")
GUARD = "drop_skus_sold_within_allotment"

Workload = Callable[[Shop], Awaitable[Rules | None]]


@dataclass(frozen=True, slots=True)
class Mutation:
    """A break, and how it shows."""

    script: str
    """below lua/"""
    found: str
    replaced_by: str
    workload: Workload
    caught_as: Name


MUTATIONS = {
    "no_replay_check": Mutation(
        "reserve.lua", "  if before then\n", "  if false then\n", workloads.asked_again, Name.DUPLICATE_RESERVATION
    ),
    "stock_before_replay": Mutation(
        "reserve.lua",
        "  if before then\n",
        '  if stock_of[request[5][1][1]].available < request[5][1][2] then\n    results[i] = {"sold_out", {}}\n  elseif before then\n',
        workloads.last_unit_whose_answer_is_lost,
        Name.REPLAY_REFUSED,
    ),
    "nil_read_as_zero": Mutation(
        "include/ledger.lua",
        "values[i] = values[i] and tonumber(values[i])",
        "values[i] = tonumber(values[i] or 0)",
        workloads.units_unreadable,
        Name.FALSE_SOLD_OUT,
    ),
    "nil_read_as_full": Mutation(
        "include/ledger.lua",
        "if not values[i] then return false end",
        "if not values[i] then values[i] = values[i - 1] end",
        workloads.units_unreadable,
        Name.OVERSOLD,
    ),
    "release_twice": Mutation("release.lua", '[STATE_RELEASED] = "replayed", ', "", workloads.busy_drop, Name.RELEASED_TWICE),
    "no_epoch_check": Mutation(
        "include/drop.lua",
        "epoch ~= 0 and epoch ~= drop.epoch",
        "false",
        workloads.earlier_epoch_comes_back,
        Name.OVERSOLD,
    ),
    "journal_trimmed": Mutation(
        "include/ledger.lua",
        'redis.call("XADD", keys.journal, "*"',
        'redis.call("XADD", keys.journal, "MAXLEN", 3, "*"',
        workloads.busy_drop,
        Name.LOST_ORDER,
    ),
    "write_before_decide": Mutation(
        "reserve.lua",
        "    local why, amount_minor, units = judge(ticket, request[5])\n",
        '    move_units(ledger, request[5], "available", "reserved")\n    local why, amount_minor, units = judge(ticket, request[5])\n',
        workloads.busy_drop,
        Name.NOT_CONSERVED,
    ),
    "stock_unchecked": Mutation(
        "reserve.lua",
        "if quantity > stock.available then short = true end",
        "",
        workloads.busy_drop,
        Name.OVERSOLD,
    ),
    "stock_checked_too_strictly": Mutation(
        "reserve.lua",
        "if quantity > stock.available then short = true end",
        "if quantity >= stock.available then short = true end",
        workloads.unit_comes_back,
        Name.FALSE_SOLD_OUT,
    ),
    "units_kept_for_those_behind": Mutation(
        "include/standby.lua", "if waiting[i][1] >= place then return true end", "", workloads.unit_comes_back, Name.FALSE_SOLD_OUT
    ),
    "units_kept_for_who_has_them": Mutation(
        "reserve.lua", "if standing > 0 then stand_no_more(ticket) end", "", workloads.unit_comes_back, Name.FALSE_SOLD_OUT
    ),
    "limit_unchecked": Mutation(
        "reserve.lua",
        'if limit then return {"limit_reached", limit, held} end',
        "",
        workloads.greedy_shopper,
        Name.LIMIT_BROKEN,
    ),
    "limit_for_all": Mutation(
        "reserve.lua",
        'if limit then return {"limit_reached", limit, held} end',
        'if true then return {"limit_reached", limit or 0, held or 0} end',
        workloads.busy_drop,
        Name.FALSE_LIMIT,
    ),
    "limit_never_given_back": Mutation(
        "include/ledger.lua",
        "ticket[TICKET_UNITS] + sign * quantity",
        "ticket[TICKET_UNITS] + math.max(0, sign) * quantity",
        workloads.limit_comes_back,
        Name.FALSE_LIMIT,
    ),
    "units_leak": Mutation(
        "include/ledger.lua",
        '  move_units(ledger, reservation[RESERVATION_ITEMS], "reserved", "available")\n',
        "",
        workloads.busy_drop,
        Name.NOT_CONSERVED,
    ),
    "expire_ignores_state": Mutation(
        "expire.lua",
        "if reservation and reservation[RESERVATION_STATE] == STATE_RESERVED then",
        "if reservation then",
        workloads.expiry_left_behind,
        Name.LOST_ORDER,
    ),
    "expires_early": Mutation(
        "expire.lua",
        '"-inf", drop.now,',
        '"-inf", drop.now + 30000,',
        workloads.reaper_in_a_hurry,
        Name.EXPIRED_EARLY,
    ),
    "confirm_takes_ended_units": Mutation(
        "confirm.lua",
        "if can_take_again(reservation, ticket) then",
        "if true then",
        workloads.paid_when_all_is_gone,
        Name.OVERSOLD,
    ),
    "confirm_without_journal": Mutation(
        "confirm.lua",
        '  record(ledger, "confirmed", id, reservation, request[4], "")\n',
        "",
        workloads.busy_drop,
        Name.LOST_ORDER,
    ),
    "amount_unchecked": Mutation(
        "confirm.lua",
        "elseif request[3] ~= reservation[RESERVATION_AMOUNT_MINOR] then",
        "elseif false then",
        workloads.busy_drop,
        Name.AMOUNT_WRONG,
    ),
    "extended_again": Mutation(
        "extend.lua",
        'elseif extended_by ~= "" then',
        "elseif false then",
        workloads.one_more_minute,
        Name.EXTENDED_TWICE,
    ),
    "stock_added_twice": Mutation(
        "adjust_stock.lua", "if made then", "if false then", workloads.merchant_changes_stock, Name.NOT_CONSERVED
    ),
    "second_payment_taken": Mutation(
        "confirm.lua", "if not same_payment then", "if false then", workloads.two_payments, Name.DOUBLE_PAYMENT
    ),
}

SOUND: tuple[Workload, ...] = (
    workloads.busy_drop,
    workloads.greedy_shopper,
    workloads.last_unit_whose_answer_is_lost,
    workloads.asked_again,
    workloads.unit_comes_back,
    workloads.limit_comes_back,
    workloads.paid_when_all_is_gone,
    workloads.two_payments,
    workloads.merchant_changes_stock,
    workloads.one_more_minute,
    workloads.reaper_in_a_hurry,
    workloads.expiry_left_behind,
    workloads.units_unreadable,
    workloads.earlier_epoch_comes_back,
    workloads.store_forgets_a_sale,
    workloads.reconciler_dies_before_its_commit,
)


def mutated(source: str, found: str, replaced_by: str) -> str:
    """`source` with every `found` replaced."""
    assert found in source, f"the mutation no longer finds {found!r}"
    return source.replace(found, replaced_by)


@pytest.fixture
def lua(tmp_path: Path) -> Path:
    """The scripts, to be broken."""
    return Path(shutil.copytree(LUA, tmp_path / "lua"))


@pytest.fixture
def shop(store: Redis, database: Database, tmp_path: Path, lua: Path) -> Callable[[], Shop]:
    """Opens a shop with the scripts as they are by then."""
    return lambda: Shop(store, database, tmp_path / "history.jsonl", read_scripts(lua))


@pytest.mark.parametrize("workload", SOUND, ids=lambda workload: workload.__name__)
async def test_the_service_as_it_is_keeps_every_promise(shop: Callable[[], Shop], workload: Workload) -> None:
    running = shop()
    rules = await workload(running)
    verdict = await running.verdict(rules)
    assert verdict.kept, verdict.examples


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 60))])
async def test_the_service_keeps_every_promise_whatever_people_do(shop: Callable[[], Shop], seed: int) -> None:
    running = shop()
    await workloads.whatever(running, seed)
    verdict = await running.verdict()
    assert verdict.kept, verdict.examples


@pytest.mark.parametrize("name", MUTATIONS)
async def test_a_broken_script_is_caught_by_name(shop: Callable[[], Shop], lua: Path, name: str) -> None:
    mutation = MUTATIONS[name]
    path = lua / mutation.script
    path.write_text(mutated(path.read_text(), mutation.found, mutation.replaced_by))
    running = shop()
    rules = await mutation.workload(running)
    verdict = await running.verdict(rules)
    assert mutation.caught_as in verdict.names, verdict.examples


async def test_guard_dropped(shop: Callable[[], Shop], database: Database) -> None:
    running = shop()
    await query(database, f"ALTER TABLE drop_skus DROP CONSTRAINT {GUARD}")
    rules = await workloads.store_forgets_a_sale(running)
    assert Name.OVERSOLD in (await running.verdict(rules)).names


async def test_acknowledge_before_commit(shop: Callable[[], Shop], monkeypatch: pytest.MonkeyPatch) -> None:
    source = mutated(
        Path(reconciler.consumer.__file__).read_text(),
        "await self._record(load, stop)",
        "(await self._journal.ack([entry.entry_id for entry in load.entries]), await self._record(load, stop))[1]",
    )
    broken: Any = types.ModuleType("broken_consumer")
    monkeypatch.setitem(sys.modules, "broken_consumer", broken)
    exec(compile(source, "broken_consumer.py", "exec"), broken.__dict__)
    running = shop()
    with monkeypatch.context() as patch:
        patch.setattr(reconciler_stage, "JournalConsumer", broken.JournalConsumer)
        dying = reconciler_stage.make_consumer(running.store, running.database, DROP_ID)
    await workloads.reconciler_dies_before_its_commit(running, dying)
    assert Name.LOST_ORDER in (await running.verdict()).names


def test_a_mutation_that_finds_nothing_fails() -> None:
    with pytest.raises(AssertionError, match="no longer finds"):
        mutated("return 1", "return 2", "return 3")
