"""Recovery of drops that are drawn and have groups: everybody keeps the place their receipt names, and nobody gets another's."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from admission.draw import Draw
from admission.invites import InviteCodes
from admission.merkle import leaf_hash, merkle_levels
from admission.tokens import b64decode
from flashsale.cli.compose import read_signing_keys
from flashsale.cli.target import opened
from flashsale.keys import drop_keys
from flashsale.model import Group, LeaveOutcome, line_of, number_of, secret_hash_of
from reconciler.lines import read_draw
from tests.integration.http_client import make_drop, running_service, with_signing_keys
from tests.integration.recovery_stage import Stage, new_parts, watch_of
from tests.integration.test_http_fairness import DROP, Entrant, document_of, entrants, open_drop, start, until_drawn, until_shown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from admission.fairness import FairnessDocument
    from flashsale.cli.target import Parts
    from flashsale.connections.database import Database
    from flashsale.settings import Settings
    from tests.integration.http_client import Service

KEYS = drop_keys(DROP)
VIP = (Group("vip", "Members", 200),)
NOBODY = bytes(32)
"""the leaf of an entry that nobody remembered"""
FAST: dict[str, Any] = {"capacity": 1_000, "rate_per_min": 600_000}


@dataclass(frozen=True, slots=True)
class Site:
    """An installation whose workers come and go, and whose store is lost."""

    settings: Settings
    database: Database
    parts: Parts
    codes: InviteCodes

    def worker(self) -> AbstractAsyncContextManager[Service]:
        """One that has seen nothing yet."""
        return running_service(self.settings, self.database)

    @property
    def stage(self) -> Stage:
        """The drop from the inside, for a process that has seen nothing yet."""
        return Stage(new_parts(self.parts), make_drop(DROP))

    async def recorded(self) -> None:
        """Postgres knows the drop as it is now."""
        await watch_of(self.parts).look()
        await self.stage.drain()

    async def lose_everything(self, service: Service) -> None:
        """The store is empty, and then what Postgres knows is back."""
        await self.recorded()
        await self.parts.store.flushall()
        await self.recover(service)

    async def recover(self, service: Service) -> None:
        """The drop is put together again, and the worker has seen it."""
        recovered = await self.stage.recover()
        assert recovered is not None
        await service.until(lambda: _serves(service, recovered.epoch))

    async def fence(self) -> None:
        """Somebody has found that the store cannot be believed."""
        await new_parts(self.parts).drops.fence(DROP, 1, "drift")

    async def members(self, service: Service, count: int) -> list[Entrant]:
        """So many shoppers with a code for the line of the group."""
        [code] = self.codes.make_codes(DROP, 1, uses_max=count, line=1)
        return await entrants(service, count, code=code)


def _serves(service: Service, epoch: int) -> bool:
    found = service.services.inlet.get(DROP)
    return found is not None and not found.recovering and found.snapshot.epoch == epoch


@pytest.fixture
async def site(settings: Settings, store: object, database: Database, tmp_path: Path) -> AsyncIterator[Site]:
    settings = with_signing_keys(settings, tmp_path)
    async with opened(settings) as parts:
        yield Site(settings, database, parts, InviteCodes(read_signing_keys(settings.tokens.signing_keys_file)))


async def come_back(people: Iterable[Entrant], service: Service) -> list[dict[str, Any]]:
    """Each shows the receipt; the places as they were answered, one for each."""
    places = []
    for one in people:
        one.service = service
        places.append(place_of(await one.enter_draw(receipt=one.receipt)))
    return places


def place_of(answer: dict[str, Any]) -> dict[str, Any]:
    """What says where somebody is in the line."""
    return {name: answer.get(name) for name in ("ticket_id", "group", "entry_number", "queue_number")}


async def places_of(people: Iterable[Entrant]) -> list[dict[str, Any]]:
    """The same for those who are there."""
    return [place_of((await one.service.get(f"/v1/tickets/{one.ticket_id}")).json) for one in people]


async def hand_over(giver: Entrant, service: Service) -> Entrant:
    """A second device with the giver's place."""
    laptop = Entrant(service, DROP)
    answer = await service.post(f"/v1/tickets/{giver.ticket_id}/handoff", headers=giver.proof)
    await laptop.enter_draw(handoff=answer.json["handoff"])
    return laptop


def root_of(hashes: Sequence[bytes]) -> str:
    """Of the tree over the entries, hex."""
    return (merkle_levels([leaf_hash(one) for one in hashes])[-1][0] if hashes else hashlib.sha256(b"").digest()).hex()


def drawn(document: FairnessDocument) -> FairnessDocument:
    """What can never change again."""
    return msgspec.structs.replace(document, log=None, epoch=0)


async def require_all_verify(people: Iterable[Entrant], service: Service) -> list[int]:
    """Every receipt proves the queue number that its shopper is served by; the numbers."""
    numbers = []
    for one in people:
        verdict = await one.verify(service)
        assert verdict.passed, verdict.steps[-1]
        assert verdict.queue_number is not None
        assert verdict.queue_number == (await one.service.get(f"/v1/tickets/{one.ticket_id}")).json["queue_number"]
        numbers.append(verdict.queue_number)
    return numbers


# ----------------------------------------------------------------------------------------------------- lost after the draw


async def test_after_the_draw_everybody_has_their_old_place_back_and_can_prove_it(site: Site) -> None:
    async with site.worker() as service:
        await open_drop(service, invites="accepted", groups=VIP)
        everybody, members = await entrants(service, 9), await site.members(service, 5)
        await start(service)
        late = await entrants(service, 2)
        people = [*everybody, *members, *late]
        before, document = await places_of(people), drawn(await document_of(service))
        receipts = [one.receipt for one in people]

        await site.lose_everything(service)

        assert drawn(await document_of(service)) == document
        stranger = Entrant(service, DROP)
        await stranger.enter_draw()
        assert list(reversed(await come_back(reversed(people), service))) == before
        assert len({(place["group"], place["entry_number"], place["queue_number"]) for place in before}) == len(people)
        await require_all_verify(people, service)
        for one, receipt in zip(people, receipts, strict=True):
            one.receipt = receipt
        await require_all_verify(people, service)
        assert (await places_of([stranger]))[0]["queue_number"] > 10, "nobody new comes before those who were there"


async def test_a_receipt_twice_and_another_ones_receipt_give_nobody_a_second_place(site: Site) -> None:
    async with site.worker() as service:
        await open_drop(service)
        ann, bob = await entrants(service, 2)
        await start(service)
        before = await places_of([ann, bob])
        await site.lose_everything(service)
        assert await come_back([ann, ann], service) == [before[0]] * 2
        thief = Entrant(service, DROP)
        assert (await thief.join(receipt=bob.receipt)).code == "receipt_invalid"
        assert await come_back([bob], service) == [before[1]]


@pytest.mark.parametrize("when", ["before the draw", "after the draw"])
@pytest.mark.parametrize("first", ["phone", "laptop"])
async def test_two_devices_with_one_place_have_it_together_again(site: Site, first: str, when: str) -> None:
    async with site.worker() as service:
        await open_drop(service)
        other, phone = await entrants(service, 2)
        laptop = await hand_over(phone, service)
        if when == "after the draw":
            await start(service)
        [before] = await places_of([laptop])
        await site.lose_everything(service)
        await come_back([other, *([phone, laptop] if first == "phone" else [laptop, phone])], service)
        for device in (phone, laptop):
            [now] = await places_of([device])
            assert now["entry_number"] == before["entry_number"] == 1
            assert now["queue_number"] == before["queue_number"]
        if when == "before the draw":
            await start(service)
        assert (await document_of(service)).lines[0].root is not None
        await require_all_verify([other, phone, laptop], service)


async def test_a_ticket_made_anew_from_an_order_is_the_place_its_owner_joined_with(site: Site) -> None:
    async with site.worker() as service:
        await open_drop(service, invites="accepted", groups=VIP, **FAST)
        everybody, members = await entrants(service, 8), await site.members(service, 4)
        buyers = [everybody[2], everybody[6], members[1]]
        laptop = await hand_over(everybody[6], service)
        buyers[1] = laptop
        await start(service)
        for buyer in buyers:
            await buyer.be_admitted()
            assert (await buyer.reserve()).status == 201
        before, document = await places_of([*everybody, *members]), drawn(await document_of(service))

        await site.lose_everything(service)

        assert drawn(await document_of(service)) == document
        tickets = [everybody[2].ticket_id, everybody[6].ticket_id, members[1].ticket_id]
        inspection = await new_parts(site.parts).drops.inspect(DROP, tickets=tuple(tickets))
        made_anew = [ticket and (line_of(ticket.number), number_of(ticket.number), ticket.live) for ticket in inspection.tickets]
        assert made_anew == [(0, 2, 1), (0, 6, 1), (1, 1, 1)], "from the orders alone"
        shop = await document_of(service)
        for ticket, line in zip(inspection.tickets, (0, 0, 1), strict=True):
            assert ticket is not None
            told = shop.lines[line]
            lot = Draw(bytes.fromhex(told.key or ""), told.entries or 0).queue_number(number_of(ticket.number))
            assert number_of(ticket.number if ticket.turn < 0 else ticket.turn) == lot
        [shared] = await come_back([laptop], service)
        assert shared["entry_number"] == 6
        assert await come_back([*everybody, *members], service) == before
        for buyer in buyers:
            await buyer.be_admitted()
            assert (await buyer.reserve()).status == 200, "what was reserved is the same reservation"
        await require_all_verify([*everybody, *members, laptop], service)


# ------------------------------------------------------------------------------------------------- lost before the opening


async def test_before_the_opening_those_who_came_back_are_drawn_with_their_numbers(site: Site) -> None:
    async with site.worker() as service:
        await open_drop(service, invites="accepted", groups=VIP)
        everybody, members = await entrants(service, 6), await site.members(service, 3)
        await site.lose_everything(service)
        back = [everybody[5], everybody[0], everybody[3], members[2]]
        away = [everybody[1], members[0]]
        places = await come_back(back, service)
        assert [(place["group"], place["entry_number"]) for place in places] == [("", 5), ("", 0), ("", 3), ("vip", 2)]
        newcomer = Entrant(service, DROP)
        joined = await newcomer.enter_draw()
        await start(service)

        lines = (await document_of(service)).lines
        hashes: list[list[bytes]] = [[NOBODY] * (line.entries or 0) for line in lines]
        for one, line, number in [(everybody[5], 0, 5), (everybody[0], 0, 0), (everybody[3], 0, 3), (members[2], 1, 2),
                                  (newcomer, 0, joined["entry_number"])]:  # fmt: skip
            hashes[line][number] = b64decode(secret_hash_of(one.secret))
        assert joined["entry_number"] >= 6
        assert [line.root for line in lines] == [root_of(of_line) for of_line in hashes]
        assert len(hashes[1]) >= 3
        await require_all_verify([*back, newcomer], service)

        # Whoever comes only now is drawn with the others, and cannot prove whose entry it was.
        assert [place["entry_number"] for place in await come_back(away, service)] == [1, 0]
        for one in away:
            verdict = await one.verify(service)
            assert (verdict.passed, verdict.steps[-1].name) == (False, "proof")
            assert "had lost your entry" in verdict.steps[-1].sentence
        numbers = [place["queue_number"] for place in await places_of([*everybody[:2], everybody[3], everybody[5], newcomer])]
        assert len(set(numbers)) == len(numbers)


# ---------------------------------------------------------------------------------------------- the store went back in time


async def test_the_draw_that_postgres_has_recorded_counts(site: Site) -> None:
    async with site.worker() as service:
        await open_drop(service, invites="accepted", groups=VIP)
        everybody, members = await entrants(service, 6), await site.members(service, 3)
        older = await site.stage.copy()
        everybody += await entrants(service, 2)
        await start(service)
        before, document = await places_of([*everybody, *members]), drawn(await document_of(service))
        await site.recorded()

        await site.stage.put_back(older)
        assert await watch_of(site.parts).look() == {DROP}
        await site.recover(service)

        await until_drawn(service)
        assert drawn(await document_of(service)) == document
        assert await come_back([*everybody, *members], service) == before
        await require_all_verify([*everybody, *members], service)


async def test_another_draw_of_a_store_that_went_back_does_not_count(site: Site) -> None:
    """Nobody was left who had seen the first draw; the store made another one, from more entries, before it was noticed."""
    async with site.worker() as service:
        await open_drop(service, **FAST)
        everybody = await entrants(service, 4)
        older = await site.stage.copy()
        await start(service)
        before, document = await places_of(everybody), drawn(await document_of(service))
        await site.recorded()
    await site.stage.put_back(older)
    async with site.worker() as service:
        await service.until(lambda: service.services.inlet.get(DROP) is not None)
        more = await entrants(service, 3)
        await start(service)
        other = drawn(await document_of(service))
        assert [line.entries for line in other.lines] == [7]
        await site.recorded()
        await site.fence()
        await site.recover(service)

        await until_shown(service, lambda shown: drawn(shown) == document)
        recorded = read_draw(await site.database.fetchrow("draw_get", DROP))
        assert recorded is not None
        assert recorded.drawn is not None
        assert recorded.drawn.lines[0].key == document.lines[0].key
        assert await come_back(everybody, service) == before
        # They were in no draw that counts: behind it, in the order they came, and served.
        await come_back(more, service)
        assert [place["queue_number"] for place in await places_of(more)] == [4, 5, 6]
        for one in [*everybody, *more]:
            await one.be_admitted()


async def test_a_groups_place_that_somebody_has_is_not_restored_to_another(site: Site) -> None:
    """A group's numbers are low while everybody's are high: they must not be compared with each other."""
    async with site.worker() as service:
        await open_drop(service, invites="accepted", groups=VIP)
        await entrants(service, 12)
        older = await site.stage.copy()
        [lost] = await site.members(service, 1)
    await site.stage.put_back(older)
    async with site.worker() as service:
        await service.until(lambda: service.services.inlet.get(DROP) is not None)
        [kept] = await site.members(service, 1)
        [has] = await places_of([kept])
        assert (has["group"], has["entry_number"]) == ("vip", 0)
        await site.fence()
        await site.recover(service)
        [came] = await come_back([lost], service)
        assert (came["group"], came["entry_number"]) == ("vip", 1), "the number is another's now"
        assert await come_back([kept], service) == [has]
        await start(service)
        [first, second] = await require_all_verify([kept, lost], service)
        assert first != second


# ------------------------------------------------------------------------------------------------------ what the store kept


@pytest.mark.parametrize("when", ["before the draw", "after the draw"])
async def test_codes_and_places_given_up_stay_as_they_were_where_the_store_kept_them(site: Site, when: str) -> None:
    async with site.worker() as service:
        await open_drop(service, invites="accepted", groups=VIP, **FAST | {"rate_per_min": 1})
        everybody = await entrants(service, 6)
        left, removed, phone = everybody[1], everybody[3], everybody[4]
        [code] = site.codes.make_codes(DROP, 1, uses_max=1, line=1)
        [member] = await entrants(service, 1, code=code)
        laptop = await hand_over(phone, service)
        if when == "after the draw":
            await start(service)
        assert (await service.request("DELETE", f"/v1/tickets/{left.ticket_id}", headers=left.proof)).status in {200, 204}
        live = service.services.inlet.get(DROP)
        assert live is not None
        assert await service.services.waiting_room.remove(DROP, removed.ticket_id, "", live.draws) is LeaveOutcome.REMOVED
        await site.recorded()
        await site.fence()
        await site.recover(service)

        async def refusal(one: Entrant) -> str:
            return (await one.join(receipt=one.receipt)).code

        assert [await refusal(one) for one in (left, removed, phone)] == ["left", "removed", "moved"]
        assert (await Entrant(service, DROP).join(code=code)).code == "code_used"
        [shared, own] = await come_back([laptop, member], service)
        assert (shared["entry_number"], own["entry_number"]) == (4, 0)
        if when == "before the draw":
            await start(service)
        await service.services.drop_store.steer(DROP, "rate_per_min", 600_000)
        for one in (everybody[0], everybody[2], laptop, everybody[5], member):
            await one.be_admitted()
        inside = (await site.parts.drops.inspect(DROP)).snapshot
        assert inside.admitted == 5
        assert inside.flow.called == 5, "who gave up is called by nobody"
