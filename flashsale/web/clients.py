"""Who a request comes from, and how many changes they may ask for: GCRA, in this process.

The generic cell rate algorithm keeps one number for each client, the time at which all it has asked for would be used up
at the allowed rate (ITU-T I.371, appendix I). A flood is refused here, before it reaches the store.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Sequence

from aiohttp import web

from flashsale.clock import Clock
from flashsale.errors import ConfigurationError
from flashsale.settings import HttpSettings

CLIENTS_MAX = 65_536
FORWARDED_MAX = 32
"""addresses of X-Forwarded-For looked at"""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class RateLimit:
    """GCRA over a bounded table: two generations, of which the older is dropped when the newer is full."""

    def __init__(self, rate_per_s: float, burst: int, clock: Clock) -> None:
        self._interval_s = 1 / rate_per_s if rate_per_s > 0 else 0.0
        self._tolerance_s = self._interval_s * burst
        self._monotonic = clock.monotonic
        self._young: dict[str, float] = {}
        self._old: dict[str, float] = {}

    def take(self, client: str) -> int:
        """0 when the client may go on, otherwise in how many seconds it may."""
        if self._interval_s == 0:
            return 0
        now = self._monotonic()
        used_up_at = self._young.get(client) or self._old.get(client) or 0.0
        used_up_at = max(used_up_at, now) + self._interval_s
        wait_s = used_up_at - now - self._tolerance_s
        if wait_s > 0:
            return math.ceil(wait_s)
        if len(self._young) >= CLIENTS_MAX:
            self._old, self._young = self._young, {}
        self._young[client] = used_up_at
        return 0


class Clients:
    """Tells clients apart by address (IPv6 by /64) and limits what each may change."""

    def __init__(self, settings: HttpSettings, clock: Clock) -> None:
        """Takes the limits from `settings`.

        Raises:
            ConfigurationError: a network there is not one.
        """
        self._limit = RateLimit(settings.rate_per_s, settings.rate_burst, clock)
        self._exempt = _networks("rate_exempt", settings.rate_exempt)
        self._proxies = _networks("trusted_proxies", settings.trusted_proxies)
        self._names: dict[str, str | None] = {}

    def take(self, request: web.Request) -> int:
        """0 when the client may change something, otherwise in how many seconds it may."""
        address = request.remote or ""
        if self._proxies:
            address = self._behind_proxies(address, request)
        try:
            client = self._names[address]
        except KeyError:
            client = self._name(address)
        return 0 if client is None else self._limit.take(client)

    def is_secure(self, request: web.Request) -> bool:
        """Whether the client's own connection is https, here or at a proxy of ours."""
        if request.secure:
            return True
        peer = _parsed(request.remote or "")
        if peer is None or not any(peer in network for network in self._proxies):
            return False
        return request.headers.get("X-Forwarded-Proto", "").split(",")[0].strip().lower() == "https"

    def _behind_proxies(self, peer: str, request: web.Request) -> str:
        """The rightmost address that is not one of our proxies; what stands left of it could be made up."""
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ())).rsplit(",", FORWARDED_MAX)
        chain = [*(part.strip() for part in forwarded[-FORWARDED_MAX:]), peer]
        address = peer
        for candidate in reversed(chain):
            parsed = _parsed(candidate)
            if parsed is None:
                break
            address = candidate
            if not any(parsed in network for network in self._proxies):
                break
        return address

    def _name(self, address: str) -> str | None:
        """The client an address belongs to, or None when no limit applies to it."""
        parsed = _parsed(address)
        client: str | None = None
        if parsed is not None and not any(parsed in network for network in self._exempt):
            client = str(parsed) if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))
        if len(self._names) >= CLIENTS_MAX:
            self._names.clear()
        self._names[address] = client
        return client


def _networks(name: str, texts: Sequence[str]) -> list[Network]:
    try:
        return [ipaddress.ip_network(text, strict=False) for text in texts]
    except ValueError as error:
        raise ConfigurationError(what=f"http.{name} has an entry that is not a network:", why=f"{error}.") from None


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return parsed.ipv4_mapped or parsed if isinstance(parsed, ipaddress.IPv6Address) else parsed
