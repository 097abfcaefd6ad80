"""The same shoppers for Locust: its web page, its statistics, its ways to ramp up and to spread over processes.

    LOADTEST_DROP=sneaker-x LOADTEST_STOREFRONT_KEY_FILE=key.txt \
        locust -f loadtest/locustfile.py --host http://127.0.0.1:8080 --users 200 --spawn-rate 50

Every Locust user plays one shopper after another until the drop is over. LOADTEST_SEED chooses the crowd; without a
storefront key everybody pays through the test provider. The leaner `loadtest.swarm` reaches larger crowds on one core.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import gevent
from locust import FastHttpUser, constant, events, task
from locust.exception import StopUser

from loadtest.draw import Lot
from loadtest.payment import confirm_request, test_payment_request
from loadtest.shopper import Habits, Intent, Items, Plan, Ware, plan_shopper, poll_after_s, position, settle_for

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
ATTEMPTS_MAX = 60
VISIT_ATTEMPTS_MAX = 600
RETRIES_MAX = 20
CONFIRMED_OR_TOO_LATE = {200, 202, 410}


def _check_host(environment: Any, **_: Any) -> None:
    """Load is only ever sent to this machine."""
    host = environment.host or ""
    if host and urlsplit(host).hostname not in LOOPBACK:
        raise SystemExit(f"{host} is not a loopback address; these shoppers only visit this machine")


events.init.add_listener(_check_host)  # type: ignore[no-untyped-call]


class Shopper(FastHttpUser):
    """Plays one plan after another."""

    wait_time = constant(0.1)
    network_timeout = 10.0
    connection_timeout = 10.0
    numbers: ClassVar[Any] = itertools.count()
    drop_id: ClassVar[str] = os.environ.get("LOADTEST_DROP", "")
    key_file: ClassVar[str] = os.environ.get("LOADTEST_STOREFRONT_KEY_FILE", "")
    seed: ClassVar[int] = int(os.environ.get("LOADTEST_SEED", "1"))

    def on_start(self) -> None:
        """Reads what is on sale."""
        if not self.drop_id:
            raise SystemExit("set LOADTEST_DROP to the id of the drop")
        self.key = Path(self.key_file).read_text(encoding="utf-8").strip() if self.key_file else ""
        self.path = f"/v1/drops/{self.drop_id}"
        drop = self.ask("drop", "GET", self.path, expected={200}).json()
        self.wares = [Ware(sku["sku"], sku["limit_per_shopper"]) for sku in sorted(drop["skus"], key=lambda sku: str(sku["sku"]))]
        self.limit = drop["limit_per_shopper"]
        self.draws = drop["order"] == "draw"

    @task
    def visit(self) -> None:
        """One shopper, from joining to leaving."""
        habits = Habits() if self.key else Habits(webhook=1.0)
        plan = plan_shopper(self.seed, next(self.numbers), self.wares, self.limit, habits)
        lot = self.join(plan)
        if plan.joins_twice and self.join(plan).entry_number != lot.entry_number:
            raise AssertionError("the same secret got two places")
        if plan.no_show:
            return
        self.wait_to_be_served(plan, lot)
        bearer = self.admitted(plan)
        if bearer is None:
            return
        gevent.sleep(plan.choosing_s)
        if plan.forged_token:
            self.reserve({"Authorization": "Bearer made.up.token"}, plan.wanted, f"forged-{plan.number}", expected={401})
        if (reservation := self.take(plan, bearer)) is not None:
            self.finish(plan, bearer, reservation)

    def join(self, plan: Plan) -> Lot:
        """The shopper's place."""
        answer = self.ask("join", "POST", self.path + "/tickets", body={"secret_hash": plan.secret_hash}, expected={200, 201, 409})
        if answer.status_code == 409:
            self.stop_when_over(answer.json().get("code"))
            gevent.sleep(1)
            return self.join(plan)
        ticket = answer.json()
        self.ticket_id = ticket["ticket_id"]
        return Lot(ticket, draws=self.draws)

    def look(self) -> dict[str, Any]:
        """The serving document."""
        document: dict[str, Any] = self.ask("serving", "GET", self.path + "/serving", expected={200}).json()
        if document["sold_out"] or document["state"] == "closed":
            self.stop_when_over("sold_out")
        return document

    def wait_to_be_served(self, plan: Plan, lot: Lot) -> None:
        """Polls as the document asks."""
        for poll in range(VISIT_ATTEMPTS_MAX):
            document = self.look()
            number = lot.drawn_by(document)
            if document["state"] == "open" and number is not None and position(number, document) < 0:
                return
            gevent.sleep(poll_after_s(number, document, (plan.joins_at + poll * 0.618) % 1))

    def admitted(self, plan: Plan) -> dict[str, str] | None:
        """The header with the admission token; None when it could not be had."""
        credentials = {"Authorization": f"Ticket {self.ticket_id}.{plan.secret}"}
        for _ in range(ATTEMPTS_MAX):
            answer = self.ask("admission", "POST", self.path + "/admissions", headers=credentials, expected={200, 409})
            if answer.status_code == 200:
                return {"Authorization": f"Bearer {answer.json()['admission_token']}"}
            problem = answer.json()
            self.stop_when_over(problem.get("code"))
            gevent.sleep(problem.get("poll_after_ms", 1000) / 1000)
        return None

    def take(self, plan: Plan, bearer: Mapping[str, str]) -> dict[str, Any] | None:
        """A reservation; None for those who give up."""
        wanted = plan.wanted
        for attempt in range(ATTEMPTS_MAX):
            answer = self.reserve(bearer, wanted, f"{plan.secret[:12]}-{attempt}", expected={200, 201, 409})
            if answer.status_code != 409:
                reservation: dict[str, Any] = answer.json()
                return reservation
            if answer.json().get("code") != "sold_out" or plan.impatient:
                return None
            while not (instead := settle_for(wanted, (document := self.look())["available"])):
                gevent.sleep(poll_after_s(0, document, plan.joins_at))
            wanted = instead
        return None

    def reserve(self, bearer: Mapping[str, str], items: Items, key: str, expected: set[int]) -> Any:
        """One attempt to reserve, under one key."""
        body = {"items": [{"sku": sku, "quantity": quantity} for sku, quantity in items]}
        headers = {**bearer, "Idempotency-Key": key}
        return self.ask("reserve", "POST", self.path + "/reservations", headers=headers, body=body, expected=expected)

    def finish(self, plan: Plan, bearer: Mapping[str, str], reservation: Mapping[str, Any]) -> None:
        """Pays, gives back, or does nothing."""
        if plan.over_limit:
            items = ((self.wares[0].sku, self.limit),)
            self.reserve(bearer, items, f"{plan.secret[:12]}-more", expected={200, 201, 409})
        gevent.sleep(plan.paying_s)
        match plan.intent:
            case Intent.HOLD | Intent.PAY_LATE:
                return
            case Intent.RELEASE:
                path = f"/v1/reservations/{reservation['reservation_id']}"
                self.ask("release", "DELETE", path, headers=bearer, expected={200, 410})
            case Intent.PAY_BY_WEBHOOK:
                self.ask("webhook", "POST", **test_payment_request(reservation), expected={201})
            case Intent.PAY:
                self.ask("confirm", "POST", **confirm_request(self.key, reservation), expected=CONFIRMED_OR_TOO_LATE)

    def stop_when_over(self, code: object) -> None:
        """Ends this user when the drop is."""
        if code in {"sold_out", "closed"}:
            raise StopUser

    def ask(
        self,
        name: str,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: object = None,
        expected: set[int],
    ) -> Any:
        """An answer, repeated while it is lost or asks for patience; counted as failed when it is not `expected`."""
        for _ in range(RETRIES_MAX):
            with self.client.request(method, path, name=name, headers=dict(headers or {}), json=body, catch_response=True) as answer:
                if answer.status_code in expected:
                    answer.success()
                    return answer
                answer.failure(f"answered {answer.status_code}")
            if answer.status_code not in (0, 429, 503):
                raise StopUser
            gevent.sleep(0.5)
        raise StopUser
