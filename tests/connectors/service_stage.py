"""The service as a connector sees it: two documents over HTTP, in a thread of its own, which a test changes, counts and takes away."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.connectors.vector_file import DROP, JWKS, MIN_EPOCH

KEYS_PATH = "/.well-known/jwks.json"
SERVING_PATH = f"/v1/drops/{DROP}/serving"


class FakeTime:
    """Seconds that a test lets pass."""

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += seconds


class DocumentService:
    """Answers with what it is told to."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: Any = JWKS
        self.epoch = MIN_EPOCH
        self.max_age_s = 300
        self.status = 200
        self.location = ""
        self.asked: list[str] = []
        self.gate = threading.Event()
        """answers wait for it"""
        self.gate.set()
        self.arrived = threading.Semaphore(0)
        """released by every request that comes in"""

    @property
    def keys_url(self) -> str:
        return self.url + KEYS_PATH

    @property
    def serving_url(self) -> str:
        return self.url + SERVING_PATH.replace(DROP, "{drop}")

    def body(self, path: str) -> bytes:
        if path == KEYS_PATH:
            return self.keys if isinstance(self.keys, bytes) else json.dumps(self.keys).encode()
        return json.dumps({"drop": DROP, "epoch": self.epoch}).encode()


@contextmanager
def document_service() -> Iterator[DocumentService]:
    """A service on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            service.asked.append(self.path)
            service.arrived.release()
            service.gate.wait()
            body = service.body(self.path)
            self.send_response(service.status)
            if service.location:
                self.send_header("Location", service.location)
            self.send_header("Cache-Control", f"public, max-age={service.max_age_s}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    service = DocumentService(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        service.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
