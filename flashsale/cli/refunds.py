"""`flashsale refunds …`: payments that go back, and those a person has to decide about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, group, run
from flashsale.cli.exits import Refused
from flashsale.cli.output import moment, print_json, print_table, say
from flashsale.money import money

if TYPE_CHECKING:
    from flashsale.refunds import Refund, Release

refunds = group("Payments that go back to shoppers.")

RefundId: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="The refund's id, as in 'flashsale refunds list'.")]


def register(app: typer.Typer) -> None:
    """Adds the group."""
    app.add_typer(refunds, name="refunds")
    command(refunds, "list", "flashsale refunds list", "flashsale refunds list trial --json")(list_)
    command(refunds, "done", "flashsale refunds done rf_4f1c2a")(done)
    command(refunds, "send", "flashsale refunds send rf_4f1c2a")(send)


def list_(
    drop_id: Annotated[str | None, typer.Argument(metavar="[DROP]", help="Only this drop; all otherwise.")] = None,
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """List refunds that are not done, the oldest first; at most 1000.

    'held' and 'failed' ones wait for a person: a payment that matches nothing, or that the provider refused to give back.
    'due' ones without a provider are given back by hand and then noted with 'flashsale refunds done'.
    """
    found = run(_unfinished(drop_id, config, data))
    if as_json:
        print_json(found)
    elif found:
        rows = [
            (
                one.refund_id,
                one.state,
                money(one.amount_minor, one.currency or "?"),
                one.payment_reference,
                one.reservation_id,
                one.reason,
                moment(one.created_at_ms),
                one.last_error,
            )
            for one in found
        ]
        print_table(("refund", "state", "amount>", "payment", "order", "reason", "since", "last error"), rows)
    else:
        say("No payment waits to go back.")


async def _unfinished(drop_id: str | None, config: Path | None, data: Path | None) -> list[Refund]:
    from flashsale.cli.target import find_target, opened
    from flashsale.refunds import Refunds

    if drop_id is not None:
        options.checked_drop_id(drop_id)
    async with opened(find_target(config, data).settings) as parts:
        return await Refunds(parts.database).unfinished(drop_id)


def done(refund_id: RefundId, config: options.Config = None, data: options.Data = None) -> None:
    """Note that a payment was given back by hand.

    Nobody is asked to give it back any more; the reconciler marks its order as refunded in a moment. For a held payment
    that is to be kept this is the way, too.
    """
    if not run(_settle(refund_id, config, data)):
        raise _nothing(refund_id)
    say(f"Noted: {refund_id} has gone back.")


def send(refund_id: RefundId, config: options.Config = None, data: options.Data = None) -> None:
    """Give a held or failed payment back after all, or try a waiting one now.

    The reconciler asks the provider in a moment, with the same key as before: it goes back once. After a definite refusal
    it is asked anew, with another key, once it is certain that no earlier request lives.
    """
    from flashsale.refunds import Release

    match run(_release(refund_id, config, data)):
        case Release.SENT:
            say(f"{refund_id} is on its way; 'flashsale refunds list' shows how far it is.")
        case Release.PAYS:
            raise Refused(
                what=f"The payment of {refund_id} pays for an order that is paid: nothing was sent.",
                todo="To give it back, take the order back with 'flashsale order cancel'. To keep it, or if it has gone back by hand, "
                f"'flashsale refunds done {refund_id}'.",
            )
        case Release.NOTHING:
            raise _nothing(refund_id)


async def _settle(refund_id: str, config: Path | None, data: Path | None) -> bool:
    from flashsale.cli.target import find_target, opened
    from flashsale.refunds import Refunds

    async with opened(find_target(config, data).settings) as parts:
        return await Refunds(parts.database).settle(refund_id)


async def _release(refund_id: str, config: Path | None, data: Path | None) -> Release:
    from flashsale.cli.target import find_target, opened
    from flashsale.refunds import Refunds

    async with opened(find_target(config, data).settings) as parts:
        return await Refunds(parts.database).release(refund_id)


def _nothing(refund_id: str) -> Refused:
    return Refused(what=f"There is no refund {refund_id[:100]} that is not done.", todo="'flashsale refunds list' shows those there are.")
