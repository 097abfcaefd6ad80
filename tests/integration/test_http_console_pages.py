"""The console's page and files over HTTP: a strict policy, and everything that a file asks for is there."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

import flashsale.web
from flashsale.connections.database import Database
from flashsale.settings import Settings
from tests.integration.http_client import Service, in_own_task, with_signing_keys

FILES = sorted(path.name for path in (Path(flashsale.web.__file__).parent / "console").iterdir() if path.suffix in {".js", ".css"})


@pytest.fixture
async def service(settings: Settings, store: Redis, database: Database, tmp_path: Path) -> AsyncIterator[Service]:
    async with in_own_task(with_signing_keys(settings, tmp_path), database) as running:
        yield running


async def test_the_page_may_run_its_own_files_only_and_make_no_html_of_text(service: Service) -> None:
    page = await service.get("/console")
    policy = dict(part.strip().partition(" ")[::2] for part in page.headers["Content-Security-Policy"].split(";"))
    assert {policy[name] for name in ("default-src", "base-uri", "frame-ancestors", "trusted-types")} == {"'none'"}
    assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
    assert policy["require-trusted-types-for"] == "'script'"
    assert (page.headers["Cache-Control"], page.headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert "Access-Control-Allow-Origin" not in page.headers
    text = page.body.decode()
    assert not re.search(r"<script(?![^>]* src=)|<style|\son\w+=|\sstyle=", text)
    for address in re.findall(r'(?:src|href)="(/console/assets/[^"]+)"', text):
        assert (await service.get(address)).status == 200, address


async def test_every_file_is_there_with_what_it_imports_and_only_for_our_own_pages(service: Service) -> None:
    for name in FILES:
        file = await service.get(f"/console/assets/{name}")
        assert file.status == 200
        assert file.headers["Content-Type"].startswith(("text/javascript", "text/css"))
        assert (file.headers["Cache-Control"], file.headers["Cross-Origin-Resource-Policy"]) == ("no-cache", "same-origin")
        assert "Access-Control-Allow-Origin" not in file.headers
        assert set(re.findall(r'from "\./([^"]+)"', file.body.decode())) <= set(FILES)
        again = await service.get(f"/console/assets/{name}", headers={"If-None-Match": file.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("name", ["console.html", "nothing.js", "..%2fconsole_pages.py"])
async def test_nothing_else_is_a_file_of_the_console(service: Service, name: str) -> None:
    assert (await service.get(f"/console/assets/{name}")).status == 404
