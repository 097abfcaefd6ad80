"""A real nginx with the configuration we ship, on sockets of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from tests.debian import provide

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "connectors" / "nginx" / "flashsale-door.conf"
PAGES = ROOT / "flashsale" / "verify" / "pages"
PACKAGE = "nginx-light"
MISSING = f"These tests need nginx, which could not be installed from here. Debian and Ubuntu: sudo apt-get install {PACKAGE}."

_MAIN = """
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 256; }}
http {{
    types {{ text/html html; text/javascript js; }}
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/door.conf;
}}
"""


@cache
def find_nginx() -> str | None:
    """The path of nginx; installed from the distribution's packages first when that is allowed and it is missing."""
    return provide((PACKAGE,), lambda: shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"))


def _configured(folder: Path, service_port: int, shop_port: int) -> str:
    """The shipped file with the lines that are the shop's own; each has to be there."""
    text = CONFIGURATION.read_text(encoding="utf-8")
    for shipped, ours in (
        ("server 127.0.0.1:8080;", f"server 127.0.0.1:{service_port};"),
        ("server 127.0.0.1:3000;", f"server 127.0.0.1:{shop_port};"),
        ("listen 80;", f"listen unix:{folder}/door.sock;"),
        ("/dev/shm/flashsale-door", f"{folder}/cache"),
        ("/usr/share/flashsale/pages", str(PAGES)),
    ):
        assert shipped in text
        text = text.replace(shipped, ours)
    return text


@asynccontextmanager
async def running_nginx(folder: Path, service_port: int, shop_port: int) -> AsyncIterator[Path]:
    """Yields the socket it listens on, once it does."""
    program = find_nginx()
    assert program is not None
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=user), encoding="utf-8")
    (folder / "door.conf").write_text(_configured(folder, service_port, shop_port), encoding="utf-8")
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log"), "-g", "daemon off;"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE)
    try:
        await _listening(process, folder / "door.sock")
        yield folder / "door.sock"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def _listening(process: asyncio.subprocess.Process, address: Path) -> None:
    """Returns when somebody listens. nginx tells nobody, so it is asked."""
    async with asyncio.timeout(30):
        while True:
            assert process.returncode is None, "nginx has ended; error.log says why"
            try:
                _, writer = await asyncio.open_unix_connection(address)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return
