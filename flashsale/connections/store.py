"""The hot store: one client for a single server, Sentinel or a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import Connection, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from flashsale.connections.cluster import Address, ClusterStore
from flashsale.connections.pools import SentinelPool, Sentinels, StorePool
from flashsale.connections.wording import reason_of, reason_unquoted, redacted
from flashsale.errors import ConfigurationError, StoreUnavailable
from flashsale.settings import StoreSettings

# The older protocol has reply shapes that never changed; nothing here needs what RESP3 adds.
RESP_VERSION = 2
SENTINEL_TIMEOUT_S = 0.5
"""For one Sentinel to answer, before the next is asked."""


def open_store(settings: StoreSettings, *, blocks_ms: int = 0) -> Redis:
    """A client for the store named by `settings.url`; connects on first use.

    Schemes: `redis://`, `unix://`, `redis+sentinel://host:port,host:port/master`, `redis+cluster://host:port,host:port`; with
    `rediss` for `redis`, over TLS.
    Replies are bytes. A command fails after `settings.timeout_ms`, and after half of that when it takes as long to get a
    connection (`pools.NotSent`); it is never repeated by the client.

    Args:
        settings: where the store is, its time limit and its number of connections.
        blocks_ms: how long the longest blocking command (XREADGROUP BLOCK) may rightly take on top of the time limit.

    Raises:
        ConfigurationError: the URL is malformed.
    """
    options: dict[str, Any] = {
        "protocol": RESP_VERSION,
        "decode_responses": False,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": (settings.timeout_ms + blocks_ms) / 1000,
        "socket_connect_timeout": settings.timeout_ms / 2000,
        "health_check_interval": 0,
        "client_name": "flashsale",
    }
    url = urlsplit(settings.url)
    try:
        match url.scheme:
            case "redis+cluster" | "rediss+cluster":
                return _open_cluster(url, options, settings.connections_max)
            case "redis+sentinel" | "rediss+sentinel":
                return _open_sentinel(url, options, settings.connections_max)
            case _:
                pool = StorePool.from_url(
                    settings.url, max_connections=settings.connections_max, timeout=options["socket_connect_timeout"], **options
                )
                return Redis.from_pool(pool)
    except ValueError as error:
        raise ConfigurationError(
            what=f"The store's URL {redacted(settings.url)} is not valid:",
            why=f"{reason_unquoted(error)}.",
            todo="It looks like redis://host:6379/0, unix:///path, redis+sentinel://host:26379/master or redis+cluster://host:6379;"
            " a password in it is percent-encoded.",
        ) from error


def _open_cluster(url: SplitResult, options: dict[str, Any], connections_max: int) -> Redis:
    account: dict[str, Any] = {"username": _unquoted(url.username), "password": _unquoted(url.password)}
    connection_class = SSLConnection if url.scheme.startswith("rediss") else Connection

    def connect(address: Address) -> Redis:
        host, port = address
        return Redis.from_pool(
            StorePool(
                host=host,
                port=port,
                connection_class=connection_class,
                max_connections=connections_max,
                timeout=options["socket_connect_timeout"],
                **account,
                **options,
            )
        )

    # It has the same commands but another base class.
    return cast("Redis", ClusterStore(_hosts_and_ports(url, 6379), connect))


def _open_sentinel(url: SplitResult, options: dict[str, Any], connections_max: int) -> Redis:
    service, _, database = url.path.strip("/").partition("/")
    if not service:
        raise ValueError("the name of the Sentinel master is missing after the host")
    timeout_s = min(SENTINEL_TIMEOUT_S, options["socket_connect_timeout"])
    asking = {"retry": options["retry"], "protocol": RESP_VERSION, "socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    sentinel = Sentinels(_hosts_and_ports(url, 26379), sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    return cast(
        "Redis",
        sentinel.master_for(
            service,
            db=int(database or 0),
            username=_unquoted(url.username),
            password=_unquoted(url.password),
            max_connections=connections_max,
            timeout=options["socket_connect_timeout"],
            ssl=url.scheme.startswith("rediss"),
            connection_pool_class=SentinelPool,
            **options,
        ),
    )


def _hosts_and_ports(url: SplitResult, default_port: int) -> list[Address]:
    """Of `host:port,host:port`, after an account if there is one."""
    return [_host_and_port(part, default_port) for part in url.netloc.rpartition("@")[2].split(",")]


def _host_and_port(text: str, default_port: int) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if host else (port, default_port)


def _unquoted(text: str | None) -> str | None:
    return None if text is None else unquote(text)


async def ping_store(url: str, *, timeout_ms: int) -> None:
    """Return when the store at `url` answers a PING.

    Raises:
        StoreUnavailable: it does not, or not yet.
    """
    client = open_store(StoreSettings(url=url, timeout_ms=timeout_ms, deadline_ms=timeout_ms, connections_max=1))
    try:
        with store_unavailable(url):
            await client.ping()
    finally:
        await client.aclose()


@contextmanager
def store_unavailable(where: str) -> Iterator[None]:
    """Errors of the client's inside mean that the store at `where` does not answer."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailable(
            what=f"The store at {redacted(where)} does not answer:",
            why=f"{reason_of(error)}.",
            todo="Start it, or set store.url (FLASHSALE_STORE_URL) to the right one.",
        ) from error
