"""What `flashsale doctor` looks at. Every check answers findings; that a store does not answer is a finding too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from flashsale.cli.compose import read_signing_keys
from flashsale.cli.durability import check_durability
from flashsale.cli.output import counted, span
from flashsale.cli.recover import condition_in_words, recovery_of
from flashsale.cli.target import Parts, Target, find_target, opened
from flashsale.connections.checks import Finding, check_database, check_store
from flashsale.connections.wording import redacted
from flashsale.errors import FlashsaleError
from flashsale.keys import drop_keys
from flashsale.recorded import recorded_drops
from flashsale.settings import Settings
from reconciler.journal import Journal
from reconciler.migrations import pending
from reconciler.recovery import Condition

Check: TypeAlias = Callable[[], Awaitable[list[Finding]]]

JOURNAL_AGE_WARN_MS = 5_000
"""Older unfinished entries mean that no reconciler keeps up; healthy ones need milliseconds."""
REFUND_AGE_WARN_MS = 3_600_000
"""A provider that is asked answers within minutes."""
CHECK_TIMEOUT_S = 8.0


async def diagnose(config: Path | None, data: Path | None) -> list[Finding]:
    """Everything that can be found out about the installation the options mean."""
    try:
        target = find_target(config, data)
    except FlashsaleError as error:
        return [Finding("settings", "unsafe", f"{error.what} {error.why}".strip(), error.todo)]
    async with opened(target.settings) as parts:
        found = [_settings(target), _signing_keys(target.settings)]
        for name, check in (
            ("store", lambda: check_store(parts.store)),
            ("postgres", lambda: check_database(parts.database)),
        ):
            found += await _asked(name, check)
        if not _unreachable(found, "postgres"):
            found += await _asked("postgres", lambda: _migrations(target.settings))
            found += await _asked("postgres", lambda: _refunds(parts))
        if not _unreachable(found, "store"):
            found += await _asked("store", lambda: check_durability(parts))
            found += await _asked("store", lambda: _drops(parts, database_answers=not _unreachable(found, "postgres")))
        return found


def _unreachable(findings: list[Finding], name: str) -> bool:
    return any(finding.name == f"{name}.reachable" for finding in findings)


async def _asked(name: str, check: Check) -> list[Finding]:
    """What `check` finds; that the store does not answer is a finding too."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check()
    except TimeoutError:
        return [Finding(f"{name}.reachable", "unsafe", f"It does not answer within {CHECK_TIMEOUT_S:.0f} s.", "Look at its own log.")]
    except FlashsaleError as error:
        return [Finding(f"{name}.reachable", "unsafe", f"{error.what} {error.why}".strip(), error.todo)]


def _settings(target: Target) -> Finding:
    settings = target.settings
    where = f"of 'flashsale up' in {target.data_dir}, process {target.runtime.pid}" if target.runtime else "readable"
    if settings.payments.test_provider and target.runtime is None:
        return Finding(
            "settings", "warn", "The test payment provider is on, so anyone can pay with nothing.", "Set payments.test_provider to false."
        )
    return Finding("settings", "ok", f"Settings {where}; store {redacted(settings.store.url)}.")


def _signing_keys(settings: Settings) -> Finding:
    try:
        keys = read_signing_keys(settings.tokens.signing_keys_file)
    except FlashsaleError as error:
        return Finding("signing_keys", "unsafe", f"{error.what} {error.why}".strip(), error.todo)
    return Finding("signing_keys", "ok", f"{len(keys.keys)} keys, one of each purpose signs.")


async def _migrations(settings: Settings) -> list[Finding]:
    names = await pending(settings.postgres.url)
    if names:
        return [
            Finding("postgres.migrations", "unsafe", f"{len(names)} migrations are pending, from {names[0]}.", "Run 'flashsale migrate'.")
        ]
    return [Finding("postgres.migrations", "ok", "The database is up to date.")]


async def _refunds(parts: Parts) -> list[Finding]:
    """Payments that wait to go back: for a person, or for longer than it should take."""
    backlog = await parts.database.fetchrow("refunds_backlog")
    assert backlog is not None
    found = []
    if waiting := backlog["for_people"]:
        what = f"{counted(waiting, 'payment')} to be decided about by a person: held, or refused by the provider."
        found.append(Finding("refunds.for_people", "warn", what, "'flashsale refunds list' shows them and says what can be done."))
    if (age_ms := int(backlog["oldest_s"] * 1000)) > REFUND_AGE_WARN_MS:
        what = f"The oldest payment that is to go back waits since {span(age_ms)}."
        found.append(
            Finding("refunds.oldest", "warn", what, "'flashsale refunds list' shows why; without a provider it is given back by hand.")
        )
    return found or [Finding("refunds", "ok", "No payment waits for a person.")]


async def _drops(parts: Parts, *, database_answers: bool) -> list[Finding]:
    ids = await parts.drops.ids()
    findings = [await _journal(parts, drop_id) for drop_id in sorted(ids)]
    findings += [dead for drop_id in sorted(ids) if (dead := await _dead_letters(parts, drop_id))]
    if database_answers:
        findings += [
            Finding(f"drop.{row['drop_id']}", "warn", "The store has not been given this drop.", "Is a reconciler running? It does that.")
            for row in await parts.database.fetch("drops_to_open")
        ]
        findings += [await _held(parts, drop_id) for drop_id in sorted(await recorded_drops(parts.database))]
    return findings or [Finding("drops", "ok", "There are none yet.")]


async def _held(parts: Parts, drop_id: str) -> Finding:
    """Whether the store holds the drop as Postgres remembers it."""
    found = await recovery_of(parts).find(drop_id)
    name = f"drop.{drop_id}"
    if found.condition is Condition.SOUND:
        return Finding(name, "ok", "The store holds it as Postgres remembers it.")
    return Finding(
        name,
        "unsafe",
        f"Nothing is sold: {condition_in_words(found)}.",
        f"Mend the store if it is the wrong one, then run 'flashsale recover {drop_id}'; see docs/recovery.md.",
    )


async def _journal(parts: Parts, drop_id: str) -> Finding:
    name = f"journal.{drop_id}"
    age_ms = await Journal(parts.store, drop_id, "doctor").oldest_unfinished_ms()
    if age_ms is None or age_ms < JOURNAL_AGE_WARN_MS:
        return Finding(name, "ok", "Orders are recorded as they come.")
    return Finding(
        name,
        "warn",
        f"The oldest entry waits for Postgres since {age_ms / 1000:.0f} s.",
        "Is a reconciler running, and does Postgres answer? Nothing is lost meanwhile.",
    )


async def _dead_letters(parts: Parts, drop_id: str) -> Finding | None:
    count = await parts.store.xlen(drop_keys(drop_id).dead)
    if not count:
        return None
    return Finding(
        f"dead_letters.{drop_id}",
        "unsafe",
        f"{count} journal entries could not be understood and were set aside.",
        f"Read them with XRANGE {drop_keys(drop_id).dead} - + and report them; no order was made from them.",
    )
