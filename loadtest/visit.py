"""One shopper's visit to one drop, from arriving to leaving."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from loadtest.asking import Asker, TimeUp, code_of
from loadtest.client import Answer
from loadtest.diary import Diary
from loadtest.draw import Lot
from loadtest.history import Call, Kind
from loadtest.payment import NOT_FOUND, Payments
from loadtest.shopper import Intent, Items, Plan, Ware, epoch_of, poll_after_s, position, reservation_id_of, settle_for

ATTEMPTS_MAX = 60
"""reservations one shopper tries, refused ones included"""
MORE = 1000
"""the attempt under whose key a shopper asks for more than the limit"""
LOSE_AFTER_MAX_S = 0.05
RESTORES_MAX = 6
"""times one shopper shows receipts, of the place and of a reservation; a drop is not lost more often while somebody visits it"""
FIRST_EPOCH = 1
"""a drop of a later epoch has been recovered after a loss"""
LATE_BY_S = 0.5
"""after the expiry, a late payer pays"""
FORGED_TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJtZSJ9.bm90LWEtc2lnbmF0dXJl"  # noqa: S105 - made up on purpose


@dataclass(frozen=True, slots=True)
class Sale:
    """The drop as its public description tells."""

    drop_id: str
    wares: tuple[Ware, ...]
    opens_at: float
    """seconds since the epoch"""
    starts_at: float
    """when the first early shoppers come, seconds since the epoch"""
    late_span_s: float
    """the late ones come within this time after the opening"""
    draws: bool = False
    """whether the order of those who come early is drawn by lot"""

    @property
    def path(self) -> str:
        """Where the drop is."""
        return f"/v1/drops/{self.drop_id}"


class Leaves(Exception):
    """The visit is over; the argument says how it ended."""

    def __init__(self, ending: str) -> None:
        self.ending = ending
        super().__init__(ending)


class Visit:
    """Plays a plan. All it knows of the service is what the answers say."""

    def __init__(self, plan: Plan, sale: Sale, asker: Asker, payments: Payments, diary: Diary) -> None:
        self._plan = plan
        self._sale = sale
        self._asker = asker
        self._payments = payments
        self._diary = diary
        self._ticket_id = ""
        self._lot = Lot({}, draws=sale.draws)
        self._place_receipt = ""
        self._restores = 0
        self._polls = 0
        self._bearer: dict[str, str] = {}
        self._waited = False

    async def run(self) -> None:
        """The whole visit; never raises for anything the service does."""
        try:
            await self._shop()
        except Leaves as left:
            ending = left.ending
        except TimeUp:
            ending = "deadline"
            self._diary.left_empty_handed(self._plan.wanted, _now_ms())
        else:
            ending = "done"
        self._diary.endings[ending] += 1

    async def _shop(self) -> None:
        await self._arrive()
        await self._join()
        if self._plan.no_show:
            await self._lose_interest()
        await self._wait_to_be_served()
        await self._get_admitted()
        await self._asker.rest(self._plan.choosing_s)
        if self._plan.forged_token:
            await self._try_forged_token()
        reservation, items = await self._reserve()
        if self._plan.over_limit:
            await self._try_over_limit(reservation, items)
        if self._plan.extends:
            reservation = await self._ask_for_more_time(reservation)
        await self._finish(reservation)

    # ------------------------------------------------------------------------------------------------------- the line

    async def _arrive(self) -> None:
        sale, share = self._sale, self._plan.joins_at
        at = sale.opens_at + share * sale.late_span_s if self._plan.late else sale.starts_at + share * (sale.opens_at - sale.starts_at)
        await self._asker.rest(max(0.0, at - time.time()))

    async def _join(self) -> None:
        ticket = await self._ask_for_place()
        if self._plan.joins_twice:
            first, ticket = ticket, await self._ask_for_place(str(ticket["receipt"]))
            if not _same_place(first, ticket) and not await self._was_recovered():
                self._diary.promise_broken(f"the same secret got two places: {first} {ticket}")
        self._take_place(ticket)
        self._diary.joined[self._plan.number] = self._ticket_id

    def _take_place(self, ticket: Mapping[str, Any]) -> None:
        self._ticket_id, self._place_receipt = str(ticket["ticket_id"]), str(ticket["receipt"])
        self._lot = Lot(ticket, draws=self._sale.draws)

    async def _join_again(self) -> None:
        """The service has forgotten this place."""
        await self._show_receipt()
        await self._wait_to_be_served()

    async def _show_receipt(self) -> None:
        """It gives the place back if the service has forgotten it, or another one when somebody has it."""
        self._count_restore()
        self._take_place(await self._ask_for_place(self._place_receipt))
        self._diary.restored["place"] += 1

    def _count_restore(self) -> None:
        self._restores += 1
        if self._restores > RESTORES_MAX:
            raise Leaves("forgotten_again_and_again")

    async def _was_recovered(self) -> bool:
        """Whether the service has lost data since the drop was made, so that what it told before need not hold."""
        answer = await self._asker.ask("serving", "GET", self._sale.path + "/serving")
        return answer.status == 200 and int(answer.json()["epoch"]) > FIRST_EPOCH

    async def _ask_for_place(self, receipt: str = "") -> dict[str, Any]:
        body, call = {"secret_hash": self._plan.secret_hash}, self._call(Kind.JOIN)
        if receipt:
            body["receipt"] = receipt
        while True:
            answer = await self._asker.ask("join", "POST", self._sale.path + "/tickets", body=body, call=call)
            if answer.status in (200, 201):
                ticket: dict[str, Any] = answer.json()
                return ticket
            if code_of(answer) != "not_open":
                self._refused("join", answer)
            await self._asker.rest(1.0)

    async def _look(self) -> dict[str, Any]:
        """The serving document. Leaves when there is nothing left to wait for."""
        answer = await self._asker.ask("serving", "GET", self._sale.path + "/serving")
        if answer.status != 200:
            self._refused("serving", answer)
        document: dict[str, Any] = answer.json()
        if document["sold_out"]:
            self._leave_empty_handed()
        if document["state"] == "closed":
            raise Leaves("closed")
        return document

    async def _poll(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """The next serving document, after the pause the present one asks for."""
        self._polls += 1
        await self._asker.rest(poll_after_s(self._lot.drawn_by(document), document, self._roll()))
        return await self._look()

    def _roll(self) -> float:
        """Spreads this shopper's polls evenly: multiples of the golden section, started at its own place."""
        return (self._plan.joins_at + self._polls * 0.6180339887) % 1.0

    async def _lose_interest(self) -> NoReturn:
        document = await self._look()
        for _ in range(self._plan.polls_before_leaving):
            document = await self._poll(document)
        raise Leaves("no_show")

    async def _wait_to_be_served(self) -> None:
        document = await self._look()
        while document["state"] != "open" or not self._served(document):
            if document["epoch"] > epoch_of(self._place_receipt):
                # The line that is served now may end before this number, and then it would never be called.
                await self._show_receipt()
            document = await self._poll(document)
        entry, number = self._lot.entry_number, self._lot.queue_number
        if self._sale.draws and entry is not None and number is not None:
            self._diary.drew(self._ticket_id, entry, number)
        if self._plan.joins_twice:
            await self._look_up(document)

    def _served(self, document: Mapping[str, Any]) -> bool:
        number = self._lot.drawn_by(document)
        return number is not None and position(number, document) < 0

    async def _look_up(self, document: Mapping[str, Any]) -> None:
        """What the service says of the place has to be what follows from the published draw."""
        answer = await self._asker.ask("ticket", "GET", f"/v1/tickets/{self._ticket_id}")
        told, number = answer.json().get("queue_number"), self._lot.drawn_by(document)
        if answer.status == 200 and told not in (None, number) and not await self._was_recovered():
            self._diary.promise_broken(f"queue number {number} follows from the draw, and the service says {told}")

    async def _get_admitted(self) -> None:
        credentials = {"Authorization": f"Ticket {self._ticket_id}.{self._plan.secret}"}
        while True:
            answer = await self._asker.ask(
                "admission", "POST", self._sale.path + "/admissions", headers=credentials, call=self._call(Kind.ADMIT)
            )
            if answer.status == 200:
                self._bearer = {"Authorization": f"Bearer {answer.json()['admission_token']}"}
                self._diary.admitted.add(self._plan.number)
                return
            if code_of(answer) == "ticket_invalid":
                await self._join_again()
                continue
            if code_of(answer) not in ("not_yet", "paused"):
                self._refused("admission", answer)
            await self._asker.rest(answer.json().get("poll_after_ms", 1000) / 1000 * (0.7 + 0.6 * self._roll()))
            self._polls += 1
            await self._look()

    # -------------------------------------------------------------------------------------------------------- the shop

    async def _reserve(self) -> tuple[dict[str, Any], Items]:
        """An acknowledged reservation and what is in it."""
        wanted, attempt = self._plan.wanted, 0
        while (answer := await self._take(wanted, attempt)).status not in (200, 201):
            attempt += 1
            code = code_of(answer) if attempt < ATTEMPTS_MAX else "too many attempts"
            match code:
                case "sold_out":
                    wanted = await self._units_may_return(wanted)
                case "token_expired" | "token_invalid":
                    await self._get_admitted()
                case "paused":
                    await self._poll(await self._look())
                case _:
                    self._refused("reserve", answer)
        return self._note_reservation(answer, wanted), wanted

    async def _take(self, items: Items, attempt: int) -> Answer:
        """One attempt, under a key of its own, repeated under that key until it is answered."""
        plan, key = self._plan, f"{self._plan.number}-{attempt}"
        return await self._asker.ask(
            "reserve",
            "POST",
            self._sale.path + "/reservations",
            headers={**self._bearer, "Idempotency-Key": key},
            body={"items": [{"sku": sku, "quantity": quantity} for sku, quantity in items]},
            lose_after_s=LOSE_AFTER_MAX_S * plan.joins_at if plan.lost_answer and attempt == 0 else None,
            call=self._call(Kind.RESERVE, key=key, items=items, reservation_id=reservation_id_of(self._ticket_id, key)),
        )

    def _note_reservation(self, answer: Answer, items: Items) -> dict[str, Any]:
        reservation: dict[str, Any] = answer.json()
        units = sum(quantity for _, quantity in items)
        got = sorted((item["sku"], item["quantity"]) for item in reservation["items"])
        if got != list(items):
            self._diary.promise_broken(f"asked for {items}, got {got}")
        self._diary.reservations[str(reservation["reservation_id"])] = units
        return reservation

    async def _units_may_return(self, wanted: Items) -> Items:
        """What this shopper takes next: what is left now, or, for the patient, what is available later."""
        document = await self._look()
        while not (instead := settle_for(wanted, document["available"])):
            if self._plan.impatient:
                self._leave_empty_handed()
            self._waited = True
            document = await self._poll(document)
        return instead

    async def _try_forged_token(self) -> None:
        key, sku = f"forged-{self._plan.number}", self._sale.wares[0].sku
        answer = await self._asker.ask(
            "reserve_forged",
            "POST",
            self._sale.path + "/reservations",
            headers={"Authorization": f"Bearer {FORGED_TOKEN}", "Idempotency-Key": key},
            body={"items": [{"sku": sku, "quantity": 1}]},
            call=Call(Kind.RESERVE, str(self._plan.number), self._sale.drop_id, key, ((sku, 1),)),
        )
        if answer.status != 401:
            self._diary.promise_broken(f"a forged admission token was answered {answer.status} {code_of(answer)}")

    async def _try_over_limit(self, reservation: Mapping[str, Any], items: Items) -> None:
        sku = items[0][0]
        limit = next(ware.limit for ware in self._sale.wares if ware.sku == sku)
        answer = await self._take(((sku, limit),), MORE)
        if answer.status in (200, 201):
            self._note_reservation(answer, ((sku, limit),))
            if _now_ms() < reservation["expires_at_ms"] and not await self._was_recovered():
                self._diary.promise_broken(f"reserved {limit} of {sku} on top of {items}, over the limit")

    async def _finish(self, reservation: Mapping[str, Any]) -> NoReturn:
        intent, reservation_id = self._intent(), str(reservation["reservation_id"])
        if intent is Intent.HOLD:
            raise Leaves("held_and_left")
        if intent is Intent.PAY_LATE:
            await self._asker.rest(max(0.0, (reservation["expires_at_ms"] - _now_ms()) / 1000) + LATE_BY_S)
        else:
            await self._asker.rest(self._plan.paying_s)
        if intent is Intent.RELEASE:
            await self._give_back(reservation)
        pay = self._payments.by_webhook if intent is Intent.PAY_BY_WEBHOOK else self._payments.confirm
        while (paid := await pay(reservation)).unknown:
            reservation = await self._restored(reservation)
        if paid.acknowledged:
            self._diary.confirmed[reservation_id] = paid.status
            await self._trouble_the_shop(reservation)
            raise Leaves("paid_late" if intent is Intent.PAY_LATE else "paid")
        self._diary.payments_refused[f"{paid.status} {paid.code}"] += 1
        await self._require_over(reservation, f"its payment was refused: {paid.status} {paid.code}")
        raise Leaves("payment_refused")

    async def _ask_for_more_time(self, reservation: dict[str, Any]) -> dict[str, Any]:
        """The reservation, with more time where the drop gives it."""
        reservation_id, key = str(reservation["reservation_id"]), f"extend-{self._plan.number}"
        call = self._call(Kind.EXTEND, key=key, reservation_id=reservation_id)
        headers = {**self._bearer, "Idempotency-Key": key}
        path = f"/v1/reservations/{reservation_id}/extend"
        while (answer := await self._asker.ask("extend", "POST", path, headers=headers, call=call)).status == NOT_FOUND:
            reservation = await self._restored(reservation)
        return {**reservation, **answer.json()} if answer.status == 200 else reservation

    async def _restored(self, reservation: Mapping[str, Any]) -> dict[str, Any]:
        """A reservation that the service has forgotten, brought back by its receipt. Leaves when it cannot be."""
        self._count_restore()
        reservation_id = str(reservation["reservation_id"])
        call = self._call(Kind.RESTORE, reservation_id=reservation_id)
        body = {"receipt": reservation["receipt"]}
        answer = await self._asker.ask("restore", "POST", f"/v1/reservations/{reservation_id}/restore", body=body, call=call)
        if answer.status != 200:
            raise Leaves(f"forgotten {code_of(answer)}")
        self._diary.restored["reservation"] += 1
        return {**reservation, **answer.json()}

    async def _trouble_the_shop(self, reservation: Mapping[str, Any]) -> None:
        if self._plan.pays_twice and self._payments.can_confirm:
            await self._payments.again(reservation)
        if self._plan.regrets and self._payments.can_confirm:
            await self._payments.take_back(reservation)

    def _intent(self) -> Intent:
        """What was planned; but whoever waited for a unit to come back wants it, and pays at once."""
        unsure = self._plan.intent in (Intent.HOLD, Intent.PAY_LATE, Intent.RELEASE)
        return Intent.PAY if self._waited and unsure and self._payments.can_confirm else self._plan.intent

    async def _give_back(self, reservation: Mapping[str, Any]) -> NoReturn:
        reservation_id = str(reservation["reservation_id"])
        call = self._call(Kind.RELEASE, reservation_id=reservation_id)
        answer = await self._asker.ask("release", "DELETE", f"/v1/reservations/{reservation_id}", headers=self._bearer, call=call)
        if answer.status == NOT_FOUND:
            raise Leaves("forgotten_and_left")
        if code_of(answer) == "reservation_expired":
            await self._require_over(reservation, "it could not be given back")
            raise Leaves("released_too_late")
        if answer.status != 200:
            self._refused("release", answer)
        self._diary.released.add(reservation_id)
        raise Leaves("released")

    async def _require_over(self, reservation: Mapping[str, Any], what: str) -> None:
        """Only what has expired may be refused, and the shopper was told when that is."""
        if _now_ms() < reservation["expires_at_ms"] and not await self._was_recovered():
            self._diary.promise_broken(f"{reservation['reservation_id']} had time until {reservation['expires_at_ms']}, and {what}")

    def _call(self, kind: Kind, *, key: str = "", items: Items = (), reservation_id: str = "") -> Call:
        """What is about to be asked, for the history."""
        plan, sale = self._plan, self._sale
        return Call(kind, str(plan.number), sale.drop_id, key, items, ticket_id=self._ticket_id, reservation_id=reservation_id)

    # --------------------------------------------------------------------------------------------------------- leaving

    def _refused(self, operation: str, answer: Answer) -> NoReturn:
        code = code_of(answer)
        if code == "sold_out":
            self._leave_empty_handed()
        raise Leaves("closed" if code == "closed" else f"{operation}_refused {answer.status} {code}".strip())

    def _leave_empty_handed(self) -> NoReturn:
        self._diary.left_empty_handed(self._plan.wanted, _now_ms())
        raise Leaves("sold_out")


def _same_place(first: Mapping[str, Any], again: Mapping[str, Any]) -> bool:
    """Whether two answers to one secret tell of one place; the later may tell a queue number that was not drawn before."""
    names = first.keys() & again.keys() & {"ticket_id", "entry_number", "queue_number"}
    return "ticket_id" in names and len(names) > 1 and all(first[name] == again[name] for name in names)


def _now_ms() -> int:
    return int(time.time() * 1000)
