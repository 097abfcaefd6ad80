"""Randomness from outside that nobody knew while the entries could still change, so that not even we can choose the draw.

Asked after the root of the entries has been fixed. Whoever gives it must not be able to hold up a line of people, so
there is a deadline; a draw without an answer goes on without, and the fairness document says why.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from flashsale.errors import FlashsaleError

BeaconKind = Literal["none", "drand", "file"]

DEADLINE_S = 10.0
VALUE_BYTES_MIN, VALUE_BYTES_MAX = 16, 64
LOOK_AGAIN_S = 0.2


class BeaconUnavailable(FlashsaleError):
    """The beacon gave nothing that can be used. `what` is shown in the fairness document: no addresses, no paths."""

    code = "beacon_unavailable"


class BeaconValue(msgspec.Struct, frozen=True):
    """What a beacon said."""

    kind: BeaconKind
    value: bytes = b""
    """empty: the draw is without a beacon"""
    round: int | None = None
    """of drand: which of the chain's values, so that everybody can look it up"""
    chain: str | None = None
    """of drand: hex hash of the chain"""
    why: str | None = None
    """why there is no value although there should be one; a sentence"""


class Beacon(Protocol):
    """Where the value comes from."""

    kind: BeaconKind

    async def value_after(self, fixed_at_ms: int) -> BeaconValue:
        """The first value that nobody could know at `fixed_at_ms`; waits for it.

        Raises:
            BeaconUnavailable: there will be none.
        """
        ...


class NoBeacon:
    """Draws hang on the secret and the entries alone."""

    kind: BeaconKind = "none"

    async def value_after(self, fixed_at_ms: int) -> BeaconValue:
        """Nothing, at once."""
        del fixed_at_ms
        return BeaconValue("none")


class FileBeacon:
    """A value that people bring: dice thrown before witnesses, written into a file as hex once the entries are closed.

    Waits for a file written after the entries were closed: the last drop's may still be lying there. Write it under another
    name first and then rename it, so that nobody reads half of it. When the dice were thrown is for the witnesses to say.
    """

    kind: BeaconKind = "file"

    def __init__(self, path: Path) -> None:
        self._path = path

    async def value_after(self, fixed_at_ms: int) -> BeaconValue:
        """What the file holds, as soon as it is there. Raises as `Beacon.value_after` does."""
        try:
            value = bytes.fromhex(await self._text(fixed_at_ms))
        except ValueError:
            raise BeaconUnavailable(what="The beacon's file does not hold hex digits.") from None
        if not VALUE_BYTES_MIN <= len(value) <= VALUE_BYTES_MAX:
            raise BeaconUnavailable(what=f"The beacon's file does not hold {VALUE_BYTES_MIN} to {VALUE_BYTES_MAX} bytes in hex.")
        return BeaconValue("file", value)

    async def _text(self, fixed_at_ms: int) -> str:
        while True:
            text = await asyncio.to_thread(self._read, fixed_at_ms)
            if text is not None:
                return text
            await asyncio.sleep(LOOK_AGAIN_S)

    def _read(self, fixed_at_ms: int) -> str | None:
        try:
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_mtime_ns <= 1_000_000 * fixed_at_ms:
                    return None
                return file.read(4 * VALUE_BYTES_MAX).decode("ascii", "replace").strip() or None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BeaconUnavailable(what="The beacon's file cannot be read:", why=f"{error.strerror}.") from error


async def value_in_time(beacon: Beacon, fixed_at_ms: int, *, deadline_s: float = DEADLINE_S) -> BeaconValue:
    """The beacon's value, or one that is empty and says why. Always comes back, `deadline_s` later at most."""
    try:
        async with asyncio.timeout(deadline_s):
            return await beacon.value_after(fixed_at_ms)
    except TimeoutError:
        return BeaconValue(beacon.kind, why=f"The beacon did not answer within {deadline_s:g} s, and a line of people cannot wait longer.")
    except BeaconUnavailable as error:
        return BeaconValue(beacon.kind, why=str(error))


def round_after(fixed_at_ms: int, *, genesis_s: int, period_s: int) -> int:
    """The first round of a drand chain that is made strictly after a time. Round 1 is made at the genesis.

    The source is `NextRound` of drand's package chain, with its seconds as milliseconds here.
    """
    since_ms = fixed_at_ms - 1000 * genesis_s
    return 1 if since_ms < 0 else since_ms // (1000 * period_s) + 2
