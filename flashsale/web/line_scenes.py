"""What the line without JavaScript shows, scene by scene. Pure: from what is known to what is on the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple
from urllib.parse import quote, urlencode

from msgspec import UNSET

from flashsale.model import Drop, DropState, Reservation, ReservationState, Sku, SkuStock, Snapshot
from flashsale.money import money
from flashsale.storefront_urls import Address
from flashsale.web.html import Markup, element
from flashsale.web.line_words import ahead_words, chance_words, counted, length_of, time_of, wait_words
from flashsale.web.places import PlaceView

COUNTDOWN_MS = 30_000
"""how often a page with a countdown is made anew"""
LAST_MINUTE_MS = 10_000
"""the same in its last minute"""
STANDBY_MS = 5_000
"""how often a page is made anew for whoever waits for what comes back: twice in the turn that `lua/include/standby.lua` gives them"""
REFUSAL_MS_MIN = 5_000
"""how long a page with a refusal stays at least, so that it can be read; not longer than the turn above allows"""


LEFT = "Your place was given up."
UNITS = "units-"
"""begins the name of a field that says how many of a SKU"""
_PAY_IN_SHOP = "To pay, go back to the shop that led you here and give it the number of your reservation."
_GONE = {
    "left": ("You have left the line", LEFT),
    "removed": ("This place was taken away", "The merchant has removed it. If that surprises you, ask the shop."),
    "moved": ("Your place has moved", "It was handed to another device, and goes on there."),
}
GONE = frozenset(_GONE)
"""why a place is not this browser's any more"""


@dataclass(frozen=True, slots=True)
class Scene:
    """A page's content."""

    headline: str
    content: tuple[Markup, ...] = ()
    refresh_ms: int = 0
    """when to look again; 0 while the shopper is to do something"""
    again: str = ""
    """address of the next look; empty: that of this page"""
    status: int = 200
    takes_joins: bool = False
    """whether it has the form to join, for which the browser has to keep the secret that joins"""

    def beginning(self, sentence: str) -> Scene:
        """The scene with what the shopper has to know first."""
        return replace(self, content=(element("p", sentence, class_="trouble", role="alert"), *self.content))

    def refusing(self, sentence: str, status: int) -> Scene:
        """The scene with why a step was refused, for long enough that it can be read."""
        refresh_ms = max(REFUSAL_MS_MIN, self.refresh_ms) if self.refresh_ms else 0
        return replace(self.beginning(sentence), status=status, refresh_ms=refresh_ms)


class Setting(NamedTuple):
    """What every scene is played in."""

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
    drop, snapshot = setting.drop, setting.snapshot
    if snapshot.state is DropState.CLOSED:
        return over(setting)
    if snapshot.sold_out:
        return sold_out(setting)
    if snapshot.state is DropState.SCHEDULED:
        ahead_ms = snapshot.joins_at_ms - setting.now_ms
        content = (
            _says("Joining opens at ", time_of(snapshot.joins_at_ms, setting.now_ms), f", in {length_of(ahead_ms)}."),
            *_notice(setting),
        )
        return Scene("Joining opens soon", content, _countdown_ms(ahead_ms))
    if snapshot.joining_closed:
        return Scene("Nobody else can join", (_says("The line is closed. Whoever has a place keeps it."), *_notice(setting)))
    if drop.identity == "required":
        content = (_says("This drop is joined from the shop, by people who are signed in there."), *_to_shop(setting))
        return Scene("Join from the shop", content)
    return Scene("Join the line", (*_when(setting), *_notice(setting), _join_form(setting)), takes_joins=True)


def _when(setting: Setting) -> tuple[Markup, ...]:
    drop, snapshot = setting.drop, setting.snapshot
    untold_ms = snapshot.opens_at_ms - setting.now_ms
    if snapshot.state is DropState.PAUSED:
        return (_says("The drop is paused. You can join; the line goes on later."),)
    if untold_ms <= 0:
        return (_says("The drop is open."),)
    opens = _says("The drop opens at ", time_of(snapshot.opens_at_ms, setting.now_ms), f", in {length_of(untold_ms)}.")
    if drop.order != "draw":
        return (opens,)
    return (opens, _says("The order is drawn by lot at the opening, so it does not matter when you join before it."))


def _join_form(setting: Setting) -> Markup:
    fields: list[Markup] = []
    if setting.drop.invites != "none":
        needed = setting.drop.invites == "required"
        words = "Your invite code" if needed else "Your invite code, if you have one"
        code = element("input", name="code", maxlength="64", autocomplete="off", spellcheck="false", required=needed)
        fields.append(element("label", element("span", words), _void(code)))
    return _form(setting, "join", *fields, element("button", "Join the line"))


# ------------------------------------------------------------------------------------------------------------ with a place


def waiting(setting: Setting, place: PlaceView, refresh_ms: int) -> Scene:
    """In the line."""
    snapshot = setting.snapshot
    untold_ms = snapshot.opens_at_ms - setting.now_ms
    numbers = _numbers(setting, place)
    outlook = [words for words in (wait_words(place.eta), chance_words(place.chance)) if words]
    if snapshot.state is DropState.PAUSED:
        headline, said = "Paused", [_says("The drop is paused. Your place is kept.")]
    elif untold_ms > 0:
        headline = "You are in"
        said = [_says("The drop opens at ", time_of(snapshot.opens_at_ms, setting.now_ms), f", in {length_of(untold_ms)}."), numbers]
        said += [_says(" ".join(outlook))] if outlook else []
    elif place.queue_number is UNSET:
        headline, said = "The order is being drawn", [numbers]
    else:
        headline = ahead_words(place.position).rstrip(".")
        said = [_says(" ".join(outlook))] if outlook else []
    kept = _says("Your place is kept in this browser. This page looks again by itself.")
    return Scene(headline, (*said, *_notice(setting), kept, _look_again(setting), _leave_form(setting)), refresh_ms)


def _numbers(setting: Setting, place: PlaceView) -> Markup:
    if place.queue_number is not UNSET:
        return _says(f"Your number in the line is {place.queue_number:,}.")
    entry = "" if place.entry_number is UNSET else f"You are entry number {place.entry_number:,}. "
    if setting.drop.order != "draw":
        return _says(entry.rstrip())
    return _says(f"{entry}The order is drawn by lot at the opening; when you came does not count.")


def choosing(setting: Setting, token: str) -> Scene:
    """Admitted: what may be reserved, here or in the shop, or asked for until it comes back."""
    stock = setting.snapshot.skus
    offered = [sku for sku in setting.drop.skus if stock[sku.sku].available > 0 or _may_return(stock[sku.sku])]
    to_shop = _to_shop(setting, "button plain", flashsale_token=token)
    if not offered:
        return Scene(
            "It is your turn", (_says("Everything is reserved just now."), *_notice(setting), _look_again(setting)), LAST_MINUTE_MS
        )
    if any(stock[sku].available < units for sku, units in setting.asked.items()):
        return _standing_by(setting, to_shop)
    if any(stock[sku.sku].available for sku in offered):
        held_for = _says("Choose and reserve; the units are then yours for ", length_of(setting.drop.reservation_ttl_ms), ".")
        said = [_says(element("strong", "What you asked for has come back. Reserve it now.")), held_for] if setting.asked else [held_for]
        words, refresh_ms = "Reserve", 0
    else:
        said = [_says("Everything is reserved just now. What is not paid for comes back, for those who have asked for it first.")]
        words, refresh_ms = "Ask for what comes back", COUNTDOWN_MS
    form = _form(setting, "reserve", *_choices(setting, offered), element("button", words))
    return Scene("It is your turn", (*said, *_notice(setting), form, *to_shop), refresh_ms)


def _standing_by(setting: Setting, to_shop: tuple[Markup, ...]) -> Scene:
    names = {sku.sku: sku.name for sku in setting.drop.skus}
    asked = [element("li", _units_of(names[sku], units)) for sku, units in setting.asked.items()]
    again = with_fields(setting.line, {f"{UNITS}{sku}": str(units) for sku, units in setting.asked.items()})
    content = (
        _says("You wait for what is reserved just now:"),
        element("ul", *asked, class_="stock"),
        _says("When it comes back, it is offered to you for a few seconds. This page looks again by itself; then reserve at once."),
        *_notice(setting),
        element("p", element("a", "Look now", href=again), " · ", element("a", "Choose something else", href=setting.line)),
    )
    return Scene("It is your turn", (*content, *to_shop), STANDBY_MS, again)


def _may_return(stock: SkuStock) -> int:
    """Units that are on sale again unless they are paid for."""
    return max(0, stock.reserved - stock.draining)


def _choices(setting: Setting, skus: list[Sku]) -> list[Markup]:
    drop = setting.drop
    one_only = drop.limit_per_shopper == 1
    first = next((sku.sku for sku in skus if setting.snapshot.skus[sku.sku].available), skus[0].sku)
    chosen = setting.asked or {first: 1}
    fields = []
    for sku in skus:
        stock, units = setting.snapshot.skus[sku.sku], chosen.get(sku.sku, 0)
        left = f"{stock.available:,} left" if stock.available else "all reserved, may come back"
        words = element("span", sku.name, element("small", f"{money(sku.price_minor, drop.currency)} · {left}"))
        if one_only:
            choice = element("input", type="radio", name="sku", value=sku.sku, checked=units > 0, required=True)
        else:
            most = min(sku.limit_per_shopper, stock.available or _may_return(stock))
            choice = element("input", type="number", name=f"{UNITS}{sku.sku}", min="0", max=str(most), value=str(units))
        fields.append(element("label", words, _void(choice)))
    return [element("fieldset", element("legend", _limit_words(drop)), *fields)]


def _limit_words(drop: Drop) -> str:
    return "One for each shopper" if drop.limit_per_shopper == 1 else f"At most {drop.limit_per_shopper:,} for each shopper"


def reserved(setting: Setting, reservation: Reservation, token: str) -> Scene:
    """Units are held: how long, what for, and the way to pay."""
    left_ms = reservation.expires_at_ms - setting.now_ms
    if left_ms <= 0:
        return Scene("Your reservation is ending", (_says("The time to pay is over."), _look_again(setting)), LAST_MINUTE_MS)
    until = _says(
        "Yours until ", time_of(reservation.expires_at_ms, setting.now_ms), ": ", element("strong", length_of(left_ms)), " from now."
    )
    tokens = {"flashsale_token": token} if token else {}
    way = _to_shop(setting, **tokens, flashsale_reservation=reservation.reservation_id) or (_says(_PAY_IN_SHOP),)
    number = _says("Reservation ", element("code", reservation.reservation_id))
    back = _form(setting, "release", element("button", "Give it back", class_="plain"))
    content = (_bought(setting, reservation), until, *way, number, *_extend_form(setting, reservation), back)
    return Scene("Reserved for you", content, _countdown_ms(left_ms))


def _extend_form(setting: Setting, reservation: Reservation) -> tuple[Markup, ...]:
    """For more time, where the drop gives it and it was not given yet."""
    was_given = reservation.expires_at_ms - reservation.reserved_at_ms > setting.drop.reservation_ttl_ms
    if was_given or not setting.drop.extension_ms:
        return ()
    words = f"I need {length_of(setting.drop.extension_ms)} more"
    return (_form(setting, "extend", element("button", words, class_="plain")),)


def paid(setting: Setting, reservation: Reservation) -> Scene:
    """It is the shopper's."""
    number = _says("Order ", element("code", reservation.reservation_id))
    return Scene("Paid. It is yours", (_bought(setting, reservation), number, *_to_shop(setting)))


def _bought(setting: Setting, reservation: Reservation) -> Markup:
    names: Mapping[str, str] = {sku.sku: sku.name for sku in setting.drop.skus}
    items = [element("li", _units_of(names.get(sku, sku), units)) for sku, units in reservation.items]
    return element("ul", *items, element("li", element("strong", money(reservation.amount_minor, setting.drop.currency))), class_="stock")


# ------------------------------------------------------------------------------------------------------------ the ends


def sold_out(setting: Setting) -> Scene:
    """Nothing is left and nothing can come back."""
    return Scene("Sold out", (_says("Every unit is sold."), *_notice(setting), *_to_shop(setting)))


def over(setting: Setting) -> Scene:
    """The drop has ended."""
    return Scene("The drop has ended", (*_notice(setting), *_to_shop(setting)))


def gone(setting: Setting, why: str) -> Scene:
    """The place is not this browser's any more.

    Args:
        why: one of `GONE`.
    """
    headline, sentence = _GONE[why]
    return Scene(headline, (_says(sentence), *_to_shop(setting)))


def recovering(setting: Setting, refresh_ms: int) -> Scene:
    """Something was lost, and is being put together again."""
    said = _says("We are putting things back in order. If you have a place, it is kept; this page goes on by itself.")
    return Scene("A moment, please", (said, _look_again(setting)), refresh_ms)


def ended(state: ReservationState) -> str:
    """What became of the last reservation, for the scene after it."""
    match state:
        case ReservationState.RELEASED:
            return "You gave your reservation back."
        case ReservationState.REFUND_DUE | ReservationState.CANCELLED:
            return "Your reservation does not hold any more; what was paid goes back."
        case _:
            return "Your reservation has ended, and its units are on sale again."


# ------------------------------------------------------------------------------------------------------------------- pieces


def _says(*words: str) -> Markup:
    return element("p", *words)


def _units_of(name: str, units: int) -> str:
    return f"{counted(units, 'unit')} of {name}"


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
    words = _says("Giving up your place cannot be undone.")
    return element(
        "details",
        element("summary", "Leave the line"),
        words,
        _form(setting, "leave", element("button", "Give up my place", class_="plain")),
    )


def _look_again(setting: Setting) -> Markup:
    return element("p", element("a", "Look now", href=setting.line))


def _notice(setting: Setting) -> tuple[Markup, ...]:
    """The merchant's words."""
    notice = setting.snapshot.notice
    return (element("p", notice, class_="notice"),) if notice else ()


def _to_shop(setting: Setting, look: str = "button", **shown: str) -> tuple[Markup, ...]:
    """The way to the shop; what is `shown` goes behind the #, which browsers send to nobody."""
    if setting.shop is None:
        return ()
    fragment = "&".join(f"{name}={quote(value, safe='')}" for name, value in shown.items())
    address = f"{setting.shop}#{fragment}" if fragment else str(setting.shop)
    return (element("p", element("a", "Continue to the shop", href=address, class_=look)),)


def _countdown_ms(left_ms: int) -> int:
    """When a page with a countdown is made anew: now and then, and at its end."""
    every_ms = COUNTDOWN_MS if left_ms > 60_000 else LAST_MINUTE_MS
    return max(1_000, min(every_ms, left_ms + 1_000))
