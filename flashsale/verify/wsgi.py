"""The door for WSGI applications (Flask, Django, …).

    app.wsgi_app = AdmissionMiddleware(app.wsgi_app, Door(verifier=verifier, waiting_page="https://queue.shop.example/drops/launch"))

Behind it, `environ["flashsale.admission"]` is the shopper's `Admission`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flashsale.verify.answers import Refusal
from flashsale.verify.door import Asked, Door, DoorAnswer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

ADMISSION = "flashsale.admission"


class AdmissionMiddleware:
    """Lets requests with a good admission token through."""

    def __init__(self, app: WSGIApplication, door: Door) -> None:
        self._app = app
        self._door = door

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """One request, as WSGI has it (PEP 3333)."""
        asked = _asked(environ)
        page = self._door.own_page(asked)
        if page is not None:
            return _answer(page, asked, start_response)
        if not self._door.covers(asked.path):
            return self._app(environ, start_response)
        verdict = self._door.verifier.verify(self._door.token(asked))
        if isinstance(verdict, Refusal):
            return _answer(self._door.refuse(asked, verdict), asked, start_response)
        environ[ADMISSION] = verdict
        return self._app(environ, start_response)


def _answer(answer: DoorAnswer, asked: Asked, start_response: StartResponse) -> Iterable[bytes]:
    start_response(answer.line, list(answer.headers))
    return [b"" if asked.method == "HEAD" else answer.body]


def _asked(environ: dict[str, Any]) -> Asked:
    # PEP 3333: text that came as bytes is handed on as if it were Latin-1.
    path = (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1").decode("utf-8", "replace")
    host = environ.get("HTTP_HOST") or f"{environ.get('SERVER_NAME', 'localhost')}:{environ.get('SERVER_PORT', '80')}"
    return Asked(
        method=environ["REQUEST_METHOD"],
        path=path or "/",
        query=quote(environ.get("QUERY_STRING", ""), safe="%/?:@!$&'()*+,;=~-._"),
        origin=f"{environ.get('wsgi.url_scheme', 'http')}://{host}",
        header=lambda name: str(environ.get("HTTP_" + name.upper().replace("-", "_"), "")),
    )
