"""Whether a store is safe to sell from: its version, its settings, its clock."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from flashsale.connections.cluster import ClusterStore
from flashsale.connections.database import Database, Row, Session, database_unavailable
from flashsale.connections.store import store_unavailable
from flashsale.errors import UnsafeStore

VALKEY_VERSION_MIN = (8, 0)
REDIS_VERSION_MIN = (7, 2)
POSTGRES_VERSION_MIN = 15
CLOCK_DIFFERENCE_WARN_MS = 250
CLOCK_DIFFERENCE_MAX_MS = 2000
_CLOCK_SAMPLES = 3
_SETTINGS = ("maxmemory-policy", "appendonly", "appendfsync", "cluster-enabled", "cluster-require-full-coverage")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check of a store found."""

    name: str
    """short and stable: `store.version`, `postgres.fsync`"""
    level: Literal["ok", "warn", "unsafe"]
    what: str
    todo: str = ""
    """what to change; empty when ok"""


def require_safe(findings: Sequence[Finding]) -> None:
    """Pass when no finding is unsafe.

    Raises:
        UnsafeStore: says what is unsafe and what to change; several are joined.
    """
    unsafe = [finding for finding in findings if finding.level == "unsafe"]
    if unsafe:
        raise UnsafeStore(what=" ".join(finding.what for finding in unsafe), todo=" ".join(finding.todo for finding in unsafe))


async def check_store(client: Redis) -> list[Finding]:
    """Is this store safe to sell from? Version, eviction, persistence, clock; on a cluster, of every primary.

    Raises:
        StoreUnavailable: it does not answer.
    """
    findings: list[Finding] = []
    with store_unavailable("the configured URL"):
        for server in await _servers(client):
            info = await _command(server, "INFO", "server")
            settings = await _store_settings(server)
            findings += [_store_version(info), *_store_safety(settings)]
            findings.append(await _clock_finding("store", lambda server=server: _store_clock_ms(server)))  # type: ignore[misc]
    return list(dict.fromkeys(findings))


async def _servers(client: Redis) -> list[Redis]:
    """A client of each server that takes writes."""
    anything: object = client  # open_store says Redis for a cluster too
    return await anything.primaries() if isinstance(anything, ClusterStore) else [client]


async def _command(server: Redis, *words: str) -> Any:
    return await server.execute_command(*words)  # type: ignore[no-untyped-call]


async def _store_clock_ms(server: Redis) -> float:
    seconds, microseconds = await _command(server, "TIME")
    return int(seconds) * 1000 + int(microseconds) / 1000


async def _store_settings(server: Redis) -> dict[str, str] | None:
    """The settings that matter; None where a managed service forbids asking."""
    try:
        reply = await _command(server, "CONFIG GET", *_SETTINGS)
    except ResponseError:
        return None
    return {_text(name): _text(value) for name, value in reply.items()}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _store_version(info: Mapping[str, Any]) -> Finding:
    product, minimum = ("Valkey", VALKEY_VERSION_MIN) if "valkey_version" in info else ("Redis", REDIS_VERSION_MIN)
    text = str(info.get("valkey_version", info.get("redis_version", "0")))
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    if version >= minimum:
        return Finding("store.version", "ok", f"{product} {text}.")
    return Finding(
        "store.version", "unsafe", f"The store is {product} {text}, which is too old.", "Use Valkey 8 or newer, or Redis 7.2 or newer."
    )


def _store_safety(settings: Mapping[str, str] | None) -> list[Finding]:
    if settings is None:
        return [
            Finding(
                "store.settings",
                "warn",
                "The store does not let its settings be read.",
                "Make sure of maxmemory-policy noeviction, appendonly yes and appendfsync always in its console.",
            )
        ]
    return [_eviction(settings.get("maxmemory-policy", "")), _persistence(settings), *_coverage(settings)]


def _eviction(policy: str) -> Finding:
    if policy == "noeviction":
        return Finding("store.eviction", "ok", "Nothing is evicted.")
    return Finding(
        "store.eviction",
        "unsafe",
        f"The store may throw reservations away when memory runs low (maxmemory-policy is {policy}).",
        "Set maxmemory-policy noeviction.",
    )


def _persistence(settings: Mapping[str, str]) -> Finding:
    if settings.get("appendonly") != "yes":
        return Finding(
            "store.persistence",
            "unsafe",
            "The store forgets every reservation when it restarts (appendonly is no).",
            "Set appendonly yes and appendfsync always.",
        )
    match settings.get("appendfsync"):
        case "always":
            return Finding("store.persistence", "ok", "A reply means on disk.")
        case "everysec":
            return Finding(
                "store.persistence",
                "warn",
                "The store may lose the last one or two seconds at power loss (appendfsync is everysec).",
                "Set appendfsync always, unless the drops are meant to have durability 'second'.",
            )
        case other:
            return Finding(
                "store.persistence",
                "unsafe",
                f"The store never forces its log to disk (appendfsync is {other}).",
                "Set appendfsync always.",
            )


def _coverage(settings: Mapping[str, str]) -> list[Finding]:
    if settings.get("cluster-enabled") != "yes":
        return []
    if settings.get("cluster-require-full-coverage") == "no":
        return [Finding("store.coverage", "ok", "A node that is away stops its own drops only.")]
    return [
        Finding(
            "store.coverage",
            "warn",
            "When one node is away, the whole cluster stops, and with it every drop (cluster-require-full-coverage is yes).",
            "Set cluster-require-full-coverage no: a drop lives on one node, and the others can go on.",
        )
    ]


# Settings of the connection itself, so it stands here and not with the reconciler's queries.
_POSTGRES_STATE = """
SELECT current_setting('server_version_num')::int / 10000 AS version,
       current_setting('server_version') AS version_text,
       current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       pg_is_in_recovery() AS is_standby
"""


async def check_database(database: Database) -> list[Finding]:
    """Is this Postgres safe to keep orders in? Version, durability, role, clock.

    Raises:
        DatabaseUnavailable: it does not answer.
    """
    async with database.acquire() as session:
        with database_unavailable("the configured URL"):
            state = await session.connection.fetchrow(_POSTGRES_STATE)
            clock = await _clock_finding("postgres", lambda: _database_clock_ms(session))
    assert state is not None
    return [_postgres_version(state), *_postgres_durability(state), _postgres_role(state), clock]


async def _database_clock_ms(session: Session) -> float:
    return float(await session.connection.fetchval("SELECT extract(epoch FROM clock_timestamp()) * 1000"))


def _postgres_version(state: Row) -> Finding:
    if state["version"] >= POSTGRES_VERSION_MIN:
        return Finding("postgres.version", "ok", f"Postgres {state['version_text']}.")
    return Finding(
        "postgres.version",
        "unsafe",
        f"The database is Postgres {state['version_text']}, which is too old.",
        f"Use Postgres {POSTGRES_VERSION_MIN} or newer.",
    )


def _postgres_durability(state: Row) -> list[Finding]:
    findings = [Finding("postgres.durability", "ok", "A commit means on disk.")]
    if state["fsync"] != "on":
        findings = [
            Finding("postgres.fsync", "unsafe", "Postgres never forces its log to disk, so a power loss ruins it.", "Set fsync = on.")
        ]
    elif state["synchronous_commit"] == "off":
        findings = [
            Finding(
                "postgres.synchronous_commit",
                "unsafe",
                "Postgres acknowledges orders before they are on disk (synchronous_commit is off).",
                "Set synchronous_commit = on.",
            )
        ]
    if state["full_page_writes"] != "on":
        findings.append(
            Finding(
                "postgres.full_page_writes",
                "warn",
                "A power loss may tear pages (full_page_writes is off).",
                "Set full_page_writes = on, unless the file system writes whole pages.",
            )
        )
    return findings


def _postgres_role(state: Row) -> Finding:
    if state["is_standby"]:
        return Finding("postgres.role", "unsafe", "This Postgres is a standby and cannot take orders.", "Set postgres.url to the primary.")
    return Finding("postgres.role", "ok", "Primary.")


async def _clock_finding(store: str, read_ms: Callable[[], Awaitable[float]]) -> Finding:
    """How far `store`'s clock is from this process's. The quickest of a few questions has the least error."""
    samples = []
    for _ in range(_CLOCK_SAMPLES):
        before = time.time()
        theirs_ms = await read_ms()
        after = time.time()
        samples.append((after - before, theirs_ms - (before + after) / 2 * 1000))
    return _judge_clock(store, min(samples)[1])


def _judge_clock(store: str, difference_ms: float) -> Finding:
    name = f"{store}.clock"
    size = abs(difference_ms)
    if size <= CLOCK_DIFFERENCE_WARN_MS:
        # No number: the finding of an unchanged store stays equal from one check to the next.
        return Finding(name, "ok", "Its clock agrees with this machine's.")
    direction = "ahead of" if difference_ms > 0 else "behind"
    level: Literal["warn", "unsafe"] = "unsafe" if size > CLOCK_DIFFERENCE_MAX_MS else "warn"
    return Finding(
        name,
        level,
        f"The clock of the {store} is {size:.0f} ms {direction} this machine's, so drops open and tokens expire at the wrong time.",
        "Let NTP set both clocks.",
    )
