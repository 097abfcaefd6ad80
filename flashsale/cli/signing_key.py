"""`flashsale signing-key …`: the private keys that sign admission tokens and receipts."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, group
from flashsale.cli.exits import Refused
from flashsale.cli.output import moment, print_json, print_table, say

if TYPE_CHECKING:
    from admission.tokens import SigningKeySet

signing_keys = group("The private keys that sign admission tokens and receipts.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="The signing-key file: tokens.signing_keys_file.")]


def register(app: typer.Typer) -> None:
    """Adds the group."""
    app.add_typer(signing_keys, name="signing-key")
    command(signing_keys, "create", "flashsale signing-key create /etc/flashsale/signing-keys.json")(create)
    command(signing_keys, "rotate", "flashsale signing-key rotate /etc/flashsale/signing-keys.json")(rotate)
    command(signing_keys, "list", "flashsale signing-key list /etc/flashsale/signing-keys.json --json")(list_)


def create(file: File) -> None:
    """Make a file with fresh keys, readable for its owner only. The keys themselves are never printed."""
    from admission.tokens import make_signing_keys

    if file.exists():
        raise Refused(what=f"{file} exists.", todo=f"To make new keys beside the present ones: flashsale signing-key rotate {file}")
    _write(file, make_signing_keys(_now_ms()))
    say(f"Made {file}. Set tokens.signing_keys_file (FLASHSALE_TOKENS_SIGNING_KEYS_FILE) to it for every worker.")


def rotate(file: File) -> None:
    """Add new keys that sign from now on; the old ones go on verifying what they have signed.

    Give the file to every worker and restart them one after the other. Old keys may be taken out of it once the last
    token they signed has expired (ten minutes) and the drops whose receipts they signed are over.
    """
    from admission.tokens import rotate_signing_keys
    from flashsale.cli.compose import read_signing_keys

    keys = rotate_signing_keys(read_signing_keys(str(file)), _now_ms())
    _write(file, keys)
    say(f"Rotated {file}: {keys.active('admission').kid} signs admission tokens now. Restart the workers to use it.")


def list_(file: File, as_json: options.Json = False) -> None:
    """The keys of a file, without what is secret of them.

    With --json: an array of kid, purpose, active and created_at_ms.
    """
    from flashsale.cli.compose import read_signing_keys

    keys = read_signing_keys(str(file))
    if as_json:
        print_json(
            [{"kid": key.kid, "purpose": key.purpose, "active": key.active, "created_at_ms": key.created_at_ms} for key in keys.keys]
        )
        return
    rows = [(key.kid, key.purpose, "signs" if key.active else "verifies", moment(key.created_at_ms)) for key in keys.keys]
    print_table(("key", "purpose", "does", "made"), rows)


def _write(file: Path, keys: SigningKeySet) -> None:
    import msgspec

    from flashsale.cli.runtime import write_private

    owner = file.stat() if file.exists() else None
    write_private(file, msgspec.json.encode(keys))
    if owner is not None and os.geteuid() == 0:
        os.chown(file, owner.st_uid, owner.st_gid)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
