"""The door for aiohttp applications.

    app = web.Application(middlewares=[admission_middleware(Door(verifier=verifier, waiting_page="https://queue.shop.example/drops/launch"))])

Behind it, `request[ADMISSION]` is the shopper's `Admission`.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from flashsale.verify.answers import Admission, Refusal
from flashsale.verify.door import Asked, Door, DoorAnswer

ADMISSION = web.RequestKey("flashsale_admission", Admission)


def admission_middleware(door: Door) -> Middleware:
    """A middleware that lets requests with a good admission token through."""

    @web.middleware
    async def at_the_door(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = _asked(request)
        page = door.own_page(asked)
        if page is not None:
            return _answer(page)
        if not door.covers(asked.path):
            return await handler(request)
        verdict = await door.verifier.verify_async(door.token(asked))
        if isinstance(verdict, Refusal):
            return _answer(door.refuse(asked, verdict))
        request[ADMISSION] = verdict
        return await handler(request)

    return at_the_door


def _answer(answer: DoorAnswer) -> web.Response:
    headers = [(name, value) for name, value in answer.headers if name != "Content-Length"]  # aiohttp counts for itself
    return web.Response(status=answer.status, headers=headers, body=answer.body)


def _asked(request: web.Request) -> Asked:
    def header(name: str) -> str:
        # HTTP/2 may send cookies in several lines (RFC 9113, 8.2.3); of any other header there is to be one.
        return ("; " if name == "cookie" else ", ").join(request.headers.getall(name, ()))

    return Asked(
        method=request.method,
        path=request.path,
        query=request.rel_url.raw_query_string,
        origin=f"{request.scheme}://{request.host}",
        header=header,
    )
