"""What `flashsale recover --json` prints."""

from __future__ import annotations

from msgspec import Struct


class SkuRecovered(Struct, frozen=True):
    """Where a SKU's units are after a recovery."""

    sku: str
    allotment: int
    available: int
    reserved: int
    sold: int


class DropRecovered(Struct, frozen=True):
    """An element of `recover --json`."""

    drop_id: str
    result: str
    """recovered; needed (with --dry-run); sound (nothing to do); failed"""
    condition: str = "sound"
    """sound, missing, behind, fenced or damaged"""
    changes_behind: int = 0
    orders: int = 0
    live: int = 0
    overdue: int = 0
    released: int = 0
    """live reservations that could not be kept"""
    skus: tuple[SkuRecovered, ...] = ()
    state: str = ""
    epoch: int = 0
    ready_ms: int | None = None
    """from the first look until the drop was open again"""
    exit_code: int = 0
