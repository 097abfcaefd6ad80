"""The door for ASGI applications (Starlette, FastAPI, Django, Quart, …).

    app.add_middleware(AdmissionMiddleware, door=Door(verifier=verifier, waiting_page="https://queue.shop.example/drops/launch"))

Behind it, `scope["flashsale.admission"]` is the shopper's `Admission`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from flashsale.verify.answers import Refusal
from flashsale.verify.door import Asked, Door, DoorAnswer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

ADMISSION = "flashsale.admission"
WEBSOCKET_REFUSED = 4403


class AdmissionMiddleware:
    """Lets requests and WebSockets with a good admission token through."""

    def __init__(self, app: Application, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, as ASGI has it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        asked = _asked(scope)
        page = self._door.own_page(asked)
        if page is not None:
            await _answer(page, scope, send)
        elif not self._door.covers(asked.path):
            await self._app(scope, receive, send)
        else:
            verdict = await self._door.verifier.verify_async(self._door.token(asked))
            if isinstance(verdict, Refusal):
                await _answer(self._door.refuse(asked, verdict), scope, send)
            else:
                await self._app({**scope, ADMISSION: verdict}, receive, send)


async def _answer(answer: DoorAnswer, scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": WEBSOCKET_REFUSED})
        return
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})


def _asked(scope: Scope) -> Asked:
    headers: list[tuple[bytes, bytes]] = list(scope["headers"])

    def header(name: str) -> str:
        # HTTP/2 may send cookies in several lines (RFC 9113, 8.2.3); of any other header there is to be one.
        values = [value.decode("latin-1") for key, value in headers if key.lower() == name.encode()]
        return ("; " if name == "cookie" else ", ").join(values)

    host = header("host") or ":".join(str(part) for part in (scope.get("server") or ("localhost",)) if part)
    return Asked(
        method=scope.get("method", "WEBSOCKET"),
        path=scope["path"],
        query=quote(scope.get("query_string", b"").decode("latin-1"), safe="%/?:@!$&'()*+,;=~-._"),
        origin=f"{scope.get('scheme', 'http')}://{host}",
        header=header,
    )
