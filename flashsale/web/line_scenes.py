"""What the line without JavaScript shows, scene by scene. Pure: from what is known to what is on the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple
from urllib.parse import quote, urlencode

from msgspec import UNSET

from flashsale.model import Drop, DropState, Reservation, ReservationState, Sku, SkuStock, Snapshot
from flashsale.storefront_urls import Address
from flashsale.web.html import Markup, element
from flashsale.web.line_words import Words
from flashsale.web.places import PlaceView

COUNTDOWN_MS = 30_000
"""how often a page with a countdown is made anew"""
LAST_MINUTE_MS = 10_000
"""the same in its last minute"""
STANDBY_MS = 5_000
"""how often a page is made anew for whoever waits for what comes back: twice in the turn that `lua/include/standby.lua` gives them"""
REFUSAL_MS_MIN = 5_000
"""how long a page with a refusal stays at least, so that it can be read; not longer than the turn above allows"""


UNITS = "units-"
"""begins the name of a field that says how many of a SKU"""
GONE = frozenset({"left", "removed", "moved"})
"""why a place is not this browser's any more"""


@dataclass(frozen=True, slots=True)
class Scene:
    """A page's content."""

    headline: Markup
    content: tuple[Markup, ...] = ()
    refresh_ms: int = 0
    """when to look again; 0 while the shopper is to do something"""
    again: str = ""
    """address of the next look; empty: that of this page"""
    status: int = 200
    takes_joins: bool = False
    """whether it has the form to join, for which the browser has to keep the secret that joins"""

    def beginning(self, sentence: Markup) -> Scene:
        """The scene with what the shopper has to know first."""
        return replace(self, content=(element("p", sentence, class_="trouble", role="alert"), *self.content))

    def refusing(self, sentence: Markup, status: int) -> Scene:
        """The scene with why a step was refused, for long enough that it can be read."""
        refresh_ms = max(REFUSAL_MS_MIN, self.refresh_ms) if self.refresh_ms else 0
        return replace(self.beginning(sentence), status=status, refresh_ms=refresh_ms)


class Setting(NamedTuple):
    """What every scene is played in."""

    words: Words
    drop: Drop
    snapshot: Snapshot
    line: str
    """address of this page, for forms and links"""
    shop: Address | None
    """where the shopper goes on"""
    asked: Mapping[str, int] = {}
    """units by SKU that the shopper waits for: they were reserved when asked for, and may come back"""

    @property
    def now_ms(self) -> int:
        """The store's time when the drop was last seen."""
        return self.snapshot.now_ms


# ---------------------------------------------------------------------------------------------------------- without a place


def outside(setting: Setting) -> Scene:
    """Nobody's place yet: what there is to join, or why there is nothing."""
    words, drop, snapshot = setting.words, setting.drop, setting.snapshot
    if snapshot.state is DropState.CLOSED:
        return over(setting)
    if snapshot.sold_out:
        return sold_out(setting)
    if snapshot.state is DropState.SCHEDULED:
        ahead_ms = snapshot.joins_at_ms - setting.now_ms
        content = (_moment(setting, "joins_soon", snapshot.joins_at_ms), *_notice(setting))
        return Scene(words.say("joins_soon_title"), content, _countdown_ms(ahead_ms))
    if snapshot.joining_closed:
        return Scene(words.say("joining_closed_title"), (_says(words.say("joining_closed")), *_notice(setting)))
    if drop.identity == "required":
        return Scene(words.say("from_shop_title"), (_says(words.say("from_shop")), *_to_shop(setting)))
    return Scene(words.say("join"), (*_when(setting), *_notice(setting), _join_form(setting)), takes_joins=True)


def _when(setting: Setting) -> tuple[Markup, ...]:
    words, drop, snapshot = setting.words, setting.drop, setting.snapshot
    if snapshot.state is DropState.PAUSED:
        return (_says(words.say("join_paused")),)
    if snapshot.opens_at_ms <= setting.now_ms:
        return (_says(words.say("open")),)
    opens = _moment(setting, "opens", snapshot.opens_at_ms)
    return (opens, _says(words.say("join_any_time"))) if drop.order == "draw" else (opens,)


def _moment(setting: Setting, word: str, at_ms: int) -> Markup:
    """When something is to come, and how long that is."""
    words = setting.words
    return _says(words.say(word, time=words.time(at_ms, setting.now_ms), length=words.length(at_ms - setting.now_ms)))


def _join_form(setting: Setting) -> Markup:
    fields: list[Markup] = []
    if setting.drop.invites != "none":
        needed = setting.drop.invites == "required"
        asked = setting.words.say("code" if needed else "code_optional")
        code = element("input", name="code", maxlength="64", autocomplete="off", spellcheck="false", required=needed)
        fields.append(element("label", element("span", asked), _void(code)))
    return _form(setting, "join", *fields, element("button", setting.words.say("join")))


# ------------------------------------------------------------------------------------------------------------ with a place


def waiting(setting: Setting, place: PlaceView, refresh_ms: int) -> Scene:
    """In the line."""
    words, snapshot = setting.words, setting.snapshot
    numbers = _numbers(setting, place)
    outlook = [told for told in (words.wait(place.eta), words.chance(place.chance)) if told]
    hopes = [_says(Markup(" ".join(outlook)))] if outlook else []
    if snapshot.state is DropState.PAUSED:
        headline, said = words.say("paused_title"), [_says(words.say("paused"))]
    elif snapshot.opens_at_ms > setting.now_ms:
        headline, said = words.say("in_title"), [_moment(setting, "opens", snapshot.opens_at_ms), numbers, *hopes]
    elif place.queue_number is UNSET:
        headline, said = words.say("drawing_title"), [numbers]
    else:
        headline, said = words.ahead(place.position), hopes
    content = (*said, *_notice(setting), _says(words.say("kept")), _look_again(setting), _leave_form(setting))
    return Scene(headline, content, refresh_ms)


def _numbers(setting: Setting, place: PlaceView) -> Markup:
    words = setting.words
    if place.queue_number is not UNSET:
        return _says(words.say("number", n=words.number(place.queue_number)))
    entry = [] if place.entry_number is UNSET else [words.say("entry", n=words.number(place.entry_number))]
    drawn = [words.say("by_lot")] if setting.drop.order == "draw" else []
    return _says(Markup(" ".join([*entry, *drawn])))


def choosing(setting: Setting, token: str) -> Scene:
    """Admitted: what may be reserved, here or in the shop, or asked for until it comes back."""
    words, stock = setting.words, setting.snapshot.skus
    if setting.snapshot.sold_out:
        return sold_out(setting)
    if any(stock[sku].available + _may_return(stock[sku]) < units for sku, units in setting.asked.items()):
        setting = setting._replace(asked={})  # nobody stands by for what can't come back
    offered = [sku for sku in setting.drop.skus if stock[sku.sku].available > 0 or _may_return(stock[sku.sku])]
    to_shop = _to_shop(setting, "button plain", flashsale_token=token)
    headline = words.say("turn_title")
    if not offered:
        return Scene(headline, (_says(words.say("all_reserved")), *_notice(setting), _look_again(setting)), LAST_MINUTE_MS)
    if any(stock[sku].available < units for sku, units in setting.asked.items()):
        return _standing_by(setting, to_shop)
    if any(stock[sku.sku].available for sku in offered):
        held_for = _says(words.say("choose", length=words.length(setting.drop.reservation_ttl_ms)))
        said = [_says(element("strong", words.say("come_back"))), held_for] if setting.asked else [held_for]
        button, refresh_ms = words.say("reserve"), 0
    else:
        said = [_says(words.say("all_reserved_ask"))]
        button, refresh_ms = words.say("ask"), COUNTDOWN_MS
    form = _form(setting, "reserve", *_choices(setting, offered), element("button", button))
    return Scene(headline, (*said, *_notice(setting), form, *to_shop), refresh_ms)


def _standing_by(setting: Setting, to_shop: tuple[Markup, ...]) -> Scene:
    words = setting.words
    asked = [element("li", _units_of(setting, sku, units)) for sku, units in setting.asked.items()]
    again = with_fields(setting.line, {f"{UNITS}{sku}": str(units) for sku, units in setting.asked.items()})
    ways = (element("a", words.say("look_now"), href=again), " · ", element("a", words.say("choose_else"), href=setting.line))
    content = (
        _says(words.say("standing_by")),
        element("ul", *asked, class_="stock"),
        _says(words.say("standing_by_turn")),
        *_notice(setting),
        element("p", *ways),
    )
    return Scene(words.say("turn_title"), (*content, *to_shop), STANDBY_MS, again)


def _may_return(stock: SkuStock) -> int:
    """Units that are on sale again unless they are paid for."""
    return max(0, stock.reserved - stock.draining)


def _choices(setting: Setting, skus: list[Sku]) -> list[Markup]:
    words, drop = setting.words, setting.drop
    one_only = drop.limit_per_shopper == 1
    first = next((sku.sku for sku in skus if setting.snapshot.skus[sku.sku].available), skus[0].sku)
    chosen = setting.asked or {first: 1}
    fields = []
    for sku in skus:
        stock, units = setting.snapshot.skus[sku.sku], chosen.get(sku.sku, 0)
        left = words.say("left", n=words.number(stock.available)) if stock.available else words.say("none_left")
        about = element("small", words.money(sku.price_minor, drop.currency), " · ", left)
        if one_only:
            choice = element("input", type="radio", name="sku", value=sku.sku, checked=units > 0, required=True)
        else:
            most = min(sku.limit_per_shopper, stock.available or _may_return(stock))
            choice = element("input", type="number", name=f"{UNITS}{sku.sku}", min="0", max=str(most), value=str(units))
        fields.append(element("label", element("span", element("bdi", sku.name), about), _void(choice)))
    limit = words.say("one_each") if one_only else words.say("most_each", n=words.number(drop.limit_per_shopper))
    return [element("fieldset", element("legend", limit), *fields)]


def reserved(setting: Setting, reservation: Reservation, token: str) -> Scene:
    """Units are held: how long, what for, and the way to pay."""
    words = setting.words
    left_ms = reservation.expires_at_ms - setting.now_ms
    if left_ms <= 0:
        return Scene(words.say("ending_title"), (_says(words.say("ending")), _look_again(setting)), LAST_MINUTE_MS)
    length = element("strong", words.length(left_ms))
    until = _says(words.say("until", time=words.time(reservation.expires_at_ms, setting.now_ms), length=length))
    tokens = {"flashsale_token": token} if token else {}
    way = _to_shop(setting, **tokens, flashsale_reservation=reservation.reservation_id) or (_says(words.say("pay_in_shop")),)
    back = _form(setting, "release", element("button", words.say("give_back"), class_="plain"))
    number = _says(words.say("reservation", id=_id(reservation)))
    content = (_bought(setting, reservation), until, *way, number, *_extend_form(setting, reservation), back)
    return Scene(words.say("reserved_title"), content, _countdown_ms(left_ms))


def _extend_form(setting: Setting, reservation: Reservation) -> tuple[Markup, ...]:
    """For more time, where the drop gives it and it was not given yet."""
    was_given = reservation.expires_at_ms - reservation.reserved_at_ms > setting.drop.reservation_ttl_ms
    if was_given or not setting.drop.extension_ms:
        return ()
    asked = setting.words.say("more_time", length=setting.words.length(setting.drop.extension_ms))
    return (_form(setting, "extend", element("button", asked, class_="plain")),)


def paid(setting: Setting, reservation: Reservation) -> Scene:
    """It is the shopper's."""
    words = setting.words
    number = _says(words.say("order", id=_id(reservation)))
    return Scene(words.say("paid_title"), (_bought(setting, reservation), number, *_to_shop(setting)))


def _bought(setting: Setting, reservation: Reservation) -> Markup:
    items = [element("li", _units_of(setting, sku, units)) for sku, units in reservation.items]
    amount = setting.words.money(reservation.amount_minor, setting.drop.currency)
    return element("ul", *items, element("li", element("strong", amount)), class_="stock")


# ------------------------------------------------------------------------------------------------------------ the ends


def sold_out(setting: Setting) -> Scene:
    """Nothing is left and nothing can come back."""
    words = setting.words
    return Scene(words.say("sold_out_title"), (_says(words.say("sold_out")), *_notice(setting), *_to_shop(setting)))


def over(setting: Setting) -> Scene:
    """The drop has ended."""
    return Scene(setting.words.say("over_title"), (*_notice(setting), *_to_shop(setting)))


def left(setting: Setting) -> Scene:
    """The place was given up; another may be had."""
    return outside(setting).beginning(setting.words.say("left_line"))


def gone(setting: Setting, why: str) -> Scene:
    """The place is not this browser's any more.

    Args:
        why: one of `GONE`.
    """
    words = setting.words
    sentence = words.say("left_line" if why == "left" else why)
    return Scene(words.say(f"{why}_title"), (_says(sentence), *_to_shop(setting)))


def recovering(setting: Setting, refresh_ms: int) -> Scene:
    """Something was lost, and is being put together again."""
    words = setting.words
    return Scene(words.say("recovering_title"), (_says(words.say("recovering")), _look_again(setting)), refresh_ms)


def after(setting: Setting, scene: Scene, ended: ReservationState) -> Scene:
    """The scene with what became of the last reservation."""
    match ended:
        case ReservationState.RELEASED:
            word = "was_released"
        case ReservationState.REFUND_DUE | ReservationState.CANCELLED:
            word = "was_refunded"
        case _:
            word = "was_expired"
    return scene.beginning(setting.words.say(word))


# ------------------------------------------------------------------------------------------------------------------- pieces


def _says(sentence: Markup) -> Markup:
    return element("p", sentence)


def _units_of(setting: Setting, sku_id: str, units: int) -> Markup:
    name = next((sku.name for sku in setting.drop.skus if sku.sku == sku_id), sku_id)
    return element("span", setting.words.count("units", units, name=element("bdi", name)))


def _id(reservation: Reservation) -> Markup:
    return element("bdi", element("code", reservation.reservation_id))


def with_fields(line: str, fields: Mapping[str, str]) -> str:
    """The address of the page with `fields` in it."""
    return f"{line}{'&' if '?' in line else '?'}{urlencode(fields)}"


def _void(tag: Markup) -> Markup:
    """An element that has no end, such as `input`."""
    return Markup(tag.rpartition("</")[0])


def _form(setting: Setting, step: str, *content: Markup) -> Markup:
    hidden = _void(element("input", type="hidden", name="step", value=step))
    return element("form", hidden, *content, method="post", action=setting.line, class_=step)


def _leave_form(setting: Setting) -> Markup:
    words = setting.words
    sure = _form(setting, "leave", element("button", words.say("leave_now"), class_="plain"))
    return element("details", element("summary", words.say("leave")), _says(words.say("leave_for_good")), sure)


def _look_again(setting: Setting) -> Markup:
    return element("p", element("a", setting.words.say("look_now"), href=setting.line))


def _notice(setting: Setting) -> tuple[Markup, ...]:
    """The merchant's words."""
    notice = setting.snapshot.notice
    return (element("p", notice, class_="notice", dir="auto"),) if notice else ()


def _to_shop(setting: Setting, look: str = "button", **shown: str) -> tuple[Markup, ...]:
    """The way to the shop; what is `shown` goes behind the #, which browsers send to nobody."""
    if setting.shop is None:
        return ()
    fragment = "&".join(f"{name}={quote(value, safe='')}" for name, value in shown.items())
    address = f"{setting.shop}#{fragment}" if fragment else str(setting.shop)
    return (element("p", element("a", setting.words.say("to_shop"), href=address, class_=look)),)


def _countdown_ms(left_ms: int) -> int:
    """When a page with a countdown is made anew: now and then, and at its end."""
    every_ms = COUNTDOWN_MS if left_ms > 60_000 else LAST_MINUTE_MS
    return max(1_000, min(every_ms, left_ms + 1_000))
