"""The draw while things break: it is made once, it is what the commitment and the entries make it, and everybody keeps their lot."""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from chaos.lab import until
from chaos.losses import empty_store, recovered, unrecorded
from chaos.probe import probe_drop
from chaos.proxy import holding
from chaos.wire import Side
from flashsale.cli.draw_summary import draw_faults, read_draw_records
from flashsale.cli.rehearsal import Pace, Scenario
from flashsale.cli.summary import Crowd
from flashsale.keys import drop_keys
from loadtest.checker.model import Window
from loadtest.client import Pool
from loadtest.draw import Lot
from loadtest.shopper import secret_hash_of
from tests.faults.stage import require_sound, selling_from

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chaos.lab import Lab
    from chaos.process import LabProcess
    from chaos.proxy import Hold
    from chaos.wire import Message, Pattern
    from flashsale.model import Drop
    from loadtest.client import Answer

ENTRANTS = 12
OPENS_IN_MS = 3_600_000
"""by itself; a test opens it when it is ready"""


@dataclass(slots=True)
class Entrant:
    """Somebody who joins before the opening, and knows the receipt."""

    drop: Drop
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    ticket: dict[str, Any] = field(default_factory=dict)
    lot: Lot = field(default_factory=lambda: Lot({}, draws=True))

    async def join(self, worker: LabProcess) -> None:
        """Takes a place, or shows the receipt of the one it had."""
        body = {"secret_hash": secret_hash_of(self.secret)}
        if self.ticket:
            body["receipt"] = self.ticket["receipt"]
        answer = await ask(worker, "POST", f"/v1/drops/{self.drop.drop_id}/tickets", body=body)
        assert answer.status in {200, 201}, answer.body
        self.ticket = answer.json()
        self.lot = Lot(self.ticket, draws=True)

    async def is_let_in(self, worker: LabProcess) -> bool:
        """Whether the service gives an admission token now."""
        headers = {"Authorization": f"Ticket {self.ticket['ticket_id']}.{self.secret}"}
        answer = await ask(worker, "POST", f"/v1/drops/{self.drop.drop_id}/admissions", headers=headers)
        return answer.status == 200


async def ask(worker: LabProcess, method: str, path: str, **request: Any) -> Answer:
    """One answer of one worker."""
    pool = Pool(worker.url)
    try:
        return await pool.request(method, path, **request)
    finally:
        pool.close()


async def drop_to_draw(lab: Lab) -> Drop:
    """A drop that people may join, and that opens when a test says so."""
    drop = probe_drop("draw", units=20)
    return await lab.open_drop(
        replace(drop, order="draw", opens_at_ms=drop.opens_at_ms + OPENS_IN_MS, closes_at_ms=drop.closes_at_ms + 2 * OPENS_IN_MS)
    )


async def entrants_of(lab: Lab, drop: Drop, count: int = ENTRANTS) -> list[Entrant]:
    """People who have joined through all workers in turn."""
    entrants = [Entrant(drop) for _ in range(count)]
    for at, entrant in enumerate(entrants):
        await entrant.join(lab.workers[at % len(lab.workers)])
    assert [entrant.lot.entry_number for entrant in entrants] == list(range(count))
    return entrants


async def opened(lab: Lab, drop: Drop) -> None:
    await lab.parts.drops.steer(drop.drop_id, "open")


async def drawn(lab: Lab, drop: Drop) -> None:
    """Returns once the draw is made, and Postgres knows it."""
    await lab.until(drop, lambda inspection: bool(inspection.snapshot.key))

    async def recorded() -> bool:
        return (await recorded_keys(lab, drop)) is not None

    await until(recorded)


async def recorded_keys(lab: Lab, drop: Drop) -> list[str] | None:
    """The keys of the lines, as Postgres has them."""
    found: list[str] | None
    ((found,),) = await lab.sql(
        "SELECT (SELECT array_agg(l ->> 'key') FROM jsonb_array_elements(drawn -> 'lines') l) FROM draws WHERE drop_id = $1", drop.drop_id
    )
    return found


async def lots_of(lab: Lab, drop: Drop, entrants: Sequence[Entrant]) -> list[int | None]:
    """What each works out from the document of each worker: they all say the same, and no two have one number."""
    known: list[list[int | None]] = []
    for worker in lab.workers:

        async def shows_the_key(worker: LabProcess = worker) -> bool:
            return bool((await ask(worker, "GET", f"/v1/drops/{drop.drop_id}/serving")).json()["key"])

        await until(shows_the_key)
        document = (await ask(worker, "GET", f"/v1/drops/{drop.drop_id}/serving")).json()
        known.append([entrant.lot.drawn_by(document) for entrant in entrants])
    assert all(numbers == known[0] for numbers in known)
    assert len(set(known[0])) == len(entrants)
    return known[0]


async def faults_of(lab: Lab, drop: Drop, entrants: Sequence[Entrant]) -> list[str]:
    """What does not follow: from secret, entries and commitment, in Postgres, for anybody."""
    view = (await ask(lab.workers[0], "GET", f"/v1/drops/{drop.drop_id}")).json()
    lots = {
        entrant.ticket["ticket_id"]: (entrant.lot.entry_number, entrant.lot.queue_number)
        for entrant in entrants
        if entrant.lot.entry_number is not None and entrant.lot.queue_number is not None
    }
    assert lots
    records = await read_draw_records(lab.parts.drops, lab.parts.database, (await lab.inspect(drop)).snapshot, lots)
    assert records is not None
    return draw_faults(records, view["commitment"], lots)


def step(lab: Lab, drop: Drop, word: str) -> Pattern:
    """Calls of the draw's script for one of its steps."""
    called = lab.script("draw", drop_keys(drop.drop_id).drop)

    def matches(message: Message) -> bool:
        return called(message) and any(word.encode() in part for part in message.words)

    return matches


@contextmanager
def between_close_and_reveal(lab: Lab, drop: Drop) -> Iterator[list[Hold]]:
    """Every worker stops when it is about to reveal the draw of entries that are closed."""
    reveals = step(lab, drop, "reveal")
    first, second = lab.workers
    with holding([first.store], Side.REQUESTS, reveals) as one, holding([second.store], Side.REQUESTS, reveals) as other:
        yield [one, other]


async def all_reached(holds: Sequence[Hold]) -> None:
    for hold in holds:
        await hold.reached()


async def test_a_worker_killed_while_it_draws_leaves_the_draw_to_the_other(lab: Lab) -> None:
    drop = await drop_to_draw(lab)
    entrants = await entrants_of(lab, drop)
    with holding([worker.store for worker in lab.workers], Side.REQUESTS, step(lab, drop, "close")) as hold:
        await opened(lab, drop)
        worker = lab.owner((await hold.reached()).proxy)
        await worker.kill()
    await drawn(lab, drop)
    await worker.start()
    await lots_of(lab, drop, entrants)
    assert await faults_of(lab, drop, entrants) == []
    await lab.retire(drop)


async def test_all_workers_killed_between_close_and_reveal_the_next_one_draws_from_the_same_root(lab: Lab) -> None:
    drop = await drop_to_draw(lab)
    entrants = await entrants_of(lab, drop)
    with between_close_and_reveal(lab, drop) as holds:
        await opened(lab, drop)
        await all_reached(holds)
        before = (await lab.inspect(drop)).snapshot
        for worker in lab.workers:
            await worker.kill()
    assert before.lines[0].root
    assert not before.key
    assert before.serving_number == 0, "nobody is called before the draw"
    for worker in lab.workers:
        await worker.start()
    await drawn(lab, drop)
    assert (await lab.inspect(drop)).snapshot.lines[0].root == before.lines[0].root
    await lots_of(lab, drop, entrants)
    assert await faults_of(lab, drop, entrants) == []
    await lab.retire(drop)


async def test_a_store_restarted_between_close_and_reveal_keeps_the_root(lab: Lab) -> None:
    drop = await drop_to_draw(lab)
    entrants = await entrants_of(lab, drop)
    with between_close_and_reveal(lab, drop) as holds:
        await opened(lab, drop)
        await all_reached(holds)
        root = (await lab.inspect(drop)).snapshot.lines[0].root
        await lab.crash_valkey()
    await lab.stores.valkey.start()
    await drawn(lab, drop)
    assert (await lab.inspect(drop)).snapshot.lines[0].root == root
    await lots_of(lab, drop, entrants)
    assert await faults_of(lab, drop, entrants) == []
    await lab.retire(drop)


async def test_a_draw_made_while_no_reconciler_runs_reaches_postgres_afterwards(lab: Lab) -> None:
    drop = await drop_to_draw(lab)
    entrants = await entrants_of(lab, drop)
    for reconciler in lab.reconcilers:
        await reconciler.kill()
    await opened(lab, drop)
    await lab.until(drop, lambda inspection: bool(inspection.snapshot.key))
    assert await recorded_keys(lab, drop) is None
    for reconciler in lab.reconcilers:
        await reconciler.start()
    await drawn(lab, drop)
    assert await recorded_keys(lab, drop) == [(await lab.inspect(drop)).snapshot.key]
    await lots_of(lab, drop, entrants)
    assert await faults_of(lab, drop, entrants) == []
    await lab.retire(drop)


async def test_a_recovery_after_the_draw_gives_everybody_the_same_queue_number(lab: Lab) -> None:
    drop = await drop_to_draw(lab)
    entrants = await entrants_of(lab, drop)
    await opened(lab, drop)
    await drawn(lab, drop)
    before, key = await lots_of(lab, drop, entrants), (await lab.inspect(drop)).snapshot.key
    await empty_store(lab)
    await recovered(lab, drop)
    late = Entrant(drop)
    await late.join(lab.workers[0])
    assert late.lot.entry_number is None
    for entrant in reversed(entrants):
        await entrant.join(lab.workers[0])
    assert [entrant.lot.entry_number for entrant in entrants] == list(range(ENTRANTS))
    assert await lots_of(lab, drop, entrants) == before
    assert (await lab.inspect(drop)).snapshot.key == key
    assert await faults_of(lab, drop, entrants) == []
    await all_let_in(lab, [*entrants, late])
    await lab.retire(drop)


async def all_let_in(lab: Lab, entrants: Sequence[Entrant]) -> None:
    """Returns when everybody has an admission token."""
    for at, entrant in enumerate(entrants):
        worker = lab.workers[at % len(lab.workers)]

        async def let_in(entrant: Entrant = entrant, worker: LabProcess = worker) -> bool:
            return await entrant.is_let_in(worker)

        await until(let_in)


@pytest.mark.parametrize("when", ["before the opening", "after the draw"])
async def test_a_recovery_before_the_draw_gives_entries_back_that_are_then_drawn(lab: Lab, when: str) -> None:
    drop = await drop_to_draw(lab)
    entrants = await entrants_of(lab, drop)
    await empty_store(lab)
    await recovered(lab, drop)
    if when == "after the draw":
        await opened(lab, drop)
        await drawn(lab, drop)
    for entrant in reversed(entrants):
        await entrant.join(lab.workers[0])
    assert [entrant.lot.entry_number for entrant in entrants] == list(range(ENTRANTS))
    if when == "before the opening":
        await opened(lab, drop)
        await drawn(lab, drop)
    await lots_of(lab, drop, entrants)
    assert await faults_of(lab, drop, entrants) == []
    await all_let_in(lab, entrants)
    await lab.retire(drop)


async def test_an_entry_that_nobody_remembers_at_the_draw_goes_behind_those_that_were_drawn(lab: Lab) -> None:
    drop = await drop_to_draw(lab)
    with unrecorded(lab):
        entrants = await entrants_of(lab, drop, 30)
        await empty_store(lab)
    await recovered(lab, drop)
    await opened(lab, drop)
    await drawn(lab, drop)
    entries = (await lab.inspect(drop)).snapshot.entries
    assert entries is not None
    assert entries < len(entrants), "the recovery must not have known of all of them"
    for entrant in entrants:
        await entrant.join(lab.workers[0])
    await all_let_in(lab, entrants[-3:] + entrants[:3])
    await lab.retire(drop)


@pytest.mark.faults
async def test_a_crowd_whose_store_is_lost_after_the_draw_is_served_by_the_same_lots(lab: Lab) -> None:
    scenario = Scenario(300, 70, 17, opens_in_s=2.0, deadline_s=60.0, pace=Pace(reservation_ttl_ms=6_000), order="draw")
    losses: list[Window] = []
    keys: list[str] = []

    async def disturb(drop: Drop) -> None:
        await drawn(lab, drop)
        keys.append((await lab.inspect(drop)).snapshot.key)
        await selling_from(lab, drop, 20)
        began_ms = time.time_ns() // 1_000_000
        await empty_store(lab)
        await recovered(lab, drop)
        losses.append(Window(began_ms, time.time_ns() // 1_000_000))

    played = await lab.rehearse(scenario, disturb, losses=losses)
    require_sound(played)
    snapshot = (await lab.inspect(played.drop)).snapshot
    assert [snapshot.key] == keys
    told = msgspec.json.decode((lab.folder / f"{played.drop.drop_id}.crowd.json").read_bytes(), type=Crowd)
    assert len(told.lots) > 20
    records = await read_draw_records(lab.parts.drops, lab.parts.database, snapshot, told.lots)
    assert records is not None
    assert draw_faults(records, told.commitment, told.lots) == []
    await lab.retire(played.drop)
