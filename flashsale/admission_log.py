"""Reading a drop's admission log and its samples from the store, page by page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, BinaryIO

import msgspec

from admission.log import Entry, Event, LogHead, canonical, event_of, extend, first_head
from admission.serving import ServingDocument
from flashsale.connections.calls import StoreCalls
from flashsale.keys import drop_keys

PAGE_ENTRIES = 500
"""A page costs the store well under a millisecond, and its hashes cost the reader's event loop about one."""
LOG_ENTRIES_MAX = 2_000_000
"""More than the largest drop writes; a report stops there and says so."""
SAMPLES_MAX = 21_000
"""The store keeps 20,000, give or take a node of the stream."""


class LogFollower:
    """Keeps the head of a drop's log up to date, reading on from where it was."""

    def __init__(self, calls: StoreCalls, drop_id: str) -> None:
        """Begin before the first entry; nothing is read yet."""
        self._calls = calls
        self._drop_id = drop_id
        self._last = b""
        self._reading = asyncio.Lock()
        self.head = first_head(drop_id)
        """as far as the log has been read"""

    async def follow(self, pages_max: int) -> bool:
        """Reads on, at most `pages_max` pages of `PAGE_ENTRIES`; True when the log's end has been reached. Callers take turns.

        A store that has lost the entry this follower stands on, or has another one in its place, holds another log: the
        follower begins anew.

        Raises:
            StoreUnavailable, StoreUnknown: the store does not answer.
        """
        async with self._reading:
            for _ in range(pages_max):
                page = await read_page(self._calls, drop_keys(self._drop_id).served, self.head.last_id, PAGE_ENTRIES + 1)
                if self._take(page):
                    return True
            return False

    def _take(self, page: list[Entry]) -> bool:
        """Goes on over a page that begins with the entry this follower stands on; True when it was the last."""
        if self._last:
            if not page or canonical(page[0]) != self._last:
                self.head, self._last = first_head(self._drop_id), b""
                return False
            page = page[1:]
        if page:
            self.head, self._last = extend(self.head, page), canonical(page[-1])
        return len(page) < PAGE_ENTRIES


async def read_page(calls: StoreCalls, key: str, first_id: str, entries_max: int) -> list[Entry]:
    """Entries of a stream from the id `first_id` on, itself included; with `(` before it, without it.

    Raises:
        StoreUnavailable, StoreUnknown: the store does not answer.
    """
    found: list[tuple[bytes, dict[bytes, bytes]]] = await calls.command("XRANGE", key, first_id, "+", "COUNT", entries_max)
    return [Entry(entry_id.decode(), tuple(fields.items())) for entry_id, fields in found]


async def read_pages(calls: StoreCalls, key: str, entries_max: int) -> AsyncIterator[list[Entry]]:
    """A stream from its beginning, in pages, at most `entries_max` entries. Raises as `read_page` does."""
    first_id, left = "-", entries_max
    while left > 0 and (page := await read_page(calls, key, first_id, min(PAGE_ENTRIES, left))):
        yield page
        first_id, left = "(" + page[-1].entry_id, left - len(page)


async def read_log(calls: StoreCalls, drop_id: str, copy: BinaryIO | None = None) -> tuple[list[Event], LogHead]:
    """What the log of a drop says, at most `LOG_ENTRIES_MAX` entries of it, and the head after them.

    Args:
        calls: to the store.
        drop_id: whose log.
        copy: gets every entry as it is chained, one to a line.

    Raises: as `read_page` does; OSError when the copy cannot be written.
    """
    events: list[Event] = []
    head = first_head(drop_id)
    async for page in read_pages(calls, drop_keys(drop_id).served, LOG_ENTRIES_MAX):
        head = extend(head, page)
        events += map(event_of, page)
        if copy is not None:
            copy.writelines(canonical(entry) + b"\n" for entry in page)
    return events, head


async def read_samples(calls: StoreCalls, drop_id: str) -> list[ServingDocument]:
    """The serving documents that were kept, oldest first; one of another release that cannot be read is left out.

    Raises: as `read_page` does.
    """
    documents = []
    async for page in read_pages(calls, drop_keys(drop_id).samples, SAMPLES_MAX):
        documents += [document for entry in page if (document := _document(dict(entry.fields))) is not None]
    return documents


_decode_document: Any = msgspec.json.Decoder(ServingDocument).decode


def _document(fields: dict[bytes, bytes]) -> ServingDocument | None:
    try:
        found: ServingDocument = _decode_document(fields[b"d"])
    except (KeyError, msgspec.MsgspecError):
        return None
    return found
