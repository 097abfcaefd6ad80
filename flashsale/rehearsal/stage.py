"""Where a rehearsal is played: a Valkey of its own, and the scripts on it with the clock in our hand."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack

from flashsale.connections.durability import together
from flashsale.connections.store import open_store
from flashsale.drops import DropStore
from flashsale.embedded.valkey import EmbeddedValkey
from flashsale.errors import ScriptError
from flashsale.model import Drop
from flashsale.resources import resource_dir
from flashsale.scripts import Scripts, read_scripts
from flashsale.settings import Settings, load_settings

REQUESTS_PER_CALL = 512
LEAVE = "leave"
"""the one script here that takes a single request"""
Question = tuple[str, Sequence[Any]]
"""a script, and requests for it"""
OPENS_AT_MS = 1_893_456_000_000
"""2030-01-01: when every rehearsed drop opens, so that a rehearsal does not depend on when it is made"""
PATIENCE = {"timeout_ms": 30_000, "deadline_ms": 60_000}
"""A busy machine must not look like a store that is away."""


class Stage:
    """The scripts on an empty store, for one drop at a time."""

    def __init__(self, client: Any, settings: Settings) -> None:
        """`client` as `open_store` gives it; what it holds is thrown away by `set_up`."""
        self.client = client
        self.settings = settings
        self.scripts = Scripts(client, read_scripts(resource_dir("lua")), settings.store, settings.batch)
        self.drops = DropStore(self.scripts, settings)

    async def set_up(self, drop: Drop, draw_secret: bytes) -> None:
        """Empties the store and gives it the drop.

        Raises:
            StoreUnavailable, StoreUnknown: the store does not answer.
        """
        library = read_scripts(resource_dir("lua"))
        await self.client.flushall()
        self.scripts = Scripts(self.client, library, self.settings.store, self.settings.batch)
        self.drops = DropStore(self.scripts, self.settings)
        await self.client.config_set("appendfsync", "everysec")
        for script in library.values():
            await self.client.script_load(script.body)
        await self.drops.open(drop, draw_secret=draw_secret, injected_clock=True)

    def at(self, now_ms: int) -> None:
        """Sets the clock."""
        self.scripts.clock_ms = now_ms

    async def ask(self, drop_id: str, questions: Sequence[Question]) -> list[list[Any]]:
        """The results of each question's requests, one after the other in one round trip.

        Raises:
            ScriptError: a script failed.
            StoreUnknown: the store ended.
        """
        epoch, sequence = self.scripts.seen(drop_id)
        envelope: bytes = msgpack.packb((epoch, self.scripts.clock_ms, sequence))
        commands, askers = [], []
        for asker, (script, requests) in enumerate(questions):
            for first in range(0, len(requests), REQUESTS_PER_CALL):
                # Lua's msgpack knows no binary type: bytes are text there.
                packed: bytes = msgpack.packb(requests[first : first + REQUESTS_PER_CALL], use_bin_type=False)
                commands.append(("EVALSHA", *self.scripts.parameters(script, drop_id, envelope, packed)))
                askers.append(asker)
        results: list[list[Any]] = [[] for _ in questions]
        for asker, reply in zip(askers, await together(self.client, commands) if commands else (), strict=True):
            results[asker] += self._results(drop_id, questions[asker][0], reply)
        return results

    def _results(self, drop_id: str, script: str, reply: Any) -> list[Any]:
        if isinstance(reply, Exception):
            raise ScriptError(what=f"The script {script} failed in a rehearsal:", why=str(reply)) from reply
        word, _, found, *rest = msgpack.unpackb(reply, strict_map_key=False)
        if word != "done":
            raise ScriptError(what=f"The script {script} failed in a rehearsal:", why=f"it answered {word!r}.")
        self.scripts.learn(drop_id, self.scripts.seen(drop_id)[0], rest[0])
        results: list[Any] = found if script != LEAVE else [found]
        return results


@asynccontextmanager
async def private_stage(config: Path | None = None) -> AsyncIterator[Stage]:
    """A stage on a Valkey that is started for it alone and ended with the block; nothing of it stays.

    It does not wait for the disk, whatever the drop's durability: a rehearsal is nothing to lose.

    Raises:
        EmbeddedFailed: it did not come up.
        ConfigurationError: the settings in `config` or in the environment are not valid.
    """
    with tempfile.TemporaryDirectory(prefix="flashsale-rehearsal-") as name:
        folder = _reachable(name)
        server = EmbeddedValkey(folder / "valkey")
        await server.start()
        try:
            settings = load_settings(config, overrides={"store": {"url": server.url, **PATIENCE}})
            client = open_store(settings.store)
            try:
                yield Stage(client, settings)
            finally:
                await client.aclose()
        finally:
            await server.stop()


def _reachable(name: str) -> Path:
    folder = Path(name)
    folder.chmod(0o711)  # the server's own account must get in when we are root
    return folder


def rehearsed(drop: Drop) -> Drop:
    """The drop as it is rehearsed: at a fixed date, without waiting for a disk, and without asking anybody for randomness."""
    ahead_ms = OPENS_AT_MS - drop.opens_at_ms
    return replace(
        drop,
        joins_at_ms=drop.joins_at_ms + ahead_ms,
        opens_at_ms=OPENS_AT_MS,
        closes_at_ms=drop.closes_at_ms + ahead_ms,
        durability="second",
        beacon="none",
    )
