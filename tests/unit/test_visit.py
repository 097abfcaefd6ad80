"""A shopper's visit to a service that breaks its word: what a demo counts must be written down."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadtest.asking import Asker
from loadtest.client import Pool
from loadtest.diary import Diary
from loadtest.payment import Payments
from loadtest.shopper import Habits, Intent, Plan, Ware, plan_shopper
from loadtest.visit import Sale, Visit

HOUR_MS = 3_600_000
WARES = (Ware("a", 2),)
CALM = Habits(
    late=0, joins_twice=0, no_show=0, impatient=0, lost_answer=0, over_limit=0, forged_token=0, hold=0, release=0, pay_late=0, webhook=0
)
PLAN = replace(plan_shopper(1, 0, WARES, 2, CALM), choosing_s=0.0, paying_s=0.0)


class Service:
    """Lets everybody in at once, gives everybody a reservation, and then refuses as it is told."""

    def __init__(self, time_left_ms: int, refusal: tuple[int, str], epoch: int = 1) -> None:
        self._time_left_ms, self._refusal, self._epoch = time_left_ms, refusal, epoch

    async def answer(self, request: web.Request) -> web.Response:
        what = request.path.rpartition("/")[2]
        if request.method == "DELETE" or what == "confirm":
            status, code = self._refusal
            return web.json_response({"code": code}, status=status)
        answers: dict[str, dict[str, Any]] = {
            "serving": {"state": "open", "epoch": self._epoch, "sold_out": False, "serving_number": 1, "key": ""},
            "tickets": {"ticket_id": "d.t1", "receipt": "h.eyJlcG9jaCI6MX0.s", "queue_number": 0, "entry_number": None},
            "admissions": {"admission_token": "token"},
            "reservations": {
                "reservation_id": "d.r1",
                "items": [{"sku": sku, "quantity": quantity} for sku, quantity in PLAN.wanted],
                "amount_minor": 100,
                "expires_at_ms": int(time.time() * 1000) + self._time_left_ms,
            },
        }
        return web.json_response(answers[what], status=201 if what in {"tickets", "reservations"} else 200)


async def visited(service: Service, plan: Plan) -> Diary:
    app, diary = web.Application(), Diary()
    app.router.add_route("*", "/{path:.*}", service.answer)
    async with TestServer(app) as server:
        pool = Pool(f"http://127.0.0.1:{server.port}")
        asker = Asker(pool, diary, time.monotonic() + 60)
        sale = Sale("d", WARES, opens_at=0, starts_at=0, late_span_s=0)
        await Visit(plan, sale, asker, Payments(asker, diary, "key"), diary).run()
        pool.close()
    return diary


@pytest.mark.parametrize(
    ("intent", "refusal", "ending"),
    [
        (Intent.PAY, (410, "reservation_expired"), "payment_refused"),
        (Intent.PAY, (409, "payment_conflict"), "payment_refused"),
        (Intent.RELEASE, (410, "reservation_expired"), "released_too_late"),
    ],
)
async def test_to_end_a_reservation_before_its_time_breaks_a_promise(intent: Intent, refusal: tuple[int, str], ending: str) -> None:
    plan = replace(PLAN, intent=intent)
    in_time = await visited(Service(HOUR_MS, refusal), plan)
    assert (dict(in_time.endings), in_time.broken) == ({ending: 1}, 1)
    too_late = await visited(Service(-1, refusal), plan)
    assert (dict(too_late.endings), too_late.broken) == ({ending: 1}, 0)


async def test_after_a_loss_it_may_have_been_ended_with_the_rest() -> None:
    diary = await visited(Service(HOUR_MS, (410, "reservation_expired"), epoch=2), replace(PLAN, intent=Intent.PAY))
    assert (dict(diary.endings), diary.broken) == ({"payment_refused": 1}, 0)
