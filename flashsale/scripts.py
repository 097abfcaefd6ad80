"""The Lua scripts from Python: reading their headers, calling them, and the group commit in front of them.

A call answers `("done", now_ms, results, sequence)` or `("recovering", epoch, [])`. Every writing script is idempotent by ids made
by the caller, so a call whose answer was lost is simply repeated with the same arguments until the deadline.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgpack
from redis.exceptions import NoScriptError, ResponseError

from flashsale.connections.calls import StoreCalls, code_of
from flashsale.connections.durability import Durabilities, on_replicas, together, waiting_for_replicas
from flashsale.errors import Busy, Recovering, ScriptError, StoreUnavailable, StoreUnknown
from flashsale.keys import DROPS, drop_keys
from flashsale.model import Durability
from flashsale.settings import BatchSettings, StoreSettings

Request = TypeVar("Request")
Result = TypeVar("Result")

REFUSED_BEFORE_START = ("OOM", "MISCONF", "NOREPLICAS", "BUSY")
NOT_AWAITED = frozenset({"open_drop", "advance", "expire", "steer_drop", "close_drop", "fence", "rebuild", "inspect"})
"""Scripts whose answer acknowledges nothing to a shopper, so that no durability is waited for: a merchant can pause a drop, and
units come back, while no replica is there."""

_HEADER = re.compile(r"^-- (?P<field>KEYS\[\d+\]|ARGV\[\d+\]|RETURNS|OUTCOMES|COST|INCLUDE) (?P<text>.+)$")


@dataclass(frozen=True, slots=True)
class Script:
    """One transition: its contract, read from the header, and the text the store runs."""

    name: str
    flags: tuple[str, ...]
    purpose: str
    keys: tuple[str, ...]
    """attribute names of `DropKeys`, in KEYS order"""
    key_types: tuple[str, ...]
    arguments: tuple[str, ...]
    outcomes: tuple[str, ...]
    includes: tuple[str, ...]
    body: str
    sha: str
    """SHA-1 of the body: the name the store knows it by"""


def read_script(path: Path) -> Script:
    """The script in `path`, its includes expanded once each, in the order named.

    Raises:
        ValueError: the header breaks the contract (see `lua/README.md`).
    """
    source = path.read_text(encoding="utf-8")
    first, _, rest = source.partition("\n")
    if not first.startswith("#!lua"):
        raise ValueError(f"{path.name}: the first line must be #!lua, so that the store checks memory and disk before a script starts")
    fields, purpose = _read_header(rest)
    if not purpose or "OUTCOMES" not in fields or "RETURNS" not in fields or "COST" not in fields:
        raise ValueError(f"{path.name}: the header needs a purpose, RETURNS, OUTCOMES and COST")
    keys = [text.split() for text in _numbered(fields, "KEYS", path.name)]
    includes = tuple(fields.get("INCLUDE", "").split())
    parts = [first, *((path.parent / "include" / f"{name}.lua").read_text(encoding="utf-8") for name in includes), rest]
    body = "\n".join(parts)
    return Script(
        name=path.stem,
        flags=tuple(first.partition("flags=")[2].split(",")) if "flags=" in first else (),
        purpose=purpose,
        keys=tuple(words[0] for words in keys),
        key_types=tuple(words[1].rstrip(":") for words in keys),
        arguments=tuple(text.split()[0] for text in _numbered(fields, "ARGV", path.name)),
        outcomes=tuple(fields["OUTCOMES"].split()),
        includes=includes,
        body=body,
        sha=hashlib.sha1(body.encode(), usedforsecurity=False).hexdigest(),
    )


def _read_header(text: str) -> tuple[dict[str, str], str]:
    fields: dict[str, str] = {}
    purpose: list[str] = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        if match := _HEADER.match(line):
            fields[match["field"]] = match["text"]
        elif not fields:
            purpose.append(line.removeprefix("--").strip())
    return fields, " ".join(purpose)


def _numbered(fields: dict[str, str], kind: str, name: str) -> list[str]:
    found = {int(field[5:-1]): text for field, text in fields.items() if field.startswith(kind + "[")}
    if sorted(found) != list(range(1, len(found) + 1)):
        raise ValueError(f"{name}: {kind} must be numbered from 1 without gaps")
    return [found[number] for number in sorted(found)]


def read_scripts(folder: Path) -> dict[str, Script]:
    """All scripts of a folder by name."""
    return {path.stem: read_script(path) for path in sorted(folder.glob("*.lua"))}


class Scripts:
    """Calls scripts on one store and repeats what may have been lost.

    Knows the highest epoch and the highest sequence seen of each drop and sends them along: a store that has forgotten the
    drop, or went back in time, answers "recovering" instead of acting.
    """

    def __init__(
        self,
        client: Any,  # of open_store; its command methods are hardly annotated
        scripts: dict[str, Script],
        store: StoreSettings,
        batch: BatchSettings,
        on_circuit: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """Describe the scripts on the store of `client`; `on_circuit` as for `StoreCalls`."""
        self._client = client
        self._scripts = scripts
        self._calls = StoreCalls(client, store, on_circuit)
        self._timeout_ms = store.timeout_ms
        self._durabilities = Durabilities(self._calls, store.timeout_ms)
        self._batch = batch
        self._epochs: dict[str, int] = {}
        self._sequences: dict[str, int] = {}
        self.clock_ms = 0
        """Time for drops made with an injected clock; 0 in production."""

    @property
    def calls(self) -> StoreCalls:
        """For reading what no script is needed for."""
        return self._calls

    def learn_epoch(self, drop_id: str, epoch: int) -> None:
        """Remembers that the drop has reached `epoch`; sequences count within an epoch."""
        if epoch > self._epochs.get(drop_id, 0):
            self._epochs[drop_id] = epoch
            self._sequences[drop_id] = 0

    def learn(self, drop_id: str, epoch: int, sequence: int) -> None:
        """Remembers how far the drop had come when somebody else saw it: a store that has not come as far is recovering."""
        self.learn_epoch(drop_id, epoch)
        if epoch == self._epochs.get(drop_id):
            self._sequences[drop_id] = max(sequence, self._sequences.get(drop_id, 0))

    def seen(self, drop_id: str) -> tuple[int, int]:
        """(epoch, sequence) this process has seen the drop reach; zeros when it has seen nothing."""
        return self._epochs.get(drop_id, 0), self._sequences.get(drop_id, 0)

    async def call(self, name: str, drop_id: str, *arguments: bytes | str | int) -> tuple[int, Any]:
        """Runs a script that takes an envelope; answers (store time in ms, results).

        Raises:
            Recovering: the store does not hold this drop, or holds an earlier epoch of it.
            StoreUnavailable: refused before it started; nothing changed.
            StoreUnknown: no answer within the deadline; repeating with the same ids tells.
            ScriptError: the arguments break the script's contract.
        """
        for _ in range(2):
            known, sequence = self.seen(drop_id)
            envelope: bytes = msgpack.packb((known, self.clock_ms, sequence))
            word, number, results, *rest = msgpack.unpackb(await self.run(name, drop_id, envelope, *arguments), strict_map_key=False)
            if word == "done":
                if known == self._epochs.get(drop_id, 0) and rest[0] > self._sequences.get(drop_id, 0):
                    self._sequences[drop_id] = rest[0]
                return number, results
            if number <= known:
                break
            self.learn_epoch(drop_id, number)
        raise Recovering(what=f"The drop {drop_id} is being recovered.", todo="Try again in a moment.")

    async def drop_ids(self) -> set[str]:
        """Ids of all drops this store has been given.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        return {member.decode() for member in await self._command("SMEMBERS", DROPS)}

    async def add_drop_id(self, drop_id: str) -> None:
        """Makes a drop known to every process; adding it twice is harmless. Raises as `drop_ids` does."""
        await self._command("SADD", DROPS, drop_id)

    async def _command(self, *command: str | int) -> Any:
        try:
            return await self._calls.command(*command)
        except (StoreUnknown, ResponseError) as error:
            raise StoreUnavailable(what="The store cannot be reached.", todo="Try again in a moment.") from error

    async def read(self, drop_id: str, word: str, key: str, *arguments: str | int) -> Any:
        """A reading command on one of the drop's keys, by the key's name in `DropKeys`.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        return await self._command(word, getattr(drop_keys(drop_id), key), *arguments)

    async def require_durability(self, drop_id: str, durability: Durability) -> None:
        """Returns when the store that would hold the drop keeps `durability`.

        Raises:
            UnsafeStore: it does not; says what to change.
            StoreUnavailable: it does not answer.
        """
        try:
            await self._durabilities.require(drop_id, durability)
        except (StoreUnknown, ResponseError) as error:
            raise StoreUnavailable(what="The store cannot be reached.", todo="Try again in a moment.") from error

    def forget_durability(self, drop_id: str) -> None:
        """The drop may have been made anew; its durability is read again before it is relied on."""
        self._durabilities.forget(drop_id)

    async def run(self, name: str, drop_id: str, *arguments: bytes | str | int) -> bytes:
        """Runs a script with the keys its header names and answers its reply as it is, once that is as durable as the drop needs.

        Raises as `call` does.
        """
        script = self._scripts[name]
        parameters = self.parameters(name, drop_id, *arguments)

        async def send() -> bytes:
            if script.name in NOT_AWAITED:
                return await self._evaluate(script, parameters)
            return await self._evaluate_durably(script, parameters, drop_id)

        try:
            return await self._calls.call(drop_keys(drop_id).drop, send)
        except ResponseError as error:
            raise _meaning(script, error) from error

    def parameters(self, name: str, drop_id: str, *arguments: bytes | str | int) -> tuple[Any, ...]:
        """What follows EVALSHA on the wire: the script's SHA, the number of keys, the keys, the arguments."""
        script = self._scripts[name]
        keys = drop_keys(drop_id)
        return (script.sha, len(script.keys), *(getattr(keys, key) for key in script.keys), *arguments)

    async def _evaluate(self, script: Script, parameters: Sequence[Any]) -> bytes:
        try:
            reply = await self._client.execute_command("EVALSHA", *parameters)
        except NoScriptError:
            # EVAL both runs and loads, on whichever node owns the keys; SCRIPT LOAD would need to know the node.
            reply = await self._client.execute_command("EVAL", script.body, *parameters[1:])
        return bytes(reply)

    async def _evaluate_durably(self, script: Script, parameters: Sequence[Any], drop_id: str) -> bytes:
        durability = await self._durabilities.of(drop_id)
        if durability is Durability.REPLICA:
            return await self._evaluate_on_replicas(script, parameters, drop_id)
        reply = await self._evaluate(script, parameters)
        if durability is None and await self._durabilities.of(drop_id) is Durability.REPLICA:
            raise _not_durable()  # the store was given the drop between the look and the call
        return reply

    async def _evaluate_on_replicas(self, script: Script, parameters: Sequence[Any], drop_id: str) -> bytes:
        waiting = waiting_for_replicas(drop_keys(drop_id), self._timeout_ms)
        replies = await together(self._client, (("EVALSHA", *parameters), *waiting))
        if isinstance(replies[0], NoScriptError):
            replies = await together(self._client, (("EVAL", script.body, *parameters[1:]), *waiting))
        if isinstance(replies[0], Exception):
            raise replies[0]
        if not on_replicas(replies):
            self._durabilities.forget(drop_id)
            raise _not_durable()
        return bytes(replies[0])

    def batcher(self, name: str, drop_id: str, decode: Callable[[list[Any], list[Any], int], list[Any]]) -> Batcher[Any, Any]:
        """A group-commit batcher for a hot script of one drop.

        `decode` turns (requests, raw results, store time in ms) of one call into results for the callers.
        """

        async def send(requests: list[Any]) -> list[Any]:
            # Lua's msgpack knows no binary type: bytes are text there.
            packed: bytes = msgpack.packb(requests, use_bin_type=False)
            now_ms, results = await self.call(name, drop_id, packed)
            return decode(requests, results, now_ms)

        return Batcher(send, self._batch)


def _meaning(script: Script, error: ResponseError) -> StoreUnavailable | ScriptError:
    code = code_of(error)
    if code in REFUSED_BEFORE_START:
        return StoreUnavailable(what="The store refuses writes at the moment.", why=f"{code}.", todo="Try again in a moment.")
    return ScriptError(what=f"The script {script.name} failed:", why=str(error))


def _not_durable() -> StoreUnknown:
    return StoreUnknown(
        what="The store has done it, and no replica has confirmed it in time; it may still be lost.",
        todo="Repeat it with the same key to get the one true outcome.",
    )


class Batcher(Generic[Request, Result]):
    """Group commit: requests that arrive while calls are in flight go out together as the next call.

    There is no timer. An idle batcher sends at the end of the event loop's present turn, so requests that arrived
    together travel together and a lone one does not wait. Bounds: `size_max` requests a call, `in_flight_max` calls,
    `waiting_max` requests waiting.
    """

    def __init__(self, send: Callable[[list[Request]], Awaitable[list[Result]]], limits: BatchSettings) -> None:
        self._send = send
        self._size_max = limits.size_max
        self._in_flight_max = limits.in_flight_max
        self._waiting_max = limits.waiting_max
        self._waiting: deque[tuple[Request, asyncio.Future[Result]]] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._scheduled = False

    def submit(self, request: Request) -> asyncio.Future[Result]:
        """Queues a request; the future gets its result, or the exception of the call it went out with.

        Raises:
            Busy: the waiting line is full.
        """
        if len(self._waiting) >= self._waiting_max:
            raise Busy(what="Too many requests are waiting for the store.", todo="Try again in a moment.")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((request, future))
        if not self._scheduled and len(self._calls) < self._in_flight_max:
            self._scheduled = True
            loop.call_soon(self._start)
        return future

    def _start(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._calls) < self._in_flight_max:
            batch = self._take()
            if batch:
                task = asyncio.ensure_future(self._run(batch))
                self._calls.add(task)
                task.add_done_callback(self._finished)

    def _take(self) -> list[tuple[Request, asyncio.Future[Result]]]:
        batch: list[tuple[Request, asyncio.Future[Result]]] = []
        waiting = self._waiting
        while waiting and len(batch) < self._size_max:
            item = waiting.popleft()
            if not item[1].done():  # a caller that went away before its request was sent
                batch.append(item)
        return batch

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self._start()

    async def _run(self, batch: list[tuple[Request, asyncio.Future[Result]]]) -> None:
        try:
            results = _one_each(batch, await self._send([request for request, _ in batch]))
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else _stopped_unanswered())
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)


def _stopped_unanswered() -> StoreUnknown:
    return StoreUnknown(
        what="The service is stopping before the store has answered; the request may or may not have taken effect.",
        todo="Repeat it with the same key to get the one true outcome.",
    )


def _one_each(requests: Sequence[object], results: list[Result]) -> list[Result]:
    if len(results) != len(requests):
        raise ScriptError(what=f"A call with {len(requests)} requests got {len(results)} answers; nobody can tell whose they are.")
    return results
