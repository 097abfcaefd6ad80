"""`flashsale key …`: API keys of storefronts and merchants."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, group, run
from flashsale.cli.exits import Refused
from flashsale.cli.output import moment, print_json, print_table, say
from flashsale.errors import BadInput

if TYPE_CHECKING:
    from flashsale.cli.shapes import KeyListed

keys = group("API keys for storefronts and merchants.")


def register(app: typer.Typer) -> None:
    """Adds the group."""
    app.add_typer(keys, name="key")
    command(
        keys,
        "create",
        "flashsale key create --scope storefront",
        "flashsale key create --scope storefront --scope merchant --label 'web shop' --expires 90d",
        "flashsale key create --scope storefront > /run/secrets/flashsale-key",
    )(create)
    command(keys, "list", "flashsale key list", "flashsale key list --json")(list_)
    command(keys, "revoke", "flashsale key revoke Xw3kP0aQm1Zt")(revoke)


def create(
    scope: Annotated[list[str], typer.Option("--scope", help="What it may do: storefront (confirm payments) or merchant (steer drops).")],
    label: Annotated[str, typer.Option("--label", help="Whose it is, for the list.")] = "",
    expires: Annotated[str | None, typer.Option("--expires", metavar="DURATION", help="When it ends by itself: 30d, 12h.")] = None,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """Make a key. It is printed on stdout this once; only its hash is kept.

    Workers know it within a moment.
    """
    key_id, secret = run(_create(scope, label, _expires_at_ms(expires), config, data))
    sys.stdout.write(secret + "\n")
    say(f"Made the key [bold]{key_id}[/]. It is shown this once; keep it like a password.")


def _expires_at_ms(expires: str | None) -> int | None:
    from flashsale.drop_values import milliseconds_of

    if expires is None:
        return None
    ahead_ms = milliseconds_of(expires)
    if not ahead_ms:
        raise BadInput(what=f"'{expires}' is not a duration.", field="expires", todo="For example: --expires 30d")
    return time.time_ns() // 1_000_000 + ahead_ms


async def _create(scopes: list[str], label: str, expires_at_ms: int | None, config: Path | None, data: Path | None) -> tuple[str, str]:
    from flashsale.access import create_key
    from flashsale.cli.target import find_target, opened

    async with opened(find_target(config, data).settings) as parts:
        return await create_key(parts.database, scopes, label, expires_at_ms=expires_at_ms)


def list_(as_json: options.Json = False, config: options.Config = None, data: options.Data = None) -> None:
    """All keys, without anything they could be used with.

    With --json: an array of key_id, tenant, scopes, label and times.
    """
    listed = run(_list(config, data))
    if as_json:
        print_json(listed)
    elif listed:
        print_table(("key", "scopes", "state", "made", "label"), [_row(key) for key in listed])
    else:
        say("There are no keys. Make one with 'flashsale key create --scope storefront'.")


async def _list(config: Path | None, data: Path | None) -> list[KeyListed]:
    from datetime import datetime

    from flashsale.access import list_keys
    from flashsale.cli.shapes import KeyListed
    from flashsale.cli.target import find_target, opened

    def milliseconds(at: datetime | None) -> int | None:
        return None if at is None else int(at.timestamp() * 1000)

    async with opened(find_target(config, data).settings) as parts:
        return [
            KeyListed(
                key_id=row.key_id,
                tenant=row.tenant,
                scopes=row.scopes,
                label=row.label,
                created_at_ms=int(row.created_at.timestamp() * 1000),
                expires_at_ms=milliseconds(row.expires_at),
                revoked_at_ms=milliseconds(row.revoked_at),
            )
            for row in await list_keys(parts.database)
        ]


def _row(key: KeyListed) -> tuple[object, ...]:
    return (key.key_id, ", ".join(key.scopes), _state(key, time.time_ns() // 1_000_000), moment(key.created_at_ms), key.label)


def _state(key: KeyListed, now_ms: int) -> str:
    if key.revoked_at_ms is not None:
        return f"revoked {moment(key.revoked_at_ms)}"
    if key.expires_at_ms is None:
        return "active"
    return f"{'expired' if key.expires_at_ms <= now_ms else 'active until'} {moment(key.expires_at_ms)}"


def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="The key's id, as in 'flashsale key list'; never the key itself.")],
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """End a key. Workers refuse it within a few seconds; repeating it is harmless."""
    if not run(_revoke(key_id, config, data)):
        raise Refused(what="There is no key of that id.", todo="'flashsale key list' shows the keys there are.")
    say(f"The key {key_id} is revoked.")


async def _revoke(key_id: str, config: Path | None, data: Path | None) -> bool:
    from flashsale.access import KEY_PREFIX, revoke_key
    from flashsale.cli.target import find_target, opened

    if key_id.startswith(KEY_PREFIX):
        raise BadInput(
            what="That is a key, not its id, and your shell's history may now hold it.", todo="Give the id; 'flashsale key list' shows it."
        )
    async with opened(find_target(config, data).settings) as parts:
        return await revoke_key(parts.database, key_id)
