"""`flashsale drop invites`: codes that let people join a drop."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from admission.invites import CODES_MAX, USES_MAX
from flashsale.cli import options
from flashsale.cli.commands import command, run
from flashsale.cli.exits import Refused
from flashsale.cli.output import print_json, say
from flashsale.errors import BadInput

if TYPE_CHECKING:
    from flashsale.cli.target import Target
    from flashsale.model import Drop


def register(drops: typer.Typer) -> None:
    """Adds the command to the group `drop`."""
    command(
        drops,
        "invites",
        "flashsale drop invites members --count 500 --csv codes.csv",
        "flashsale drop invites members --count 1 --uses 100 --group gold",
        "flashsale drop invites members --count 20 --json",
    )(invites)


def invites(
    drop_id: options.DropId,
    count: Annotated[int, typer.Option("--count", min=1, max=CODES_MAX, metavar="N", help="How many codes.")] = 1,
    uses: Annotated[int, typer.Option("--uses", min=1, max=USES_MAX, metavar="N", help="How many people may join with each.")] = 1,
    group: Annotated[str, typer.Option("--group", metavar="ID", help="The priority group each leads to.", show_default=False)] = "",
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write them to a new file, readable for its owner only.", show_default=False),
    ] = None,
    as_json: options.Json = False,
    config: options.Config = None,
    data: options.Data = None,
) -> None:
    """Make invite codes for a drop that takes them.

    Made codes are listed nowhere: a code carries what it permits, and the store counts its uses when people join. Whoever
    has a code can use it, so they go to stdout or into a file and never into a log. Every run makes new ones; the old ones
    stay good. With --json: drop_id, group, uses, and the array codes.
    """
    from flashsale.cli.shapes import InvitesMade

    if csv_file is not None and csv_file.exists():
        raise BadInput(what=f"{csv_file} exists.", todo="Name a new file, so that no codes are lost.")
    codes = _make(drop_id, count, uses, group, config, data)
    if csv_file is not None:
        _write(csv_file, codes, uses, group)
    if as_json:
        print_json(InvitesMade(drop_id, group, uses, codes))
    elif csv_file is None:
        sys.stdout.write("".join(f"{code}\n" for code in codes))
    else:
        say(f"Wrote {len(codes):,} codes for {drop_id} to {csv_file}.")


def _make(drop_id: str, count: int, uses: int, group: str, config: Path | None, data: Path | None) -> list[str]:
    from admission.invites import InviteCodes
    from flashsale.cli.compose import read_signing_keys
    from flashsale.cli.target import find_target

    target = find_target(config, data)
    keys = read_signing_keys(target.settings.tokens.signing_keys_file)
    drop = run(_definition(target, drop_id))
    if drop.invites == "none":
        raise Refused(
            what=f"{drop_id} takes no invite codes.", todo='A drop that does says invites = "required" or "accepted" in its file.'
        )
    return InviteCodes(keys).make_codes(drop_id, count, uses_max=uses, line=_line_of(drop, group))


async def _definition(target: Target, drop_id: str) -> Drop:
    from flashsale.cli.looking import of_drop
    from flashsale.cli.target import opened

    async with opened(target.settings) as parts:
        return (await of_drop(parts, drop_id, parts.drops.inspect(drop_id))).definition


def _line_of(drop: Drop, group: str) -> int:
    ids = ["", *(one.group_id for one in drop.groups)]
    if group not in ids:
        known = f"Its groups are {', '.join(ids[1:])}." if drop.groups else "It has no groups."
        raise BadInput(what=f"{drop.drop_id} has no group called {group[:50]}.", todo=known)
    return ids.index(group)


def _write(path: Path, codes: list[str], uses: int, group: str) -> None:
    from flashsale.cli.runtime import write_private

    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("code", "uses", "group"))
    rows.writerows((code, uses, group) for code in codes)
    write_private(path, text.getvalue().encode())
