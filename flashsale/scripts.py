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
from redis.exceptions import (
    BusyLoadingError,
    NoScriptError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as StoreConnectionError,
)
from redis.exceptions import (
    TimeoutError as StoreTimeoutError,
)

from flashsale.errors import Busy, Recovering, ScriptError, StoreUnavailable, StoreUnknown
from flashsale.keys import DROPS, drop_keys
from flashsale.settings import BatchSettings, StoreSettings

Request = TypeVar("Request")
Result = TypeVar("Result")

REPEAT_PAUSE_S = 0.02
REPEAT_PAUSE_MAX_S = 0.5
REFUSED_BEFORE_START = ("OOM", "MISCONF", "READONLY", "NOREPLICAS", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "BUSY")
REPEATABLE = ("TRYAGAIN", "UNBLOCKED")

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

    def __init__(self, client: Any, scripts: dict[str, Script], store: StoreSettings, batch: BatchSettings) -> None:
        self._client = client  # redis.asyncio.Redis or RedisCluster; its command methods are not annotated
        self._scripts = scripts
        self._deadline_s = store.deadline_ms / 1000
        self._batch = batch
        self._epochs: dict[str, int] = {}
        self._sequences: dict[str, int] = {}
        self.clock_ms = 0
        """Time for drops made with an injected clock; 0 in production."""

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
        return {member.decode() for member in await self._read("SMEMBERS", DROPS)}

    async def add_drop_id(self, drop_id: str) -> None:
        """Makes a drop known to every process; adding it twice is harmless. Raises as `drop_ids` does."""
        await self._read("SADD", DROPS, drop_id)

    async def _read(self, *command: str) -> Any:
        try:
            return await self._execute(*command)
        except (StoreConnectionError, StoreTimeoutError, OSError, ResponseError) as error:
            raise StoreUnavailable(what="The store cannot be reached.", todo="Try again in a moment.") from error

    async def run(self, name: str, drop_id: str, *arguments: bytes | str | int) -> bytes:
        """Runs a script with the keys its header names and answers its reply as it is. Raises as `call` does."""
        script = self._scripts[name]
        parameters = self.parameters(name, drop_id, *arguments)
        loop = asyncio.get_running_loop()
        deadline, pause_s = loop.time() + self._deadline_s, REPEAT_PAUSE_S
        while True:
            try:
                reply = await self._evaluate(script, parameters)
            except (StoreConnectionError, StoreTimeoutError, OSError) as error:
                if isinstance(error, BusyLoadingError):
                    raise StoreUnavailable(what="The store is loading its data.", todo="Try again in a moment.") from None
                if loop.time() + pause_s >= deadline:
                    raise StoreUnknown(
                        what="The store gave no answer in time; the request may or may not have taken effect.",
                        todo="Repeat it with the same key to get the one true outcome.",
                    ) from error
            except ResponseError as error:
                self._judge(script, error)
                if loop.time() + pause_s >= deadline:
                    raise StoreUnavailable(what="The store kept refusing the call.", todo="Try again in a moment.") from error
            else:
                return reply
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, REPEAT_PAUSE_MAX_S)

    def parameters(self, name: str, drop_id: str, *arguments: bytes | str | int) -> tuple[Any, ...]:
        """What follows EVALSHA on the wire: the script's SHA, the number of keys, the keys, the arguments."""
        script = self._scripts[name]
        keys = drop_keys(drop_id)
        return (script.sha, len(script.keys), *(getattr(keys, key) for key in script.keys), *arguments)

    async def _evaluate(self, script: Script, parameters: Sequence[Any]) -> bytes:
        try:
            reply = await self._execute("EVALSHA", *parameters)
        except NoScriptError:
            # EVAL both runs and loads, on whichever node owns the keys; SCRIPT LOAD would need to know the node.
            reply = await self._execute("EVAL", script.body, *parameters[1:])
        return bytes(reply)

    async def _execute(self, *command: Any) -> Any:
        """One command, once.

        The client sends inside `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that arrives when the
        sending has just ended. A loop that misses its cancellation never stops, so it is looked for here.
        """
        task = asyncio.current_task()
        asked_before = task.cancelling() if task else 0
        reply = await self._client.execute_command(*command)
        if task and task.cancelling() > asked_before:
            raise asyncio.CancelledError
        return reply

    @staticmethod
    def _judge(script: Script, error: ResponseError) -> None:
        """Returns when the call may be repeated, otherwise raises what the error means."""
        # The library cuts the code off the text of the errors it has a class for.
        code = error.status_code or str(error).split(" ", 1)[0]
        if code in REPEATABLE:
            return
        if code in REFUSED_BEFORE_START:
            raise StoreUnavailable(what="The store refuses writes at the moment.", why=f"{code}.", todo="Try again in a moment.") from error
        raise ScriptError(what=f"The script {script.name} failed:", why=str(error)) from error

    def batcher(self, name: str, drop_id: str, decode: Callable[[list[Any], list[Any], int], list[Any]]) -> Batcher[Any, Any]:
        """A group-commit batcher for a hot script of one drop.

        `decode` turns (requests, raw results, store time in ms) of one call into results for the callers.
        """

        async def send(requests: list[Any]) -> list[Any]:
            packed: bytes = msgpack.packb(requests)
            now_ms, results = await self.call(name, drop_id, packed)
            return decode(requests, results, now_ms)

        return Batcher(send, self._batch)


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
                    future.set_exception(error if isinstance(error, Exception) else Busy(what="The service is stopping."))
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)


def _one_each(requests: Sequence[object], results: list[Result]) -> list[Result]:
    if len(results) != len(requests):
        raise ScriptError(what=f"A call with {len(requests)} requests got {len(results)} answers; nobody can tell whose they are.")
    return results
