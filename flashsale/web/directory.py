"""Finding a drop by its id, without letting made-up ids cost anything."""

from __future__ import annotations

import asyncio

from admission.inlet import Inlet, LiveDrop
from flashsale.clock import Clock
from flashsale.drops import DropStore
from flashsale.errors import Busy, DropNotFound, Recovering
from flashsale.model import DROP_ID_RE, RESERVATION_ID_RE, TICKET_ID_RE
from flashsale.web.problems import Code, ProblemError, problem

IDS_EVERY_S = 0.1
"""the list of drops is read from the store at most this often for unknown ids, however many ask"""
LOOK_TIMEOUT_S = 2.5
LOOKS = 2
"""the look that is going on may have begun before the drop was made"""
LOOKING_MAX = 256


class DropDirectory:
    """The drops this worker knows; for the first second of a new one's life, also those it is about to know."""

    def __init__(self, inlet: Inlet, store: DropStore, clock: Clock) -> None:
        self._inlet = inlet
        self._store = store
        self._clock = clock
        self._ids: set[str] = set()
        self._ids_read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._looking = 0

    async def find(self, drop_id: str) -> LiveDrop:
        """The drop `drop_id`.

        Raises:
            DropNotFound: there is none.
            Recovering: the store should hold it and does not.
            StoreUnavailable: this worker does not know it and cannot ask.
            Busy: this worker does not know it, and too many ask already.
        """
        live = self._inlet.get(drop_id)
        if live is not None:
            return live
        if self._inlet.lost(drop_id):
            raise _recovering(drop_id)
        if DROP_ID_RE.fullmatch(drop_id) is None:
            raise _not_found()
        if self._looking >= LOOKING_MAX:
            raise Busy(what="Too many ask for drops that this worker does not know.", todo="Try again in a moment.")
        self._looking += 1
        try:
            listed = drop_id in await self._known_ids()
            live = await self._wait_for(drop_id) if listed else None
        finally:
            self._looking -= 1
        if live is not None:
            return live
        # The store has been given a drop of that name, and this worker cannot see it there.
        raise _recovering(drop_id) if listed else _not_found()

    async def of_ticket(self, ticket_id: str) -> LiveDrop:
        """The drop a ticket belongs to.

        Raises:
            ProblemError: the id is not a ticket's, or of no drop.
        """
        match = TICKET_ID_RE.fullmatch(ticket_id)
        return await self._of(match[1] if match else None, Code.TICKET_NOT_FOUND)

    async def of_reservation(self, reservation_id: str, missing: Code = Code.RESERVATION_NOT_FOUND) -> LiveDrop:
        """The drop a reservation belongs to.

        Raises:
            ProblemError: the id is not a reservation's, or of no drop; its code is `missing`.
        """
        match = RESERVATION_ID_RE.fullmatch(reservation_id)
        return await self._of(match[1] if match else None, missing)

    async def _of(self, drop_id: str | None, missing: Code) -> LiveDrop:
        if drop_id is not None:
            try:
                return await self.find(drop_id)
            except DropNotFound:
                pass
        raise ProblemError(problem(missing))

    async def _known_ids(self) -> set[str]:
        """The ids of all drops, from a reading that began after the question: a drop made just before it is among them.

        Raises StoreUnavailable; then the next who waits reads for itself, or is refused by the open circuit.
        """
        asked_at = self._clock.monotonic()
        async with self._reading:
            if self._ids_read_at <= asked_at:
                await asyncio.sleep(max(0.0, self._ids_read_at + IDS_EVERY_S - self._clock.monotonic()))
                began_at = self._clock.monotonic()
                self._ids = await self._store.ids()
                self._ids_read_at = began_at
        return self._ids

    async def _wait_for(self, drop_id: str) -> LiveDrop | None:
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                for _ in range(LOOKS):
                    await self._inlet.next_look()
                    if (live := self._inlet.get(drop_id)) is not None:
                        return live
        except TimeoutError:
            pass
        return self._inlet.get(drop_id)


def _recovering(drop_id: str) -> Recovering:
    return Recovering(what=f"The drop {drop_id} is being recovered.", todo="Try again in a moment.")


def _not_found() -> DropNotFound:
    return DropNotFound(what="There is no drop of that name.")
