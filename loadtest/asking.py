"""Asking the service until it has answered: what a careful client does about lost answers and "ask again later".

Every request of the contract can be repeated, because whoever makes it names it: by the secret's hash, the
Idempotency-Key, the payment's reference. So repeating is the whole of error handling.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Mapping
from typing import Any

from loadtest.client import Answer, AnswerLost, NotSent, Pool
from loadtest.diary import Diary
from loadtest.endings import GIVEN_UP, LOST, NOT_SENT, ending_of
from loadtest.history import Call, Recorder

PAUSE_S = 0.1
PAUSE_MAX_S = 2.0
ASK_AGAIN = frozenset({429, 502, 503, 504})


class TimeUp(Exception):
    """The crowd's deadline has passed."""


class Asker:
    """Requests of one crowd, each noted in its diary, and in its history before it is sent and when it has ended."""

    def __init__(self, pool: Pool, diary: Diary, deadline: float, recorder: Recorder | None = None) -> None:
        """`deadline` is on `time.monotonic`'s clock; nothing is asked or waited for past it."""
        self._pool = pool
        self._diary = diary
        self._deadline = deadline
        self._recorder = recorder

    async def ask(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: object = None,
        lose_after_s: float | None = None,
        call: Call | None = None,
    ) -> Answer:
        """The answer to a request, repeated until there is one that is not "ask again later".

        Args:
            operation: what it is called in the diary.
            method, path, headers, body: see `Pool.request`.
            lose_after_s: lose the first answer on purpose, this long after sending.
            call: what it is called in the history; each repetition is a call of its own.

        Raises:
            TimeUp: the deadline passed first.
        """
        pause_s = PAUSE_S
        while True:
            answer = await self._once(operation, method, path, headers, body, lose_after_s, call)
            lose_after_s = None
            if answer is not None and answer.status not in ASK_AGAIN:
                return answer
            wait_s = pause_s if answer is None else max(pause_s, _retry_after_s(answer))
            await self.rest(wait_s * random.uniform(0.7, 1.3))
            pause_s = min(2 * pause_s, PAUSE_MAX_S)

    async def rest(self, seconds: float) -> None:
        """Sleeps. Raises TimeUp at the deadline."""
        left = self._deadline - time.monotonic()
        await asyncio.sleep(min(seconds, max(0.0, left)))
        if seconds >= left:
            raise TimeUp

    async def _noted(self, call: Call | None, request: Coroutine[Any, Any, Answer]) -> Answer:
        """The answer to `request`, which has not begun yet; its call is in the history, however it ends."""
        if self._recorder is None or call is None:
            return await request
        op, ending = self._recorder.invoke(call), GIVEN_UP
        try:
            answer = await request
            ending = ending_of(call.kind, answer)
        except AnswerLost:
            ending = LOST
            raise
        except NotSent:
            ending = NOT_SENT
            raise
        finally:
            self._recorder.end(op, ending)
        return answer

    async def _once(
        self,
        operation: str,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        body: object,
        lose_after_s: float | None,
        call: Call | None,
    ) -> Answer | None:
        started = time.perf_counter()
        try:
            answer = await self._noted(call, self._pool.request(method, path, headers=headers, body=body, lose_after_s=lose_after_s))
        except AnswerLost:
            self._diary.lost[operation] += 1
            return None
        except NotSent:
            self._diary.not_sent[operation] += 1
            return None
        code = code_of(answer) if answer.status >= 400 else ""
        self._diary.answered(operation, answer.status, code, (time.perf_counter() - started) * 1000)
        return answer


def code_of(answer: Answer) -> str:
    """The stable code of a problem, or nothing."""
    problem = answer.json()
    return str(problem.get("code", "")) if isinstance(problem, dict) else ""


def _retry_after_s(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "")
    return min(float(text), PAUSE_MAX_S) if text.isdigit() else 0.0
