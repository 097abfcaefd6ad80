"""`flashsale drop rate`, `capacity`, `message`, `joining`, `signal`, `remove`: a merchant's hand on the line of a drop that is on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, run
from flashsale.cli.exits import Refused
from flashsale.cli.output import print_json, say
from flashsale.drop_files import CAPACITY_MAX, RATE_PER_MIN_MAX
from flashsale.drop_values import milliseconds_of
from flashsale.errors import BadInput
from flashsale.steering import SIGNAL_TTL_MAX_S, checked_message, checked_why, permille_of

if TYPE_CHECKING:
    from flashsale.model import DropState, LeaveOutcome, SteerOutcome


def register(drops: typer.Typer) -> None:
    """Adds the commands to the group `drop`."""
    command(drops, "rate", "flashsale drop rate trial 900")(rate)
    command(drops, "capacity", "flashsale drop capacity trial 300")(capacity)
    command(drops, "message", 'flashsale drop message trial "Size 42 is nearly gone"', "flashsale drop message trial --clear")(message)
    command(drops, "joining", "flashsale drop joining trial closed", "flashsale drop joining trial open")(joining)
    command(drops, "signal", "flashsale drop signal trial 0.5 --for 2m", "flashsale drop signal trial 1")(signal)
    command(drops, "remove", 'flashsale drop remove trial trial.tAAAAAAAAAAAAAAAAAAAAAA --why "one of forty places of one person"')(remove)


# -------------------------------------------------------------------------------------------------------------- the pace


def rate(
    drop_id: options.DropId,
    per_min: Annotated[int, typer.Argument(metavar="N", min=1, max=RATE_PER_MIN_MAX, help="Shoppers admitted a minute.")],
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """Change how many shoppers are admitted a minute, also while the drop is on."""
    _tell(drop_id, "rate_per_min", per_min, f"admits {per_min:,} a minute from now on", config, data, as_json=as_json)


def capacity(
    drop_id: options.DropId,
    places: Annotated[int, typer.Argument(metavar="N", min=1, max=CAPACITY_MAX, help="Shoppers inside at once, at most.")],
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """Change how many shoppers may be inside at once. Nobody who is inside is sent away."""
    _tell(drop_id, "capacity", places, f"has room for {places:,} at once from now on", config, data, as_json=as_json)


def signal(
    drop_id: options.DropId,
    factor: Annotated[float, typer.Argument(metavar="FACTOR", min=0, max=1, help="Of the drop's rate: 1 is all of it, 0 is nobody.")],
    lasting: Annotated[str, typer.Option("--for", metavar="TIME", help="How long it holds; at most an hour.")] = "60s",
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """Say how much of the rate the storefront can take just now.

    Afterwards the drop goes at its own rate again, so a storefront that has gone away holds nobody back. Storefronts say
    it themselves by POST /v1/merchant/drops/DROP/signal.
    """
    from flashsale.cli.shapes import DropSteered

    ttl_ms = milliseconds_of(lasting)
    if ttl_ms is None or not 1000 <= ttl_ms <= SIGNAL_TTL_MAX_S * 1000:
        raise BadInput(what=f"--for is not a length of time from 1 s to {SIGNAL_TTL_MAX_S} s.", todo='For example: --for "2m"')
    state = run(_signal(drop_id, permille_of(factor), ttl_ms, config, data))
    if as_json:
        print_json(DropSteered(drop_id, "done", state.value))
    else:
        say(f"{drop_id} goes at {factor:.0%} of its rate for {lasting}.")


async def _signal(drop_id: str, factor_permille: int, ttl_ms: int, config: Path | None, data: Path | None) -> DropState:
    from flashsale.cli.looking import of_drop
    from flashsale.cli.target import find_target, opened

    async with opened(find_target(config, data).settings) as parts:
        await of_drop(parts, drop_id, parts.drops.signal(drop_id, factor_permille, ttl_ms))
        return (await of_drop(parts, drop_id, parts.drops.inspect(drop_id))).state


# ------------------------------------------------------------------------------------------------------------ the waiting


class Joining(StrEnum):
    """Whether anybody may still join."""

    OPEN = "open"
    CLOSED = "closed"


def joining(
    drop_id: options.DropId,
    whether: Annotated[Joining, typer.Argument(metavar="open|closed", help="Whether anybody else may join.")],
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """Close the line to newcomers, or open it again. Whoever has a place keeps it."""
    words = "lets nobody else join" if whether is Joining.CLOSED else "can be joined again"
    _tell(drop_id, "joining", whether.value, words, config, data, as_json=as_json)


def message(
    drop_id: options.DropId,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="What the waiting are told.")] = None,
    *,
    clear: Annotated[bool, typer.Option("--clear", help="Take the last message back.")] = False,
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """Tell everybody who waits something. They have it within one poll."""
    if (text is None) is not clear:
        raise BadInput(
            what="Nothing was said." if text is None else "A message is either given or taken back.", todo="Name a TEXT, or --clear."
        )
    words = checked_message(text or "")
    _tell(
        drop_id, "notice", words, "tells the waiting so" if words else "tells the waiting nothing any more", config, data, as_json=as_json
    )


def remove(
    drop_id: options.DropId,
    ticket_id: Annotated[str, typer.Argument(metavar="TICKET", help="The ticket's id, as joining answered it.")],
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="A few words for the admission log, which everybody may read.")],
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """Take a place away. Its shopper is told so; what is reserved on it can still be paid."""
    from flashsale.cli.shapes import PlaceRemoved
    from flashsale.model import TICKET_ID_RE, LeaveOutcome

    match = TICKET_ID_RE.fullmatch(ticket_id)
    if match is None or match[1] != drop_id:
        raise BadInput(
            what=f"{ticket_id[:100]} is not a ticket of {drop_id}.", todo=f"A ticket's id looks like {drop_id}.tAAAAAAAAAAAAAAAAAAAAAA"
        )
    outcome = run(_remove(drop_id, ticket_id, checked_why(why), config, data))
    if outcome not in {LeaveOutcome.REMOVED, LeaveOutcome.REPLAYED}:
        raise Refused(what=f"There is no place of {ticket_id} in {drop_id}.", todo="Nothing was changed.")
    if as_json:
        print_json(PlaceRemoved(drop_id, ticket_id, outcome.value))
    else:
        say(f"{ticket_id} has no place any more." if outcome is LeaveOutcome.REMOVED else f"{ticket_id} had no place any more already.")


async def _remove(drop_id: str, ticket_id: str, why: str, config: Path | None, data: Path | None) -> LeaveOutcome:
    from admission.drawing import draws_of
    from admission.receipts import ReceiptSigner
    from admission.tokens import TokenSigner, make_signing_keys
    from admission.waiting_room import WaitingRoom
    from flashsale.cli.looking import of_drop
    from flashsale.cli.target import find_target, opened

    async with opened(find_target(config, data).settings) as parts:
        inspection = await of_drop(parts, drop_id, parts.drops.inspect(drop_id))
        # Removing signs nothing, so it asks for no keys.
        nobodys = make_signing_keys(0)
        room = WaitingRoom(parts.scripts, TokenSigner(nobodys, issuer="", audience=""), ReceiptSigner(nobodys))
        return await of_drop(parts, drop_id, room.remove(drop_id, ticket_id, why, draws_of(inspection.snapshot)))


# ---------------------------------------------------------------------------------------------------------------- telling


def _tell(drop_id: str, word: str, value: int | str, told: str, config: Path | None, data: Path | None, *, as_json: bool) -> None:
    from flashsale.cli.shapes import DropSteered

    outcome, state = run(_tell_store(drop_id, word, value, config, data))
    if outcome == "refused":
        raise Refused(what=f"{drop_id} is {state}, so that cannot be changed any more.", todo=f"'flashsale drop show {drop_id}' shows it.")
    if as_json:
        print_json(DropSteered(drop_id, outcome.value, state.value))
    else:
        say(f"{drop_id} {told}.")


async def _tell_store(drop_id: str, word: str, value: int | str, config: Path | None, data: Path | None) -> tuple[SteerOutcome, DropState]:
    from flashsale.cli.looking import of_drop
    from flashsale.cli.target import find_target, opened

    async with opened(find_target(config, data).settings) as parts:
        return await of_drop(parts, drop_id, parts.drops.steer(drop_id, word, value))
