"""drand as the beacon (https://docs.drand.love): a new public value every few seconds, made by many who check one another.

The value of a round is SHA-256 of its signature. That the randomness belongs to the signature is checked here; the
BLS signature itself is not. Whoever wants to may: the fairness document names chain and round, and any drand client
fetches and verifies them.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated, TypeVar

import msgspec
from aiohttp import ClientSession

from admission.beacon import BeaconKind, BeaconUnavailable, BeaconValue, round_after
from flashsale.errors import ConfigurationError
from flashsale.fetching import FetchFailed, fetch

TIMEOUT_MS = 5000
ASK_AGAIN_S = 0.25
_NOT_YET = frozenset({404, 425, 429, 500, 502, 503, 504})
"""Statuses of relays that do not have the round yet, or are having a bad moment"""

_Hex = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})+$", max_length=512)]


class _Info(msgspec.Struct):
    period: Annotated[int, msgspec.Meta(gt=0, le=86_400)]
    """seconds"""
    genesis_time: Annotated[int, msgspec.Meta(ge=0, le=2**40)]
    """seconds since the Unix epoch"""
    hash: _Hex | None = None
    """of the chain, in the API's first version"""
    chain_hash: _Hex | None = None
    """the same in its second"""


class _Round(msgspec.Struct):
    round: int
    signature: _Hex
    randomness: _Hex | None = None
    """only in the API's first version"""


_Answer = TypeVar("_Answer", _Info, _Round)


class DrandBeacon:
    """Asks one relay for one chain."""

    kind: BeaconKind = "drand"

    def __init__(self, client: ClientSession, url: str, *, timeout_ms: int = TIMEOUT_MS) -> None:
        """`url` is a chain's address: `https://api.drand.sh/<chain hash>`, or `https://api.drand.sh/v2/beacons/quicknet`.

        Raises:
            ConfigurationError: it is no address of the web.
        """
        if not url.startswith(("https://", "http://")):
            raise ConfigurationError(
                what="The beacon's url is not an address.", todo="For example: https://api.drand.sh/v2/beacons/quicknet"
            )
        self._client = client
        self._url = url.rstrip("/")
        self._rounds = f"{self._url}/rounds" if "/v2/" in self._url else f"{self._url}/public"
        self._timeout_ms = timeout_ms
        self._info: _Info | None = None

    async def value_after(self, fixed_at_ms: int) -> BeaconValue:
        """The first round made strictly after `fixed_at_ms`; asks until the relay has it.

        Raises:
            BeaconUnavailable: what the relay says makes no sense.
        """
        if self._info is None:
            self._info = await self._asked(f"{self._url}/info", _Info)
        info = self._info
        wanted = round_after(fixed_at_ms, genesis_s=info.genesis_time, period_s=info.period)
        made = await self._asked(f"{self._rounds}/{wanted}", _Round)
        if made.round != wanted:
            raise BeaconUnavailable(what=f"The beacon was asked for its round {wanted} and gave {made.round}.")
        value = hashlib.sha256(bytes.fromhex(made.signature)).digest()
        if made.randomness is not None and bytes.fromhex(made.randomness) != value:
            raise BeaconUnavailable(what=f"The beacon's value of round {wanted} does not belong to its signature.")
        return BeaconValue("drand", value, wanted, info.chain_hash or info.hash)

    async def _asked(self, url: str, kind: type[_Answer]) -> _Answer:
        """The relay's answer; asks again while there is none. The caller's deadline ends it."""
        while True:
            try:
                status, body = await fetch(self._client, url, "The beacon", timeout_ms=self._timeout_ms)
            except FetchFailed:
                status, body = 503, b""
            if status == 200:
                break
            if status not in _NOT_YET:
                raise BeaconUnavailable(what=f"The beacon answered with status {status}.")
            await asyncio.sleep(ASK_AGAIN_S)
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.MsgspecError:
            raise BeaconUnavailable(what="The beacon's answer cannot be read.") from None
