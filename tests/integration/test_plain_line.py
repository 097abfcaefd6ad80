"""A shopper without JavaScript, over HTTP and real stores: from joining to the reservation, by forms and pages alone."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urljoin

import pytest
from redis.asyncio import Redis

from admission.inlet import LiveDrop
from admission.invites import InviteCodes
from admission.waiting_room import WaitingRoom
from flashsale.cli.compose import read_signing_keys
from flashsale.cli.recover import recovery_of
from flashsale.cli.target import opened
from flashsale.connections.database import Database
from flashsale.drops import DropStore
from flashsale.errors import Busy, StoreUnavailable, StoreUnknown
from flashsale.model import Sku, secret_hash_of, ticket_id_of
from flashsale.settings import Settings
from flashsale.web.line_cookies import COOKIE
from tests.integration.http_client import Answer, Buyer, Service, in_own_task, make_drop, with_settings, with_signing_keys

DROP = "sneaker-x"
LINE = f"/drops/{DROP}/line"
BACK = "https://shop.example/launch"


@pytest.fixture
def settings_in_use(settings: Settings, tmp_path: Path) -> Settings:
    return with_signing_keys(settings, tmp_path)


@pytest.fixture
async def service(settings_in_use: Settings, store: Redis, database: Database) -> AsyncIterator[Service]:
    async with in_own_task(settings_in_use, database) as running:
        yield running


@dataclass
class Reader:
    """A browser without JavaScript: it keeps cookies, follows redirects, and sends the forms it is shown."""

    service: Service
    address: str = LINE
    language: str = ""
    cookies: dict[str, str] = field(default_factory=dict)
    page: Answer | None = None

    @property
    def text(self) -> str:
        assert self.page is not None
        return re.sub(r"</?bdi>", "", unescape(self.page.body.decode()))

    @property
    def headline(self) -> str:
        found = re.search(r"<h1>(.*?)</h1>", self.text)
        assert found, self.text
        return found[1]

    @property
    def secret(self) -> str:
        return self.cookies[COOKIE].partition(".")[0]

    async def _ask(self, method: str, path: str, **options: Any) -> Answer:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        headers = {"Cookie": cookies, "Accept-Language": self.language, **options.pop("headers", {})}
        answer = await self.service.request(method, path, headers=headers, allow_redirects=False, **options)
        for cookie in answer.headers.getall("Set-Cookie", []):  # type: ignore[attr-defined]
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
            assert "HttpOnly" in cookie
            assert "SameSite=Lax" in cookie
            assert f"Path=/drops/{DROP}" in cookie
        return answer

    async def look(self, address: str = "") -> None:
        self.address = address or self.address
        self.page = await self._ask("GET", self.address)

    async def join(self) -> None:
        """Comes to the line and joins it."""
        await self.look()
        await self.send("join")

    async def send(self, step: str, fields: Mapping[str, str] | None = None, *, headers: Mapping[str, str] | None = None) -> None:
        """Sends the form of `step` that is on the page, with what the shopper fills in."""
        form = re.search(rf'<form method="post" action="([^"]+)" class="{step}">(.*?)</form>', self.text, re.DOTALL)
        assert form, f"there is no form to {step} on {self.text}"
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form[2]))
        for name in fields or {}:
            assert f'name="{name}"' in form[2]
        await self.post(urljoin(self.address, form[1]), {**hidden, **(fields or {})}, headers)

    async def post(self, address: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> None:
        own = {"Origin": self.service.url, "Sec-Fetch-Site": "same-origin"}
        self.page = await self._ask("POST", address, data=dict(form), headers=own if headers is None else dict(headers))
        if self.page.status == 303:
            await self.look(self.page.headers["Location"])

    @property
    def again(self) -> tuple[int, str]:
        """Seconds until the browser looks again, and where."""
        assert self.page is not None
        seconds, _, address = self.page.headers["Refresh"].partition("; url=")
        return int(seconds), address

    async def until(self, headline: str) -> None:
        """Looks again, as the page's Refresh header says to, until it says something else."""
        for _ in range(200):
            if self.headline == headline:
                return
            await self.look(self.again[1])
        raise AssertionError(self.text)


async def admitted(service: Service, **changes: Any) -> Reader:
    await service.open_drop(make_drop(**changes))
    reader = Reader(service)
    await reader.join()
    await reader.until("It is your turn")
    return reader


# ------------------------------------------------------------------------------------------------------- the whole way


async def test_from_joining_to_a_reservation_and_back_to_the_shop(service: Service) -> None:
    await service.open_drop(make_drop(return_urls=(BACK,)))
    reader = Reader(service, f"{LINE}?return={BACK}/a")
    await reader.look()
    assert reader.headline == "Join the line"
    await reader.send("join")
    assert set(reader.cookies) == {COOKIE}
    await reader.until("It is your turn")
    assert "Black 42" in reader.text
    assert "120.00 EUR" in reader.text
    token = re.search(rf'href="{BACK}/a#flashsale_token=([^"&]+)"', reader.text)
    assert token, reader.text
    assert service.services.tokens.read(token[1]) is not None

    await reader.send("reserve", {"units-black-42": "2", "units-white-42": "1"})
    assert reader.headline == "Reserved for you"
    assert "<li><span>2 units of Black 42</span></li>" in reader.text, "a line's parts are not set apart"
    assert "390.00 EUR" in reader.text
    assert re.search(r"(1 minute and 5\d seconds|2 minutes)", reader.text)
    reservation = re.search(rf'href="{BACK}/a#flashsale_token={re.escape(token[1])}&flashsale_reservation=([^"]+)"', reader.text)
    assert reservation, reader.text
    assert "To pay, go back" not in reader.text
    held = (await service.get(f"/v1/reservations/{reservation[1]}")).json
    assert (held["state"], held["amount_minor"]) == ("reserved", 39_000)

    await reader.send("release")
    assert "You gave your reservation back" in reader.text
    assert (await service.get(f"/v1/reservations/{reservation[1]}")).json["state"] == "released"
    await reader.send("reserve", {"units-black-42": "1"})
    assert reader.headline == "Reserved for you"
    stock = (await service.services.drop_store.inspect(DROP)).skus
    assert (stock["black-42"].reserved, stock["white-42"].reserved) == (1, 0)


async def test_a_reservation_says_where_to_pay_where_no_shop_is_known(service: Service) -> None:
    reader = await admitted(service)
    await reader.send("reserve", {"units-black-42": "1"})
    assert "To pay, go back to the shop" in reader.text
    assert re.search(r"Reservation <code>sneaker-x\.r", reader.text)


async def test_a_form_sent_twice_reserves_once(service: Service) -> None:
    reader = await admitted(service)
    shown = reader.page
    await reader.send("reserve", {"units-black-42": "1"})
    reader.page = shown
    await reader.send("reserve", {"units-black-42": "1"})
    assert reader.headline == "Reserved for you"
    assert (await service.services.drop_store.inspect(DROP)).skus["black-42"].reserved == 1


async def test_the_answer_that_was_lost_is_on_the_next_page(service: Service) -> None:
    reader = await admitted(service)
    before = dict(reader.cookies)
    await reader.send("reserve", {"units-black-42": "1"})
    reader.cookies = before
    await reader.look()
    assert reader.headline == "Reserved for you"


async def test_one_for_each_is_chosen_by_a_single_choice(service: Service) -> None:
    reader = await admitted(service, limit_per_shopper=1)
    assert reader.text.count('type="radio"') == 2
    await reader.post(LINE, {"step": "reserve", "sku": "white-42"})
    assert "1 unit of White 42" in reader.text


async def test_more_time_is_given_once_where_the_drop_allows_it(service: Service) -> None:
    reader = await admitted(service, extension_ms=60_000)
    await reader.send("reserve", {"units-black-42": "1"})
    shown = reader.page
    await reader.send("extend")
    assert "2 minutes and 5" in reader.text or "3 minutes" in reader.text
    assert "I need" not in reader.text
    reader.page = shown
    await reader.send("extend")
    assert reader.headline == "Reserved for you", "the same form again is the same extension"


async def test_what_is_paid_says_so(service: Service) -> None:
    reader = await admitted(service)
    await reader.send("reserve", {"units-black-42": "1"})
    found = re.search(r"<code>([^<]+)</code>", reader.text)
    assert found
    await service.services.reservations.confirm(found[1], "pay-1", 12_000, "r")
    await reader.look()
    assert reader.headline == "Paid. It is yours"


async def test_a_reservation_that_ran_out_is_told_and_another_may_be_made(service: Service) -> None:
    reader = await admitted(service, reservation_ttl_ms=300)
    await reader.send("reserve", {"units-black-42": "1"})
    await service.until(lambda: service.services.inlet.get(DROP).snapshot.flow.units_expired == 1)  # type: ignore[union-attr]
    await reader.look()
    assert "Your reservation has ended" in reader.text
    await reader.send("reserve", {"units-black-42": "1"})
    assert "Your reservation has ended" not in reader.text


# ------------------------------------------------------------------------------------------------------ what comes back


async def test_what_is_reserved_is_asked_for_and_taken_when_it_comes_back(service: Service) -> None:
    first = await admitted(service, skus=(Sku("a", "A", 1, 100, 1), Sku("b", "B", 1, 100, 1)), limit_per_shopper=1)
    second, other = Reader(service), Reader(service)
    for reader in (second, other):
        await reader.join()
        await reader.until("It is your turn")
    await first.send("reserve", {"sku": "a"})
    await other.send("reserve", {"sku": "b"})

    await second.look()
    assert "Everything is reserved just now" in second.text
    assert second.again[1] == LINE
    await second.send("reserve", {"sku": "b"})
    assert (second.page and second.page.status, second.headline) == (409, "It is your turn")
    assert "You wait for" in second.text
    assert "1 unit of B" in second.text
    assert second.again == (5, f"{LINE}?units-b=1")
    assert (await service.services.drop_store.inspect(DROP)).snapshot.flow.standby == 1

    await first.send("release")
    await second.look(second.again[1])
    assert "You wait for" in second.text, "something else has come back"
    await other.send("release")
    await second.look(second.again[1])
    assert "What you asked for has come back" in second.text
    assert re.search(r'value="b" checked', second.text)
    await second.send("reserve", {"sku": "b"})
    assert second.headline == "Reserved for you"


async def test_nobody_is_left_waiting_for_what_is_sold_for_good(service: Service) -> None:
    first = await admitted(service, skus=(Sku("a", "A", 1, 100, 1), Sku("b", "B", 1, 100, 1)), limit_per_shopper=1)
    second, other = Reader(service), Reader(service)
    for reader in (second, other):
        await reader.join()
        await reader.until("It is your turn")
    await first.send("reserve", {"sku": "a"})
    await second.look(f"{LINE}?units-a=1")
    assert "You wait for" in second.text
    await pay(service, first, sold=1)
    await second.look(second.again[1])
    assert "You wait for" not in second.text
    assert 'value="b"' in second.text
    await other.look()
    await other.send("reserve", {"sku": "b"})
    await pay(service, other, sold=2)
    await second.look(LINE)
    assert second.headline == "Sold out"


async def pay(service: Service, reader: Reader, sold: int) -> None:
    """Pays what is reserved; every unit of the drop that is sold by then is known to the worker."""
    found = re.search(r"<code>([^<]+)</code>", reader.text)
    assert found
    await service.services.reservations.confirm(found[1], f"pay-{sold}", 100, "r")

    def all_known() -> bool:
        live = service.services.inlet.get(DROP)
        return live is not None and sum(stock.sold for stock in live.snapshot.skus.values()) == sold

    await service.until(all_known)


async def test_a_sku_that_may_come_back_can_be_asked_for_beside_one_that_is_left(service: Service) -> None:
    reader, other = await admitted(service), Reader(service)
    await other.join()
    await other.until("It is your turn")
    for buyer in (reader, other):
        assert 'name="units-white-42"' in buyer.text
    await reader.send("reserve", {"units-white-42": "2"})
    await other.look()
    await other.send("reserve", {"units-white-42": "2"})
    assert "2 units of White 42" in other.text
    assert other.again == (5, f"{LINE}?units-white-42=2")
    await other.look(LINE)
    assert 'name="units-white-42" min="0" max="1"' in other.text


async def test_what_a_link_says_is_asked_for_is_only_shown(service: Service) -> None:
    reader = await admitted(service)
    for query in ("units-none=1", "units-black-42=x", "units-black-42=9999", "sku=../x", "units-<b>=1", "units-black-42=1"):
        await reader.look(f"{LINE}?{query}")
        assert reader.headline == "It is your turn", query
        assert reader.page is not None
        assert "<b>" not in reader.page.body.decode()
    assert (await service.services.drop_store.inspect(DROP)).reservations_live == 0


async def test_after_a_refusal_the_page_looks_again_as_it_says(service: Service) -> None:
    await service.open_drop(make_drop(rate_per_min=1, capacity=1))
    for _ in range(3):
        await Buyer(service, DROP).join()
    reader = Reader(service)
    await reader.join()
    await reader.post(LINE, {"step": "reserve", "units-black-42": "1"})
    assert reader.page is not None
    assert reader.page.status == 409
    assert "looks again by itself" in reader.text
    seconds, address = reader.again
    assert address == LINE
    assert seconds >= 5


# --------------------------------------------------------------------------------------------------------- in the line


async def test_waiting_says_position_wait_and_chance_and_looks_again(service: Service) -> None:
    await service.open_drop(make_drop(rate_per_min=1, capacity=1))
    for _ in range(5):
        await Buyer(service, DROP).join()
    reader = Reader(service)
    await reader.join()
    assert re.fullmatch(r"\d (person is|people are) ahead of you", reader.headline), reader.headline
    assert "Your place is kept" in reader.text
    assert re.search(r"The stock will|The chance", reader.text)
    seconds, address = reader.again
    assert address == LINE
    assert 1 <= seconds <= 15


async def test_before_the_opening(service: Service) -> None:
    await service.open_drop(make_drop(opens_in_ms=600_000, order="draw"))
    reader = Reader(service)
    await reader.look()
    assert "drawn by lot" in reader.text
    await reader.send("join")
    assert reader.headline == "You are in"
    assert "entry number 0" in reader.text
    assert re.search(r"<time datetime=", reader.text)
    assert "10 minutes" in reader.text or "9 minutes" in reader.text


async def test_whoever_joined_before_the_opening_goes_by_the_order_of_joining(service: Service) -> None:
    await service.open_drop(make_drop(opens_in_ms=600_000))
    reader = Reader(service)
    await reader.join()
    assert "Your number in the line is 0." in reader.text
    await service.services.drop_store.steer(DROP, "open")
    await reader.until("It is your turn")


async def test_joining_is_not_open_yet(service: Service) -> None:
    await service.open_drop(make_drop(opens_in_ms=900_000, joins_at_ms=service.services.clock.now_ms() + 600_000))
    reader = Reader(service)
    await reader.look()
    assert reader.headline == "Joining opens soon"
    assert "<form" not in reader.text
    assert reader.page is not None
    assert reader.page.headers["Refresh"]


async def test_a_place_comes_back_after_a_reload_and_a_restart_of_the_browser(service: Service) -> None:
    await service.open_drop(make_drop(opens_in_ms=600_000, order="draw"))
    reader = Reader(service)
    await reader.join()
    number = re.search(r"entry number \d+", reader.text)
    await Buyer(service, DROP).join()
    again = Reader(service, cookies=dict(reader.cookies))
    await again.look()
    assert number
    assert number[0] in again.text


async def test_leaving_gives_the_place_up_and_the_next_one_is_new(service: Service) -> None:
    await service.open_drop(make_drop(opens_in_ms=600_000))
    reader = Reader(service)
    await reader.join()
    first = reader.secret
    await reader.send("leave")
    assert reader.headline == "Join the line"
    await reader.send("join")
    assert reader.headline == "You are in"
    assert reader.secret != first


async def test_whoever_left_and_did_not_get_the_answer_may_join_again(service: Service) -> None:
    await service.open_drop(make_drop(opens_in_ms=600_000))
    reader = Reader(service)
    await reader.join()
    before = dict(reader.cookies)
    await reader.send("leave")
    reader.cookies = before
    await reader.look()
    assert "Your place was given up." in reader.text
    await reader.send("join")
    assert reader.headline == "You are in"


async def test_the_places_of_the_waiting_pages_script_go_on_here(service: Service) -> None:
    await service.open_drop(make_drop())
    buyer = Buyer(service, DROP)
    await buyer.enter()
    reader = Reader(service)
    await reader.post(LINE, {"step": "adopt", "secret": buyer.secret})
    await reader.until("It is your turn")
    assert reader.secret == buyer.secret
    await reader.send("reserve", {"units-black-42": "1"})
    assert reader.headline == "Reserved for you"


async def test_a_place_that_the_script_cannot_keep_is_handed_over(service: Service) -> None:
    await service.open_drop(make_drop())
    buyer = Buyer(service, DROP)
    await buyer.enter()
    proof = {"Authorization": f"Ticket {buyer.ticket_id}.{buyer.secret}"}
    handoff = (await service.post(f"/v1/tickets/{buyer.ticket_id}/handoff", headers=proof)).json["handoff"]
    reader = Reader(service)
    for _ in range(2):
        await reader.post(LINE, {"step": "adopt", "secret": "n" * 36, "handoff": handoff})
        await reader.until("It is your turn")
    await reader.send("reserve", {"units-black-42": "1"})
    assert reader.headline == "Reserved for you"
    for shown in ("x", "x" * 1025, handoff):
        stranger = Reader(service)
        await stranger.post(LINE, {"step": "adopt", "secret": "m" * 36, "handoff": shown})
        assert stranger.page is not None
        assert stranger.page.status in {403, 409}
        assert stranger.headline == "Join the line"


async def test_a_place_that_is_adopted_again_keeps_its_reservation(service: Service) -> None:
    await service.open_drop(make_drop())
    buyer = Buyer(service, DROP)
    await buyer.enter()
    reader = Reader(service)
    await reader.post(LINE, {"step": "adopt", "secret": buyer.secret})
    await reader.until("It is your turn")
    await reader.send("reserve", {"units-black-42": "1"})
    await reader.post(LINE, {"step": "adopt", "secret": buyer.secret})
    assert reader.headline == "Reserved for you"
    await reader.send("release")
    assert (await service.services.drop_store.inspect(DROP)).skus["black-42"].reserved == 0


async def test_a_join_sent_twice_is_one_place(service: Service, settings_in_use: Settings) -> None:
    await service.open_drop(make_drop(invites="required", opens_in_ms=600_000))
    code = InviteCodes(read_signing_keys(settings_in_use.tokens.signing_keys_file)).make_codes(DROP, 1)[0]
    reader = Reader(service)
    await reader.look()
    shown, before = reader.page, dict(reader.cookies)
    await reader.send("join", {"code": code})
    reader.page, reader.cookies = shown, before
    await reader.send("join", {"code": code})
    assert reader.headline == "You are in"
    assert (await service.services.drop_store.inspect(DROP)).snapshot.joined == 1


async def test_a_join_whose_outcome_is_unknown_is_found_again(service: Service, settings_in_use: Settings) -> None:
    await service.open_drop(make_drop(invites="required", opens_in_ms=600_000))
    code = InviteCodes(read_signing_keys(settings_in_use.tokens.signing_keys_file)).make_codes(DROP, 1)[0]
    reader = Reader(service)
    await reader.look()
    join = WaitingRoom.join

    async def lost(*given: Any, **options: Any) -> Any:
        await join(*given, **options)
        raise StoreUnknown(what="No answer came.")

    with patch.object(WaitingRoom, "join", lost):
        await reader.send("join", {"code": code})
    assert (reader.page and reader.page.status, reader.headline) == (503, "A moment, please")
    await reader.look()
    assert reader.headline == "You are in"


async def test_whoever_leaves_before_the_answer_comes_back_to_the_same_place(service: Service) -> None:
    await service.open_drop(make_drop(opens_in_ms=600_000))
    reader = Reader(service)
    await reader.look()
    before = dict(reader.cookies)
    await reader.send("join")
    back = Reader(service, cookies=before)
    await back.look()
    assert back.headline == "You are in"


async def test_a_browser_that_keeps_nothing_is_told_before_it_joins(service: Service) -> None:
    await service.open_drop(make_drop())
    forgetful = Reader(service)
    for _ in range(2):
        await forgetful.look()
        forgetful.cookies.clear()
        await forgetful.send("join")
        assert (forgetful.page and forgetful.page.status, forgetful.headline) == (400, "Join the line")
        assert "please allow cookies" in forgetful.text
    assert (await service.services.drop_store.inspect(DROP)).snapshot.joined == 0
    await forgetful.send("join")
    await forgetful.until("It is your turn")


async def test_a_browser_that_keeps_nothing_is_told_when_it_comes_from_the_waiting_page(service: Service) -> None:
    await service.open_drop(make_drop())
    reader = Reader(service)
    await reader.post(LINE, {"step": "adopt", "secret": "s" * 36})
    forgetful = Reader(service)
    await forgetful.look(reader.address)
    assert "please allow cookies" in forgetful.text


async def test_looking_where_nobody_can_join_keeps_nothing(service: Service) -> None:
    await service.open_drop(make_drop(opens_in_ms=900_000, joins_at_ms=service.services.clock.now_ms() + 600_000))
    reader = Reader(service)
    await reader.look()
    assert reader.cookies == {}


# ------------------------------------------------------------------------------------------------------- states of a drop


async def test_paused(service: Service) -> None:
    await service.open_drop(make_drop(rate_per_min=1, capacity=1))
    for _ in range(3):
        await Buyer(service, DROP).join()
    reader = Reader(service)
    await reader.join()
    await service.services.drop_store.pause(DROP)
    await service.services.drop_store.steer(DROP, "notice", "Back at noon <soon>")
    await reader.look()
    assert reader.headline == "Paused"
    assert "Back at noon <soon>" in reader.text
    assert reader.page is not None
    assert b"Back at noon &lt;soon&gt;" in reader.page.body


async def test_closed_and_sold_out(service: Service) -> None:
    drop = make_drop(skus=(Sku("a", "A", 1, 100, 1),), limit_per_shopper=1)
    await service.open_drop(drop)
    reader = Reader(service)
    await reader.join()
    await reader.until("It is your turn")
    late = Reader(service)
    await late.join()
    await reader.send("reserve", {"sku": "a"})
    await late.look()
    assert "Everything is reserved just now" in late.text or "ahead" in late.headline or "next" in late.headline
    found = re.search(r"<code>([^<]+)</code>", reader.text)
    assert found
    await service.services.reservations.confirm(found[1], "pay-1", 100, "r")
    await service.until(lambda: service.services.inlet.get(DROP).snapshot.sold_out)  # type: ignore[union-attr]
    stranger = Reader(service)
    for visitor in (late, stranger):
        await visitor.look()
        assert visitor.headline in {"Sold out", "It is your turn"}, visitor.text
        assert "<form" not in visitor.text
    assert stranger.headline == "Sold out"
    await service.services.drop_store.close(DROP)
    await service.until(lambda: service.services.inlet.get(DROP).snapshot.state == "closed")  # type: ignore[union-attr]
    for visitor in (late, stranger):
        await visitor.look()
        assert visitor.headline == "The drop has ended"
    await reader.look()
    assert reader.headline == "Paid. It is yours", "what is somebody's stays so"


async def test_removed(service: Service) -> None:
    await service.open_drop(make_drop(opens_in_ms=600_000))
    reader = Reader(service)
    await reader.join()
    ticket_id = ticket_id_of(DROP, secret_hash_of(reader.secret))
    await service.services.waiting_room.remove(DROP, ticket_id, "a bot")
    await reader.look()
    assert reader.headline == "This place was taken away"
    assert "a bot" not in reader.text


async def test_moved_to_another_device(service: Service) -> None:
    await service.open_drop(make_drop(opens_in_ms=600_000))
    reader = Reader(service)
    await reader.join()
    ticket_id = ticket_id_of(DROP, secret_hash_of(reader.secret))
    proof = {"Authorization": f"Ticket {ticket_id}.{reader.secret}"}
    handoff = (await service.post(f"/v1/tickets/{ticket_id}/handoff", headers=proof)).json["handoff"]
    other = Buyer(service, DROP)
    assert (await other.join(handoff=handoff)).status == 200
    await reader.look()
    assert reader.headline == "Your place has moved"
    adopting = Reader(service)
    await adopting.post(LINE, {"step": "adopt", "secret": other.secret})
    assert adopting.headline == "You are in"


async def test_nobody_else_can_join(service: Service) -> None:
    await service.open_drop(make_drop(opens_in_ms=600_000))
    await service.services.drop_store.steer(DROP, "joining", "closed")
    await service.until(lambda: service.services.inlet.get(DROP).snapshot.joining_closed)  # type: ignore[union-attr]
    reader = Reader(service)
    await reader.look()
    assert reader.headline == "Nobody else can join"


async def test_invite_codes(service: Service, settings_in_use: Settings) -> None:
    await service.open_drop(make_drop(invites="required", opens_in_ms=600_000))
    reader = Reader(service)
    await reader.look()
    await reader.send("join", {"code": "WRONG"})
    assert (reader.page and reader.page.status, reader.headline) == (403, "Join the line")
    assert "not an invite code of this drop" in reader.text
    await reader.send("join", {"code": ""})
    assert "takes an invite code" in reader.text
    codes = InviteCodes(read_signing_keys(settings_in_use.tokens.signing_keys_file))
    await reader.send("join", {"code": f" {codes.make_codes(DROP, 1)[0]} "})
    assert reader.headline == "You are in"


async def test_a_drop_for_people_who_are_signed_in_is_joined_from_the_shop(service: Service) -> None:
    await service.open_drop(make_drop(identity="required", return_urls=(BACK,)))
    reader = Reader(service)
    await reader.look()
    assert reader.headline == "Join from the shop"
    assert f'href="{BACK}"' in reader.text


async def test_a_service_that_cannot_answer_says_so_and_looks_again(service: Service) -> None:
    reader = await admitted(service)
    for error in (Busy(what="full"), StoreUnavailable(what="away")):
        with patch.object(DropStore, "inspect", side_effect=error):
            await reader.look()
        assert reader.page is not None
        assert reader.page.status == 503
        assert reader.headline == "A moment, please"
        assert reader.page.headers["Refresh"] == f"{reader.page.headers['Retry-After']}; url={LINE}"
    await reader.look()
    assert reader.headline == "It is your turn"


# ------------------------------------------------------------------------------------------------------------- refusals


async def test_no_other_page_acts_for_a_shopper(service: Service) -> None:
    reader = await admitted(service)
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": service.url.replace("http:", "https:") + "0"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "none"},
    ):
        for step in ("join", "reserve", "leave", "adopt"):
            await reader.post(LINE, {"step": step, "units-black-42": "1", "secret": "x" * 32}, headers)
            assert reader.page is not None
            assert (reader.page.status, reader.headline) == (403, "This did not come from here"), (step, headers)
            assert "Set-Cookie" not in reader.page.headers
    assert (await service.services.drop_store.inspect(DROP)).reservations_live == 0
    await reader.look()
    assert reader.headline == "It is your turn"


async def test_a_browser_that_says_nothing_of_where_a_form_came_from_is_served(service: Service) -> None:
    await service.open_drop(make_drop(opens_in_ms=600_000))
    reader = Reader(service)
    await reader.look()
    await reader.send("join", headers={})
    assert reader.headline == "You are in"


REFUSED: tuple[tuple[dict[str, str], int, str], ...] = (
    ({}, 400, "not known"),
    ({"step": "dance"}, 400, "not known"),
    ({"step": "reserve"}, 400, "Choose what you want"),
    ({"step": "reserve", "units-black-42": "0"}, 400, "Choose what you want"),
    ({"step": "reserve", "units-black-42": "-1"}, 400, "Write a number"),
    ({"step": "reserve", "units-black-42": "x"}, 400, "Write a number"),
    ({"step": "reserve", "units-none": "1"}, 400, "not in this drop"),
    ({"step": "reserve", "sku": "../x"}, 400, "Choose what you want"),
    ({"step": "reserve", "units-black-42": "3"}, 409, "more than one shopper may"),
    ({"step": "release"}, 404, "no such reservation"),
    ({"step": "extend"}, 404, "no such reservation"),
    ({"step": "adopt", "secret": "short"}, 401, "unknown"),
    ({"step": "join", "code": "x" * 65}, 403, "not an invite code"),
)


async def test_a_form_that_cannot_be_done_says_why(service: Service) -> None:
    reader = await admitted(service)
    for form, status, sentence in REFUSED:
        await reader.post(LINE, form)
        assert reader.page is not None
        assert (reader.page.status, sentence in reader.text) == (status, True), (form, reader.text)
        assert reader.headline == "It is your turn" or "step" not in form or form["step"] == "dance"
        await reader.look(LINE)
        assert reader.headline == "It is your turn"


async def test_a_step_without_a_place_does_nothing(service: Service) -> None:
    await service.open_drop(make_drop())
    for step in ("reserve", "release", "leave"):
        reader = Reader(service)
        await reader.post(LINE, {"step": step, "units-black-42": "1"})
        assert reader.page is not None
        assert reader.page.status in {401, 404}
        assert reader.headline == "Join the line"


async def test_a_cookie_of_another_shape_is_no_cookie(service: Service) -> None:
    await service.open_drop(make_drop())
    for value in ("", "x", "a.b", "x" * 200, "%00", "é" * 20, f"{'s' * 32}.{'k' * 65}.", f"{'s' * 32}.{'k' * 9}.<script>"):
        reader = Reader(service, cookies={COOKIE: value})
        await reader.look()
        assert reader.headline == "Join the line", value


async def test_a_flood_from_one_address_is_slowed_down(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> None:
    settings = with_settings(with_signing_keys(settings, tmp_path), http={"rate_per_s": 0.5, "rate_burst": 3, "rate_exempt": []})
    async with in_own_task(settings, database) as service:
        await service.open_drop(make_drop(opens_in_ms=600_000))
        reader = Reader(service)
        statuses = []
        for _ in range(4):
            await reader.post(LINE, {"step": "dance"})
            assert reader.page is not None
            statuses.append(reader.page.status)
        assert statuses == [400, 400, 400, 429]
        assert reader.headline == "That was too fast"
        assert reader.page is not None
        assert reader.page.headers["Refresh"].endswith(f"; url={LINE}")


async def test_a_place_that_was_lost_comes_back_by_its_receipt(service: Service, settings_in_use: Settings) -> None:
    await service.open_drop(make_drop(opens_in_ms=600_000))
    reader = Reader(service)
    await reader.join()
    before = dict(reader.cookies)

    def seen() -> LiveDrop:
        live = service.services.inlet.get(DROP)
        assert live is not None
        return live

    async with opened(settings_in_use) as parts:
        await parts.store.flushall()
        await service.until(lambda: seen().recovering)
        await reader.look()
        assert (reader.page and reader.page.status, reader.headline) == (200, "A moment, please")
        await recovery_of(parts).recover(DROP)
    await service.until(lambda: not seen().recovering and seen().snapshot.epoch == 2)
    ticket_id = ticket_id_of(DROP, secret_hash_of(reader.secret))
    inspect = service.services.drop_store.inspect
    assert (await inspect(DROP, tickets=(ticket_id,))).tickets == (None,)
    await reader.look()
    assert reader.headline == "You are in"
    assert reader.secret == before[COOKIE].partition(".")[0]
    assert reader.cookies != before, "the receipt is one of the new epoch"
    assert (await inspect(DROP, tickets=(ticket_id,))).tickets != (None,)


async def test_a_cookie_is_secure_behind_a_proxy_that_ends_tls(
    settings: Settings, store: Redis, database: Database, tmp_path: Path
) -> None:
    settings = with_settings(with_signing_keys(settings, tmp_path), http={"trusted_proxies": ["127.0.0.1"]})
    async with in_own_task(settings, database) as service:
        await service.open_drop(make_drop(opens_in_ms=600_000))
        for forwarded, secure in (("https", True), ("http", False)):
            headers = {"X-Forwarded-Proto": forwarded, "Sec-Fetch-Site": "same-origin"}
            answer = await service.request("POST", LINE, data={"step": "join"}, headers=headers, allow_redirects=False)
            assert all(("Secure" in cookie) == secure for cookie in answer.headers.getall("Set-Cookie"))  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------------------- languages


async def test_the_line_speaks_the_browsers_language(service: Service) -> None:
    await service.open_drop(make_drop())
    reader = Reader(service, language="ar, en;q=0.5")
    await reader.look()
    assert reader.headline == "الانضمام إلى الطابور"
    assert '<html lang="ar" dir="rtl">' in reader.text
    assert reader.page is not None
    assert (reader.page.headers["Content-Language"], reader.page.headers["Cache-Control"]) == ("ar", "no-store")
    assert "Accept-Language" in reader.page.headers["Vary"]
    await reader.send("join")
    await reader.until("حان دورك")
    await reader.send("reserve", {"units-black-42": "0"})
    assert "اختر ما تريد" in reader.text
    await reader.send("reserve", {"units-black-42": "2"})
    assert reader.headline == "محجوز لك"
    await reader.look("/drops/none-such/line")
    assert reader.headline == "لا يوجد بيع كهذا"


async def test_the_language_of_the_address_wins_and_stays(service: Service) -> None:
    await service.open_drop(make_drop(return_urls=(BACK,)))
    reader = Reader(service, f"{LINE}?return={BACK}&lang=de-CH", language="fr")
    await reader.look()
    assert reader.headline == "Anstellen"
    await reader.send("join")
    assert reader.address.endswith("&lang=de")
    await reader.until("Sie sind dran")
    await reader.send("reserve", {"units-black-42": "1"})
    assert reader.headline == "Für Sie reserviert"
    assert "120,00 EUR" in reader.text
    assert reader.again[1] == reader.address
    page = await service.get(f"/drops/{DROP}", params={"lang": "ja"}, headers={"Accept-Language": "fr"})
    assert f'href="{LINE}?lang=ja"' in page.body.decode()
    for unknown in ("xx", "d", "<de>", "de_AT", "de" * 50):
        page = await service.get(LINE, params={"lang": unknown}, headers={"Accept-Language": "fr"})
        assert '<html lang="fr"' in page.body.decode()
        assert f'action="{LINE}"' in page.body.decode()


async def test_every_refusal_is_said_in_the_language(service: Service, settings_in_use: Settings) -> None:
    reader = await admitted(service)
    reader.language = "ja"
    for form, status, _ in REFUSED:
        await reader.post(LINE, form)
        assert reader.page is not None
        assert reader.page.status == status
        assert 'lang="en"' not in reader.text, form
        assert not re.search(r"<p[^>]*>[A-Z][a-z]+ [a-z]", reader.text), form
