"""What a merchant takes home from a drop: its report, and its orders as a table."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from flashsale.errors import BadInput, Busy
from flashsale.order_csv import csv_pages
from flashsale.orders import PAGE_MAX
from flashsale.report_page import report_page
from flashsale.reports import make_report
from flashsale.web.answers import PERSONAL
from flashsale.web.streamed import Streamed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from admission.report_shapes import DropReport
    from flashsale.web.merchant import OwnDrops
    from flashsale.web.services import Services

FRESH_FOR_S = 5.0
REPORTS_KEPT = 8
WAITING_MAX = 8
"""Reports are made one at a time: each takes a processor for a while."""
TABLES_MAX = 4
UNREAD_MAX_S = 30.0

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


class MerchantReports:
    """Handlers of both."""

    def __init__(self, services: Services, own: OwnDrops) -> None:
        self._services = services
        self._own = own
        self._kept: OrderedDict[str, tuple[float, DropReport]] = OrderedDict()
        self._making = asyncio.Lock()
        self._waiting = 0
        self._tables = 0

    async def report(self, request: web.Request) -> web.Response:
        """GET /v1/merchant/drops/{drop}/report: what happened so far, as JSON, or with ?format=html as a page."""
        live = await self._own.find(request)
        kind = request.query.get("format", "json")
        if kind not in {"json", "html"} or set(request.query) - {"format"}:
            raise BadInput(what="The report comes as json or html.", field="format")
        made = await self._report(live.definition.drop_id)
        if kind == "json":
            return web.Response(body=await asyncio.to_thread(msgspec.json.encode, made), headers=PERSONAL)
        page = await asyncio.to_thread(report_page, made)
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Cache-Control": "no-store",
            "Content-Security-Policy": _policy(page),
            "Referrer-Policy": "no-referrer",
        }
        return web.Response(text=page, headers=headers)

    async def _report(self, drop_id: str) -> DropReport:
        """Made at most `FRESH_FOR_S` ago, or while this waited. Raises Busy, and as `DropStore.inspect` and `read_log` do."""
        if self._waiting >= WAITING_MAX:
            raise Busy(what="Other reports are being made.", todo="Try again in a moment.")
        clock = self._services.clock.monotonic
        self._waiting += 1
        try:
            async with self._making:
                kept = self._kept.get(drop_id)
                if kept is None or clock() - kept[0] > FRESH_FOR_S:
                    inspection = await self._services.drop_store.inspect(drop_id)
                    made = await make_report(inspection, self._services.store_calls)
                    kept = clock(), made
                    self._keep(drop_id, kept)
                return kept[1]
        finally:
            self._waiting -= 1

    def _keep(self, drop_id: str, kept: tuple[float, DropReport]) -> None:
        self._kept[drop_id] = kept
        self._kept.move_to_end(drop_id)
        if len(self._kept) > REPORTS_KEPT:
            self._kept.popitem(last=False)

    async def orders(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/merchant/drops/{drop}/orders.csv: every order, as Postgres has it."""
        drop_id = (await self._own.find(request)).definition.drop_id
        headers = {
            "Content-Type": "text/csv; charset=utf-8",
            "Content-Disposition": f'attachment; filename="{drop_id}-orders.csv"',
            "Cache-Control": "no-store",
        }
        return await Streamed.begun(self._table(drop_id), headers, unread_max_s=UNREAD_MAX_S)

    async def _table(self, drop_id: str) -> AsyncGenerator[bytes, None]:
        """Raises Busy, DatabaseUnavailable; at once where it can."""
        if self._tables >= TABLES_MAX:
            raise Busy(what="Other tables of orders are being read.", todo="Try again in a moment.")
        self._tables += 1
        try:
            async for piece in csv_pages(partial(self._services.orders.page, drop_id, limit=PAGE_MAX)):
                yield piece
        finally:
            self._tables -= 1


def _policy(page: str) -> str:
    """The page's one style may apply, and nothing else: CSP Level 3 knows it by its hash."""
    styles = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" for style in _STYLE.findall(page))
    return f"default-src 'none'; style-src {styles}; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
