"""A draw as the world sees it over HTTP: committed to before, revealed after, and provable for everybody who was in it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from admission.draw import commitment_of
from admission.fairness import EntryProof, FairnessDocument, Verdict, proof_wanted, receipt_keys, verify
from admission.invites import InviteCodes
from admission.log import verify_head
from admission.receipts import ReceiptVerifier
from flashsale.cli.compose import read_signing_keys
from flashsale.keys import drop_keys
from flashsale.model import Group
from tests.integration.http_client import Buyer, Service, in_own_task, make_drop, running_service, with_signing_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from redis.asyncio import Redis

    from flashsale.connections.database import Database
    from flashsale.settings import Settings

DROP = "sneaker-x"
FAIRNESS = f"/v1/drops/{DROP}/fairness"
LATER_MS = 1_800_000


@pytest.fixture
def own_settings(settings: Settings, tmp_path: Path) -> Settings:
    return with_signing_keys(settings, tmp_path)


@pytest.fixture
async def service(own_settings: Settings, store: Redis, database: Database) -> AsyncIterator[Service]:
    async with in_own_task(own_settings, database) as running:
        yield running


@pytest.fixture
def codes(own_settings: Settings) -> InviteCodes:
    return InviteCodes(read_signing_keys(own_settings.tokens.signing_keys_file))


class Entrant(Buyer):
    """A shopper who keeps the receipt."""

    receipt = ""

    async def enter_draw(self, **shown: str) -> Any:
        """Joins; what the service answered."""
        answer = await self.join(**shown)
        assert answer.status in {200, 201}, answer.body
        self.receipt = answer.json["receipt"]
        return answer.json

    async def verify(self, service: Service | None = None, commitment: str | None = None) -> Verdict:
        """As `flashsale verify-draw` does it, with what a worker shows in public."""
        service = service or self.service
        document = await document_of(service)
        keys = receipt_keys((await service.get("/.well-known/jwks.json")).body)
        wanted = proof_wanted(ReceiptVerifier(keys).read(self.receipt), document)
        proof = None
        if wanted is not None and document.secret is not None:
            group, number = wanted
            answer = await service.get(f"{FAIRNESS}/proofs/{number}", params={"group": group} if group else {})
            assert answer.status == 200, answer.body
            proof = msgspec.json.decode(answer.body, type=EntryProof)
        return verify(self.receipt, document, proof, keys, commitment)

    async def queue_number(self) -> int:
        """As the service says it."""
        return int((await self.service.get(f"/v1/tickets/{self.ticket_id}")).json["queue_number"])


async def document_of(service: Service) -> FairnessDocument:
    return msgspec.json.decode((await service.get(FAIRNESS)).body, type=FairnessDocument)


async def open_drop(service: Service, **rules: Any) -> None:
    """A drop that draws, slowly served, and opened by `start`."""
    usual: dict[str, Any] = {"order": "draw", "opens_in_ms": LATER_MS, "capacity": 1, "rate_per_min": 1}
    await service.open_drop(make_drop(**(usual | rules)))


async def entrants(service: Service, count: int, **shown: str) -> list[Entrant]:
    """So many shoppers who have joined, one after the other."""
    everybody = [Entrant(service, DROP) for _ in range(count)]
    for entrant in everybody:
        await entrant.enter_draw(**shown)
    return everybody


async def start(service: Service) -> None:
    """Opens the drop, and waits until its draw has been made and shown."""
    await service.services.drop_store.steer(DROP, "open")
    await until_drawn(service)


async def until_drawn(service: Service) -> None:
    await until_shown(service, lambda document: document.secret is not None)


async def until_shown(service: Service, found: Callable[[FairnessDocument], bool]) -> FairnessDocument:
    """The first document of which `found` is true; each may be a second old."""
    async with asyncio.timeout(10):
        while not found(document := await document_of(service)):  # noqa: ASYNC110 - documents are polled
            await asyncio.sleep(0.05)
    return document


async def test_it_is_committed_to_before_and_shown_after(service: Service, store: Redis) -> None:
    await open_drop(service)
    shown = (await service.get(f"/v1/drops/{DROP}")).json["commitment"]
    await entrants(service, 5)
    before = await service.get(FAIRNESS)
    told = before.json
    secret: Any = await store.hget(drop_keys(DROP).drop, "draw_secret")
    assert before.headers["Cache-Control"] == "public, max-age=1"
    assert (told["order"], told["commitment"], told["secret"], told["beacon"], told["drawn_at_ms"]) == ("draw", shown, None, None, None)
    assert told["lines"] == [{"group": "", "entries": None, "root": None, "key": None}]
    assert secret not in before.body
    await start(service)
    after = await document_of(service)
    assert after.commitment == shown
    assert after.secret == secret.decode()
    assert commitment_of(bytes.fromhex(secret.decode())) == shown
    assert (after.lines[0].entries, after.beacon and after.beacon.kind) == (5, "none")
    assert after.lines[0].root
    assert after.lines[0].key
    assert after.drawn_at_ms
    assert (await service.get(f"/v1/drops/{DROP}/serving")).json["key"] == after.lines[0].key


async def test_everybody_can_verify_their_place(service: Service) -> None:
    await open_drop(service)
    everybody = await entrants(service, 12)
    [commitment] = {(await document_of(service)).commitment}
    early = await everybody[0].verify()
    assert (early.passed, early.steps[-1].name) == (False, "commitment"), "nothing is drawn yet"
    await start(service)
    late = Entrant(service, DROP)
    await late.enter_draw()
    verdicts = [await one.verify(commitment=commitment) for one in everybody]
    assert all(verdict.passed for verdict in verdicts), verdicts
    numbers = [verdict.queue_number for verdict in verdicts]
    assert sorted(number for number in numbers if number is not None) == list(range(12))
    assert numbers == [await one.queue_number() for one in everybody]
    behind = await late.verify()
    assert (behind.passed, behind.queue_number) == (True, 12)
    assert "joined after the opening" in behind.steps[-1].sentence


async def test_each_group_is_drawn_by_itself(service: Service, codes: InviteCodes) -> None:
    await open_drop(service, invites="accepted", groups=(Group("vip", "Members", 200),))
    everybody = await entrants(service, 9)
    [code] = codes.make_codes(DROP, 1, uses_max=9, line=1)
    members = await entrants(service, 4, code=code)
    await start(service)
    document = await document_of(service)
    assert [(line.group, line.entries) for line in document.lines] == [("", 9), ("vip", 4)]
    assert len({line.root for line in document.lines}) == len({line.key for line in document.lines}) == 2
    for line, people in (("", everybody), ("vip", members)):
        verdicts = [await one.verify() for one in people]
        assert all(verdict.passed for verdict in verdicts), (line, verdicts)
        assert sorted(verdict.queue_number or 0 for verdict in verdicts) == list(range(len(people)))
        assert [verdict.queue_number for verdict in verdicts] == [await one.queue_number() for one in people]
    assert (await service.get(f"{FAIRNESS}/proofs/4", params={"group": "vip"})).code == "not_found"
    assert (await service.get(f"{FAIRNESS}/proofs/4")).json["group"] == ""


async def test_a_second_device_verifies_the_place_it_was_given(service: Service) -> None:
    await open_drop(service)
    phone, laptop, other, late = (Entrant(service, DROP) for _ in range(4))
    await phone.enter_draw()
    await other.enter_draw()
    code = (await service.post(f"/v1/tickets/{phone.ticket_id}/handoff", headers=phone.proof)).json["handoff"]
    assert (await laptop.enter_draw(handoff=code))["entry_number"] == 0
    await start(service)
    first, second = await phone.verify(), await laptop.verify()
    assert first.passed
    assert second.passed
    assert first.queue_number == second.queue_number == await laptop.queue_number()
    assert "the place your device shares" in next(step.sentence for step in second.steps if step.name == "proof")
    await late.enter_draw()
    assert (await late.verify()).queue_number == 2


async def test_there_are_no_proofs_of_what_was_not_drawn(service: Service) -> None:
    await open_drop(service)
    await entrants(service, 3)
    early = await service.get(f"{FAIRNESS}/proofs/0")
    assert (early.status, early.code, early.json["detail"]) == (409, "not_open", "The draw has not been made yet.")
    await start(service)
    assert (await service.get(f"{FAIRNESS}/proofs/2")).status == 200
    for path in ("proofs/3", "proofs/9999999999", "proofs/0?group=vip", "proofs/0?group=%00", "proofs/0?group=" + "x" * 500):
        answer = await service.get(f"{FAIRNESS}/{path}")
        assert (answer.status, answer.code) == (404, "not_found"), path
        assert "max-age" not in answer.headers["Cache-Control"]
    for number in ("-1", "1.0", "x", "+1", "%D9%A1", "1" * 11, "0x1", "1e3"):
        answer = await service.get(f"{FAIRNESS}/proofs/{number}")
        assert (answer.status, answer.code, answer.json["field"]) == (400, "bad_request", "entry_number"), number
    for path in ("", "/proofs/0"):
        assert (await service.get(f"/v1/drops/no-such-drop/fairness{path}")).code == "drop_not_found"


async def test_a_proof_never_changes_and_says_so(service: Service) -> None:
    await open_drop(service)
    await entrants(service, 3)
    await start(service)
    answers = [await service.get(f"{FAIRNESS}/proofs/1") for _ in range(2)]
    assert {answer.headers["Cache-Control"] for answer in answers} == {"public, max-age=31536000, immutable"}
    assert answers[0].body == answers[1].body
    assert (await service.get(FAIRNESS)).headers["Cache-Control"] == "public, max-age=1"


async def test_a_drop_by_arrival_has_a_document_too(service: Service) -> None:
    await open_drop(service, order="arrival")
    [first, second] = await entrants(service, 2)
    document = await document_of(service)
    assert (document.order, document.commitment, document.secret, document.drawn_at_ms) == ("arrival", None, None, None)
    assert document.log is not None
    answer = await service.get(f"{FAIRNESS}/proofs/0")
    assert (answer.status, answer.code) == (404, "not_found")
    assert "goes by arrival" in answer.json["detail"]
    for place, entrant in enumerate((first, second)):
        verdict = await entrant.verify()
        assert (verdict.passed, verdict.queue_number) == (True, place)


async def test_the_logs_head_grows_and_is_signed(service: Service) -> None:
    await open_drop(service, capacity=10, rate_per_min=600_000)
    everybody = await entrants(service, 3)
    keys = receipt_keys((await service.get("/.well-known/jwks.json")).body)
    before = await document_of(service)
    assert before.log is not None
    assert before.log.entries == 0
    verify_head(DROP, before.log, keys)
    await start(service)
    for entrant in everybody:
        await entrant.be_admitted()
    after = (await until_shown(service, lambda document: document.log is not None and document.log.entries > 0)).log
    assert after is not None
    assert after.head != before.log.head
    verify_head(DROP, after, keys)
    with pytest.raises(ValueError, match="log"):
        verify_head("another", after, keys)
    with pytest.raises(ValueError, match="log"):
        verify_head(DROP, msgspec.structs.replace(after, entries=after.entries + 1), keys)


async def test_workers_serve_the_same_and_one_started_later_proves_it(own_settings: Settings, store: Redis, database: Database) -> None:
    async with running_service(own_settings, database) as one, running_service(own_settings, database) as two:
        await open_drop(one)
        await two.until(lambda: two.services.inlet.get(DROP) is not None)
        people = await entrants(one, 5) + await entrants(two, 5)
        await start(one)
        await until_drawn(two)
        documents = [await document_of(worker) for worker in (one, two)]
        assert msgspec.structs.replace(documents[0], log=None) == msgspec.structs.replace(documents[1], log=None)
        proofs = [(await worker.get(f"{FAIRNESS}/proofs/7")).body for worker in (one, two)]
        assert proofs[0] == proofs[1]
    async with running_service(own_settings, database) as three:
        await three.until(lambda: three.services.inlet.get(DROP) is not None)
        assert (await three.get(f"{FAIRNESS}/proofs/7")).body == proofs[0]
        verdicts = [await entrant.verify(three) for entrant in people]
        assert all(verdict.passed for verdict in verdicts), verdicts


async def test_entries_that_a_loss_has_swallowed_are_not_proven_wrongly(own_settings: Settings, store: Redis, database: Database) -> None:
    async with running_service(own_settings, database) as before:
        await open_drop(before)
        await entrants(before, 2)
        await start(before)
        assert (await before.get(f"{FAIRNESS}/proofs/0")).status == 200
        await store.delete(drop_keys(DROP).entries)
        assert (await before.get(f"{FAIRNESS}/proofs/0")).status == 200, "it has read them already"
    async with running_service(own_settings, database) as after:
        await after.until(lambda: after.services.inlet.get(DROP) is not None)
        for _ in range(2):
            answer = await after.get(f"{FAIRNESS}/proofs/0")
            assert (answer.status, answer.code) == (404, "not_found")
            assert "were lost with the store" in answer.json["detail"]


async def test_the_page_that_checks_a_draw_comes_from_the_service(service: Service) -> None:
    page = await service.get("/verify-draw")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert "'unsafe-inline'" not in policy
    for kind in ("script", "style"):
        [inline] = re.findall(rf"<{kind}(?: [^>]*)?>(.*?)</{kind}>", page.body.decode(), re.DOTALL)
        known = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{kind}-src 'self' 'sha256-{known}'" in policy
    assert b'from "/assets/verify-draw.js"' in page.body
    asset = await service.get("/assets/verify-draw.js")
    assert (asset.status, asset.headers["Content-Type"]) == (200, "text/javascript; charset=utf-8")
    assert (await service.get("/assets/verify-draw.js", headers={"If-None-Match": asset.headers["ETag"]})).status == 304
    assert (await service.get("/assets/verify-draw.html")).code == "not_found"
