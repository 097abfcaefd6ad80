"""API keys: made once, shown once, kept only as a hash, and checked from memory.

A key is `fs_live_<key id>_<secret>`: twelve characters to find it by, and 256 random bits of which only the SHA-256 is
stored. Workers hold the active keys and look again every few seconds, so a storefront keeps its access while Postgres is
away.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import re
import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import structlog

from flashsale.clock import Clock
from flashsale.connections.database import Database
from flashsale.errors import BadInput, DatabaseUnavailable, FlashsaleError
from flashsale.log import Trouble

KEY_PREFIX = "fs_live_"
KEY_ID_LENGTH = 12
LABEL_LENGTH_MAX = 100
REFRESH_S = 2.0
REFRESH_TIMEOUT_S = 5.0
LOOK_AGAIN_S = 0.25
"""at most this often does an unknown key cause a look into Postgres"""

_KEY = re.compile(rf"{KEY_PREFIX}([A-Za-z0-9]{{{KEY_ID_LENGTH}}})_([A-Za-z0-9_-]{{43}})")
_ALPHABET = string.ascii_letters + string.digits
_NO_HASH = bytes(32)


class Scope(StrEnum):
    """What a key may be used for."""

    STOREFRONT = "storefront"
    MERCHANT = "merchant"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a valid key stands for."""

    key_id: str
    tenant: str
    scopes: frozenset[Scope]
    expires_at_ms: int | None = None
    """when the key ends by itself; None for never"""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as listed; without anything it could be used with."""

    key_id: str
    tenant: str
    scopes: tuple[str, ...]
    label: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Active:
    principal: Principal
    secret_hash: bytes


async def create_key(
    database: Database, scopes: Iterable[Scope | str], label: str = "", tenant: str = "default", expires_at_ms: int | None = None
) -> tuple[str, str]:
    """Makes a key; answers (key id, the whole key). The key is shown this once: only its hash is stored.

    Raises:
        BadInput: an unknown scope or none, or a label that is too long.
        DatabaseUnavailable: Postgres cannot be reached.
    """
    try:
        wanted = sorted({Scope(scope) for scope in scopes})
    except ValueError:
        raise BadInput(what="A scope is unknown.", field="scopes", todo=f"Scopes are {', '.join(Scope)}.") from None
    if not wanted:
        raise BadInput(what="A key needs at least one scope.", field="scopes", todo=f"Scopes are {', '.join(Scope)}.")
    if len(label) > LABEL_LENGTH_MAX:
        raise BadInput(what=f"A label has at most {LABEL_LENGTH_MAX} characters.", field="label")
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(KEY_ID_LENGTH))
    secret = secrets.token_urlsafe(32)
    await database.fetchval("key_insert", key_id, tenant, _hash_of(secret), [scope.value for scope in wanted], label, expires_at_ms)
    return key_id, f"{KEY_PREFIX}{key_id}_{secret}"


async def list_keys(database: Database, tenant: str | None = None) -> list[KeyRow]:
    """Keys of a tenant, or of all, the latest first. Raises DatabaseUnavailable."""
    return [
        KeyRow(
            key_id=row["key_id"],
            tenant=row["tenant"],
            scopes=tuple(row["scopes"]),
            label=row["label"],
            created_at=row["created_at"],
            expires_at=row["expires_at"],
            revoked_at=row["revoked_at"],
        )
        for row in await database.fetch("key_list", tenant)
    ]


async def revoke_key(database: Database, key_id: str) -> bool:
    """Ends a key; workers refuse it within a few seconds. False when there is no such key. Raises DatabaseUnavailable."""
    return await database.fetchval("key_revoke", key_id) is not None


class AccessKeys:
    """The active keys, in memory."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._active: dict[str, _Active] = {}
        self._read = False
        """whether they were ever read"""
        self._looked_at = float("-inf")
        self._looking: asyncio.Task[None] | None = None
        self._refreshing = asyncio.Lock()
        self._log = structlog.get_logger("access")

    async def run(self) -> None:
        """Looks for new and revoked keys every few seconds, until cancelled."""
        trouble = Trouble(self._log, "keys_not_refreshed", "keys_refreshed")
        while True:
            try:
                await self.refresh()
                trouble.passed()
            except (FlashsaleError, TimeoutError) as error:
                trouble.met(error=str(error) or "it took too long", kept=len(self._active))
            await asyncio.sleep(REFRESH_S * random.uniform(0.8, 1.2))  # noqa: S311 - spreads workers, no secret

    async def refresh(self) -> None:
        """Takes over the keys that are active now; on failure the ones known before stay.

        One at a time: an earlier reading that ends later would forget a key that was made in between.

        Raises:
            DatabaseUnavailable, TimeoutError: Postgres did not answer.
        """
        async with asyncio.timeout(REFRESH_TIMEOUT_S), self._refreshing:
            await self._refresh()

    async def _refresh(self) -> None:
        rows = await self._database.fetch("keys_active")
        self._active = {
            row["key_id"]: _Active(
                Principal(
                    key_id=row["key_id"],
                    tenant=row["tenant"],
                    scopes=frozenset(Scope(scope) for scope in row["scopes"] if scope in _SCOPES),
                    expires_at_ms=None if row["expires_at"] is None else int(row["expires_at"].timestamp() * 1000),
                ),
                bytes(row["secret_hash"]),
            )
            for row in rows
        }
        self._read, self._looked_at = True, self._clock.monotonic()

    def active(self, key_id: str) -> Principal | None:
        """Who the key `key_id` stands for while it is in force, as far as this process knows; it proves nobody's right to it."""
        found = self._active.get(key_id)
        if found is None:
            return None
        expires_at_ms = found.principal.expires_at_ms
        return None if expires_at_ms is not None and self._clock.now_ms() >= expires_at_ms else found.principal

    async def find(self, key_id: str) -> Principal | None:
        """As `active`; a key made a moment ago is looked up once, however many ask at the same time.

        Raises:
            DatabaseUnavailable: no key has been read since this process began, so nothing can be said of this one.
        """
        if key_id not in self._active:
            await self._look_again()
        return self.active(key_id)

    async def authenticate(self, key: str) -> Principal | None:
        """Who `key` stands for, or None. A key made a moment ago is looked up once, however many ask at the same time.

        Raises:
            DatabaseUnavailable: as `find` does.
        """
        match = _KEY.fullmatch(key)
        if match is None:
            return None
        if match[1] not in self._active:
            await self._look_again()
        return self._check(match[1], match[2])

    def _check(self, key_id: str, secret: str) -> Principal | None:
        found = self._active.get(key_id)
        # An unknown id costs the same comparison, so that time does not tell which ids exist.
        same = hmac.compare_digest(_hash_of(secret), found.secret_hash if found else _NO_HASH)
        return self.active(key_id) if same else None

    async def _look_again(self) -> None:
        if self._looking is None and self._clock.monotonic() - self._looked_at >= LOOK_AGAIN_S:
            self._looked_at = self._clock.monotonic()
            self._looking = asyncio.create_task(self._look())
        if self._looking is not None:
            await asyncio.shield(self._looking)
        if not self._read:
            raise DatabaseUnavailable(
                what="Your key cannot be checked yet:",
                why="Postgres has not answered since this worker began.",
                todo="Try again in a moment.",
            )

    async def _look(self) -> None:
        try:
            await self.refresh()
        except (FlashsaleError, TimeoutError):
            pass  # run() reports it; the keys known before go on working
        finally:
            self._looking = None


_SCOPES = frozenset(scope.value for scope in Scope)


def _hash_of(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
