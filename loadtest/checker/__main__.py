"""Checks a history against what the stores hold in the end.

    python -m loadtest.checker history.jsonl --state state.json
    python -m loadtest.checker history.jsonl --drop sneaker-x --data .flashsale --keep-state state.json

Prints what it found as JSON. Ends with 0 when every promise was kept, 1 when one was broken, 2 when it could not tell.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtest.checker.model import Rules, Window
from loadtest.checker.state import FinalState, StateBroken, read_state, write_state
from loadtest.checker.verdict import check, read_histories
from loadtest.history import HistoryBroken

EXIT_KEPT = 0
EXIT_BROKEN = 1
EXIT_UNABLE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks, prints the verdict; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        state = _final_state(options)
        if options.keep_state:
            write_state(options.keep_state, state)
        verdict = check(read_histories(options.history), state, _rules(options))
    except (HistoryBroken, StateBroken, OSError) as error:
        print(f"The history could not be checked: {error}", file=sys.stderr)
        return EXIT_UNABLE
    print(msgspec.json.format(msgspec.json.encode(verdict)).decode())
    return EXIT_KEPT if verdict.kept else EXIT_BROKEN


def _final_state(options: argparse.Namespace) -> FinalState:
    if options.state:
        return read_state(options.state)
    return asyncio.run(_read_stores(options.drop, options.config, options.data))


async def _read_stores(drop_id: str, config: Path | None, data: Path | None) -> FinalState:
    # Only this way of use needs the service's own code.
    from flashsale.cli.target import find_target, opened  # noqa: PLC0415
    from flashsale.errors import FlashsaleError  # noqa: PLC0415
    from loadtest.checker.stores import read_final_state  # noqa: PLC0415

    try:
        async with opened(find_target(config, data).settings) as parts:
            return await read_final_state(parts.store, parts.database, parts.drops, drop_id)
    except FlashsaleError as error:
        raise StateBroken(str(error)) from error


def _rules(options: argparse.Namespace) -> Rules:
    return Rules(
        expiry_grace_ms=options.expiry_grace_ms,
        clock_skew_ms=options.clock_skew_ms,
        faults=tuple(options.fault),
        losses=tuple(options.loss),
    )


def _parser() -> argparse.ArgumentParser:
    defaults = Rules()
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.checker", description="Checks a history against what the stores hold in the end."
    )
    parser.add_argument("history", type=Path, nargs="+", help="files written with --history; several are taken as one")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--state", type=Path, help="file with the final state, as --keep-state writes it")
    source.add_argument("--drop", help="id of the drop, to read the final state from its stores")
    parser.add_argument("--config", type=Path, help="settings file of the installation")
    parser.add_argument("--data", type=Path, help="data folder of a running 'flashsale up'")
    parser.add_argument("--keep-state", type=Path, help="file to write the final state to")
    parser.add_argument("--expiry-grace-ms", type=int, default=defaults.expiry_grace_ms, help="units are back this long after an expiry")
    parser.add_argument("--clock-skew-ms", type=int, default=defaults.clock_skew_ms, help="how far the store's clock may be from ours")
    window = "FROM:TO in ms since the epoch; may be given several times"
    parser.add_argument("--fault", type=_window, action="append", default=[], help=f"expiries may be late then: {window}")
    parser.add_argument("--loss", type=_window, action="append", default=[], help=f"the store lost acknowledged data then: {window}")
    return parser


def _window(text: str) -> Window:
    start, _, end = text.partition(":")
    window = Window(int(start), int(end))
    if window.start_ms > window.end_ms:
        raise argparse.ArgumentTypeError("must not end before it starts")
    return window


if __name__ == "__main__":
    sys.exit(main())
