"""Who may have a place, over HTTP: identities, invite codes, groups, handoff, leaving and removing."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey

from admission.draw import Draw
from admission.handoff import HANDOFF_TTL_MS
from admission.invites import InviteCodes
from admission.receipts import ReceiptVerifier
from flashsale.access import Scope, create_key
from flashsale.cli.compose import read_signing_keys
from flashsale.identity import identity_digest
from flashsale.keys import drop_keys
from flashsale.model import Group, secret_hash_of, ticket_id_of
from tests.integration.http_client import Answer, Buyer, Service, dump_of, in_own_task, make_drop, with_settings, with_signing_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from flashsale.connections.database import Database
    from flashsale.settings import Settings

DROP = "sneaker-x"
ISSUER, AUDIENCE = "https://shop.example", "waiting-room"
GROUPS = (Group("vip", "Members", 200), Group("press", "Press", 50))
KEY = OKPKey.generate_key("Ed25519", parameters={"kid": "shop"})


class Door:
    """A worker, and what opens its doors."""

    def __init__(self, service: Service, settings: Settings, merchant_key: str) -> None:
        self.service = service
        self.codes = InviteCodes(read_signing_keys(settings.tokens.signing_keys_file))
        self.merchant_key = merchant_key

    async def open_drop(self, **rules: Any) -> None:
        await self.service.open_drop(make_drop(**rules))

    def buyer(self, drop_id: str = DROP) -> Buyer:
        return Buyer(self.service, drop_id)

    def identity(self, subject: str, **claims: Any) -> str:
        now_s = self.service.services.clock.now_ms() // 1000
        usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "exp": now_s + 600}
        return jwt.encode({"alg": "Ed25519", "kid": "shop"}, usual | claims, KEY, algorithms=["Ed25519"])

    async def remove(self, ticket_id: str, why: str = "forty places of one person", drop_id: str = DROP) -> Answer:
        path = f"/v1/merchant/drops/{drop_id}/tickets/{ticket_id}/remove"
        return await self.service.as_storefront(path, {"why": why}, key=self.merchant_key)

    async def place(self, ticket_id: str) -> Any:
        return (await self.service.get(f"/v1/tickets/{ticket_id}")).json


@pytest.fixture
async def door(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> AsyncIterator[Door]:
    keys = tmp_path / "shop-keys.json"
    keys.write_bytes(msgspec.json.encode({"keys": [KEY.as_dict(private=False)]}))
    settings = with_signing_keys(settings, tmp_path)
    settings = with_settings(settings, identity={"keys_file": str(keys), "issuer": ISSUER, "audience": AUDIENCE})
    async with in_own_task(settings, database) as service:
        _, key = await create_key(database, [Scope.MERCHANT])
        await service.services.access.refresh()
        yield Door(service, settings, key)


# ------------------------------------------------------------------------------------------------------------- identities


async def test_one_person_has_one_place_in_whatever_browser(door: Door, store: Redis) -> None:
    await door.open_drop(opens_in_ms=60_000, identity="required")
    phone, laptop, somebody = door.buyer(), door.buyer(), door.buyer()
    first = await phone.join(identity=door.identity("customer-7"))
    again = await laptop.join(identity=door.identity("customer-7"))
    other = await somebody.join(identity=door.identity("customer-8"))
    assert (first.status, again.status, other.status) == (201, 200, 201)
    assert first.json["entry_number"] == again.json["entry_number"] != other.json["entry_number"]
    kept = await store.hgetall(drop_keys(DROP).identities)
    assert set(kept) == {identity_digest(DROP, ISSUER, name).encode() for name in ("customer-7", "customer-8")}
    assert not [key for key, value in (await dump_of(store)).items() if b"customer" in value]


async def test_many_at_once_with_one_identity_get_one_place(door: Door) -> None:
    """On so many devices: the first and twenty others."""
    await door.open_drop(opens_in_ms=60_000, identity="required")
    identity = door.identity("customer-7")
    answers = await asyncio.gather(*(door.buyer().join(identity=identity) for _ in range(30)))
    placed = [answer for answer in answers if answer.status != 409]
    assert sorted(answer.status for answer in placed) == [200] * 20 + [201]
    assert {answer.json["entry_number"] for answer in placed} == {0}
    assert {answer.json["code"] for answer in answers if answer.status == 409} == {"limit_reached"}


@pytest.mark.parametrize(
    ("claims", "status", "code"),
    [
        ({"aud": "elsewhere"}, 401, "identity_invalid"),
        ({"exp": 1}, 401, "identity_invalid"),
        ({"drop": "sneaker-y"}, 401, "identity_invalid"),
        ({"group": "vip"}, 401, "identity_invalid"),
        (None, 403, "identity_required"),
    ],
)
async def test_who_is_not_vouched_for_has_no_place(door: Door, store: Redis, claims: dict[str, Any] | None, status: int, code: str) -> None:
    await door.open_drop(opens_in_ms=60_000, identity="required")
    answer = await door.buyer().join(**({} if claims is None else {"identity": door.identity("customer-7", **claims)}))
    assert (answer.status, answer.code) == (status, code)
    assert not await store.exists(drop_keys(DROP).tickets)


# ----------------------------------------------------------------------------------------------------------- invite codes


async def test_a_code_lets_so_many_in_and_no_more(door: Door, store: Redis) -> None:
    await door.open_drop(opens_in_ms=60_000, invites="required")
    [code] = door.codes.make_codes(DROP, 1, uses_max=3)
    buyers = [door.buyer() for _ in range(8)]
    answers = await asyncio.gather(*(buyer.join(code=code.lower().replace("-", " ")) for buyer in buyers))
    assert sorted(answer.status for answer in answers) == [201] * 3 + [409] * 5
    assert {answer.code for answer in answers if answer.status == 409} == {"code_used"}
    let_in = next(buyer for buyer in buyers if buyer.ticket_id)
    assert (await let_in.join(code=code)).status == 200, "who has a place has it, however often the code was used"
    assert await store.hvals(drop_keys(DROP).codes) == [b"3"]


async def test_a_code_is_needed_and_of_this_drop(door: Door, store: Redis) -> None:
    await door.open_drop(opens_in_ms=60_000, invites="required")
    [good], [other] = door.codes.make_codes(DROP, 1), door.codes.make_codes("sneaker-y", 1)
    wrong = good[:-1] + ("A" if good[-1] != "A" else "B")
    assert (await door.buyer().join()).code == "code_required"
    assert [(await door.buyer().join(code=code)).code for code in (other, wrong, "x")] == ["code_invalid"] * 3
    [of_a_group] = door.codes.make_codes(DROP, 1, line=1)
    assert (await door.buyer().join(code=of_a_group)).code == "code_invalid", "the drop has no groups"
    assert not await store.exists(drop_keys(DROP).tickets, drop_keys(DROP).codes)


async def test_a_receipt_stands_for_the_code_it_was_had_with(door: Door) -> None:
    await door.open_drop(opens_in_ms=60_000, invites="required")
    [code] = door.codes.make_codes(DROP, 1)
    buyer = door.buyer()
    receipt = (await buyer.join(code=code)).json["receipt"]
    assert (await buyer.join(receipt=receipt)).status == 200


async def test_what_a_drop_does_not_take_is_refused_by_name(door: Door) -> None:
    await door.open_drop(opens_in_ms=60_000)
    [code] = door.codes.make_codes(DROP, 1)
    for shown in ({"identity": door.identity("customer-7")}, {"code": code}, {"challenge": "x"}):
        answer = await door.buyer().join(**shown)
        assert (answer.status, answer.code, answer.json["field"]) == (400, "bad_request", next(iter(shown)))


# ----------------------------------------------------------------------------------------------------------------- groups


async def test_codes_and_identities_lead_to_the_line_of_a_group(door: Door) -> None:
    await door.open_drop(opens_in_ms=60_000, invites="accepted", identity="accepted", groups=GROUPS)
    [press] = door.codes.make_codes(DROP, 1, line=2)
    answers = [
        await door.buyer().join(),
        await door.buyer().join(identity=door.identity("member", group="vip")),
        await door.buyer().join(code=press),
        await door.buyer().join(),
    ]
    assert [(answer.json["group"], answer.json["entry_number"]) for answer in answers] == [("", 0), ("vip", 0), ("press", 0), ("", 1)]
    verifier = ReceiptVerifier.of(read_signing_keys(door.service.services.settings.tokens.signing_keys_file))
    assert [verifier.read(answer.json["receipt"]).line for answer in answers] == [0, 1, 2, 0]
    shown = await door.place(answers[2].json["ticket_id"])
    assert (shown["group"], shown["entry_number"], shown["position"]) == ("press", 0, 0)


async def test_a_drop_says_what_joining_takes(door: Door) -> None:
    await door.open_drop(opens_in_ms=60_000, invites="accepted", identity="required", groups=GROUPS, order="draw")
    drop = (await door.service.get(f"/v1/drops/{DROP}")).json
    assert (drop["order"], drop["invites"], drop["identity"]) == ("draw", "accepted", "required")
    assert drop["groups"] == [{"group": "vip", "name": "Members", "share": 0.2}, {"group": "press", "name": "Press", "share": 0.05}]
    fairness = (await door.service.get(f"/v1/drops/{DROP}/fairness")).json
    assert len(drop["commitment"]) == 64
    assert drop["commitment"] == fairness["commitment"]


async def test_a_drop_by_arrival_has_nothing_to_commit_to(door: Door) -> None:
    await door.open_drop()
    drop = (await door.service.get(f"/v1/drops/{DROP}")).json
    assert (drop["order"], drop["commitment"], drop["groups"]) == ("arrival", None, [])


async def test_after_the_draw_a_ticket_has_its_queue_number(door: Door) -> None:
    await door.open_drop(opens_in_ms=60_000, order="draw", capacity=1, rate_per_min=1)
    buyers = [door.buyer() for _ in range(12)]
    for buyer in buyers:
        assert (await buyer.join()).status == 201
    before = await door.place(buyers[3].ticket_id)
    assert (before["entry_number"], "queue_number" in before) == (3, False)
    await door.service.services.drop_store.steer(DROP, "open")
    await door.service.until(lambda: door.service.services.inlet.get(DROP).draws[0] is not None)  # type: ignore[union-attr]
    document = (await door.service.get(f"/v1/drops/{DROP}/serving")).json
    draw = Draw(bytes.fromhex(document["key"]), 12)
    for entry, buyer in enumerate(buyers):
        place = await door.place(buyer.ticket_id)
        assert (place["entry_number"], place["queue_number"]) == (entry, draw.queue_number(entry))
        again = (await buyer.join()).json
        assert (again["entry_number"], again["queue_number"]) == (entry, draw.queue_number(entry))
    late = (await door.buyer().join()).json
    assert (late.get("entry_number"), late["queue_number"]) == (None, 12)


# ---------------------------------------------------------------------------------------------------------------- handoff


async def hand_over(buyer: Buyer) -> Answer:
    return await buyer.service.post(f"/v1/tickets/{buyer.ticket_id}/handoff", headers=buyer.proof)


async def test_a_place_goes_over_to_another_device_once(door: Door) -> None:
    await door.open_drop()
    phone, laptop, third = door.buyer(), door.buyer(), door.buyer()
    joined = await phone.join()
    code = await hand_over(phone)
    assert code.status == 200
    now_ms = door.service.services.inlet.get(DROP).snapshot.now_ms  # type: ignore[union-attr]
    assert 0 < code.json["expires_at_ms"] - now_ms <= HANDOFF_TTL_MS + 5_000
    taken = await laptop.join(handoff=code.json["handoff"])
    assert taken.status == 200
    assert taken.json["queue_number"] == joined.json["queue_number"]
    assert taken.json["ticket_id"] != joined.json["ticket_id"]
    assert (await laptop.join(handoff=code.json["handoff"])).status == 200, "a repeated join finds the same"
    refused = [await phone.join(), await phone.admit(), await hand_over(phone)]
    assert [(answer.status, answer.code) for answer in refused] == [(409, "moved")] * 3
    assert (await third.join(handoff=code.json["handoff"])).code == "handoff_used"
    assert (await hand_over(laptop)).code == "handoff_used"
    assert (await door.place(phone.ticket_id))["state"] == "moved"
    await laptop.be_admitted()
    assert (await laptop.reserve()).status == 201
    assert (await door.place(laptop.ticket_id))["state"] == "admitted"


async def test_a_code_works_where_joining_takes_an_invite(door: Door) -> None:
    await door.open_drop(invites="required")
    phone, laptop = door.buyer(), door.buyer()
    [invite] = door.codes.make_codes(DROP, 1)
    assert (await phone.join(code=invite)).status == 201
    code = (await hand_over(phone)).json["handoff"]
    assert (await laptop.join(handoff=code)).status == 200


async def test_what_is_no_handoff_code_moves_nothing(door: Door, store: Redis) -> None:
    await door.open_drop()
    phone = door.buyer()
    await phone.join()
    good = (await hand_over(phone)).json["handoff"]
    handoffs = door.service.services.handoffs
    ticket, now_ms = phone.ticket_id, door.service.services.clock.now_ms()
    nobody = f"{DROP}.t{'A' * 22}"
    bad = [good[:-2], good + "A", "x", handoffs.make(ticket, now_ms - 60_000), handoffs.make(nobody, now_ms + 60_000)]
    answers = [await door.buyer().join(handoff=code) for code in bad]
    assert [(answer.status, answer.code) for answer in answers] == [(403, "handoff_invalid")] * len(bad)
    assert (await phone.join()).status == 200
    assert await store.hlen(drop_keys(DROP).tickets) == 1


async def test_only_who_knows_the_secret_can_hand_over_or_leave(door: Door) -> None:
    await door.open_drop()
    victim, thief = door.buyer(), door.buyer()
    await victim.join()
    await thief.join()
    path = f"/v1/tickets/{victim.ticket_id}"
    for headers in ({}, {"Authorization": f"Ticket {victim.ticket_id}.{thief.secret}"}, thief.proof, {"Authorization": "Bearer x"}):
        for method, address in (("POST", f"{path}/handoff"), ("DELETE", path)):
            answer = await door.service.request(method, address, headers=headers)
            assert (answer.status, answer.code) == (401, "ticket_invalid")
    stranger = door.buyer()
    stranger.ticket_id = victim.ticket_id.replace(DROP, "no-such-drop")
    assert (await hand_over(stranger)).code == "ticket_not_found"
    assert (await victim.join()).status == 200


# ----------------------------------------------------------------------------------------------------- leaving, removing


async def leave(buyer: Buyer) -> Answer:
    return await buyer.service.request("DELETE", f"/v1/tickets/{buyer.ticket_id}", headers=buyer.proof)


async def test_who_leaves_has_left_and_may_come_again_with_another_secret(door: Door) -> None:
    await door.open_drop(identity="accepted")
    buyer, again = door.buyer(), door.buyer()
    identity = door.identity("customer-7")
    await buyer.join(identity=identity)
    for _ in range(2):
        answer = await leave(buyer)
        assert (answer.status, answer.json) == (200, {"ticket_id": buyer.ticket_id, "drop": DROP, "state": "left"})
    assert (await buyer.join(identity=identity)).code == "left"
    assert (await buyer.admit()).code == "left"
    assert (await hand_over(buyer)).code == "left"
    place = await door.place(buyer.ticket_id)
    assert (place["state"], place["eta"], place["chance"]) == ("left", None, None), "nothing is promised any more"
    assert (await again.join(identity=identity)).status == 201


async def test_who_holds_units_gives_them_back_first(door: Door) -> None:
    await door.open_drop()
    buyer = door.buyer()
    await buyer.enter()
    reservation = (await buyer.reserve()).json["id"]
    assert ((held := await leave(buyer)).status, held.code) == (409, "units_held")
    assert (await door.service.request("DELETE", f"/v1/reservations/{reservation}")).status == 200
    assert (await leave(buyer)).status == 200


async def test_a_ticket_nobody_joined_with_is_not_there_to_leave(door: Door) -> None:
    await door.open_drop()
    buyer = door.buyer()
    await buyer.join()
    stranger = Buyer(door.service, DROP, secret=secrets.token_urlsafe(24))
    stranger.ticket_id = ticket_id_of(DROP, secret_hash_of(stranger.secret))
    assert ((await leave(stranger)).code, (await hand_over(stranger)).code) == ("ticket_not_found", "ticket_not_found")


async def test_a_merchant_takes_a_place_away_for_good(door: Door) -> None:
    await door.open_drop(identity="accepted")
    buyer = door.buyer()
    identity = door.identity("forty-places")
    await buyer.join(identity=identity)
    for _ in range(2):
        answer = await door.remove(buyer.ticket_id)
        assert (answer.status, answer.json) == (200, {"ticket_id": buyer.ticket_id, "drop": DROP, "state": "removed"})
    refused = [await buyer.join(), await buyer.admit(), await door.buyer().join(identity=identity), await hand_over(buyer)]
    assert [(answer.status, answer.code) for answer in refused] == [(403, "removed")] * 4
    assert (await door.place(buyer.ticket_id))["state"] == "removed"


async def test_a_drawn_place_is_taken_away_where_it_stands(door: Door) -> None:
    await door.open_drop(opens_in_ms=60_000, order="draw", capacity=1, rate_per_min=1)
    buyers = [door.buyer() for _ in range(5)]
    for buyer in buyers:
        await buyer.join()
    await door.service.services.drop_store.steer(DROP, "open")
    await door.service.until(lambda: door.service.services.inlet.get(DROP).draws[0] is not None)  # type: ignore[union-attr]
    assert [(await door.remove(buyer.ticket_id)).status for buyer in buyers[:3]] == [200] * 3
    assert (await leave(buyers[3])).status == 200
    states = [(await door.place(buyer.ticket_id))["state"] for buyer in buyers]
    assert states == ["removed"] * 3 + ["left", "waiting"]


async def test_a_place_that_is_not_there_or_has_no_reason_is_not_removed(door: Door, store: Redis) -> None:
    await door.open_drop()
    buyer = door.buyer()
    await buyer.join()
    assert (await door.remove(f"{DROP}.t{'A' * 22}")).code == "ticket_not_found"
    assert (await door.remove(f"sneaker-y.t{'A' * 22}")).code == "ticket_not_found"
    assert (await door.remove("x")).code == "ticket_not_found"
    for why in ("", "   ", "x" * 81, "a\nb"):
        answer = await door.remove(buyer.ticket_id, why)
        assert (answer.status, answer.code, answer.json["field"]) == (400, "bad_request", "why")
    assert (await buyer.join()).status == 200
