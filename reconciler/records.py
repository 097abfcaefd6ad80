"""A drop as the store holds it, read for the auditor: its counters at one instant, and its reservations page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from flashsale.errors import Recovering
from flashsale.keys import drop_keys
from flashsale.model import ReservationState, SkuStock
from reconciler.journal import store_errors
from reconciler.laws import Items, RecordLook, StoreLook

if TYPE_CHECKING:
    from reconciler.journal import Store

PAGE_RECORDS = 500
"""About as many records a command; a page takes the store well under a millisecond."""

LOOKS_SHARED_MAX = 4_096
"""Most reservations hold the same few things; sharing what says so keeps a large drop small in memory."""

_unpack = msgspec.msgpack.decode
_SKUS = msgspec.msgpack.Decoder(list[str])


class Records:
    """The counters and reservation records of one drop."""

    def __init__(self, store: Store, drop_id: str) -> None:
        # The library's annotations mix str and bytes; replies here are always bytes.
        self._store: Any = store
        self._drop_id = drop_id
        self._keys = drop_keys(drop_id)

    async def look(self) -> StoreLook:
        """The counters, and where the journal stood at the same instant.

        Raises:
            Recovering: the store does not hold the drop, or is closed to it until it has been recovered.
            StoreUnavailable: it does not answer.
        """
        keys = self._keys
        with store_errors():
            async with self._store.pipeline(transaction=True) as together:
                together.hmget(keys.drop, "skus", "fenced")
                together.hgetall(keys.stock)
                together.hlen(keys.reservations)
                together.zcard(keys.expiries)
                together.xrevrange(keys.journal, count=1)
                (skus, fenced), stock, records, live, last = await together.execute()
        if skus is None or fenced:
            raise Recovering(
                what=f"The drop {self._drop_id} has to be recovered before it can be audited.",
                todo=f"'flashsale recover {self._drop_id} --dry-run' says what is the matter.",
            )
        return StoreLook(
            skus={sku: self._stock_of(sku, stock) for sku in _SKUS.decode(skus)},
            records=records,
            live=live,
            journal_last=last[0][0].decode() if last else "",
        )

    def _stock_of(self, sku: str, stock: Mapping[bytes, bytes]) -> SkuStock:
        try:
            units = [int(stock[f"{name}:{sku}".encode()]) for name in ("allotment", "available", "reserved", "sold", "draining")]
        except (KeyError, ValueError):
            raise Recovering(
                what=f"The store has lost units of the drop {self._drop_id}.",
                todo=f"'flashsale recover {self._drop_id} --dry-run' says what is the matter.",
            ) from None
        return SkuStock(*units)

    async def pages(self) -> AsyncIterator[dict[str, RecordLook]]:
        """All reservations, some perhaps twice; one made or changed meanwhile may be shown as it was or as it is.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        cursor = 0
        while True:
            with store_errors():
                cursor, found = await self._store.hscan(self._keys.reservations, cursor, count=PAGE_RECORDS)
            yield {reservation_id.decode(): _record(packed) for reservation_id, packed in found.items()}
            if cursor == 0:
                return

    async def never_expiring(self, reservation_ids: Iterable[str]) -> list[str]:
        """Those of the reservations that are live and have no expiry, each judged at one instant.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        ids = list(reservation_ids)
        found: list[str] = []
        for start in range(0, len(ids), PAGE_RECORDS):
            found += await self._never_expiring(ids[start : start + PAGE_RECORDS])
        return found

    async def _never_expiring(self, ids: Sequence[str]) -> list[str]:
        with store_errors():
            # Most have one; only the others are asked about together with their records.
            scores = await self._store.zmscore(self._keys.expiries, ids)
            suspects = [reservation_id for reservation_id, score in zip(ids, scores, strict=True) if score is None]
            if not suspects:
                return []
            async with self._store.pipeline(transaction=True) as together:
                together.hmget(self._keys.reservations, suspects)
                together.zmscore(self._keys.expiries, suspects)
                records, scores = await together.execute()
        return [
            reservation_id
            for reservation_id, packed, score in zip(suspects, records, scores, strict=True)
            if packed is not None and score is None and _record(packed).state is ReservationState.RESERVED
        ]


def _record(packed: bytes) -> RecordLook:
    state, _, _, items, *_ = _unpack(packed)
    return _look(state, tuple(map(tuple, items)))


@lru_cache(LOOKS_SHARED_MAX)
def _look(state: int, items: Items) -> RecordLook:
    return RecordLook(ReservationState(state), items)
