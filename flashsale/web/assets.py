"""Files for browsers: by a short name that stays, and by an address that changes with the bytes and may be kept for ever.

Files that load one another belong to one set, and the address that may be kept names the set's edition, a digest of all of
them: `/assets/<edition>/flash-sale-room.js` finds its languages in `/assets/<edition>/languages/`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from aiohttp import web

from flashsale.web.problems import Code, problem
from flashsale.web.requests import etag_matches
from flashsale.web.routing import Readers, Route

MEDIA_TYPES: Mapping[str, str] = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
    ".glb": "model/gltf-binary",
}
INTEGRITY = "integrity.json"
IMMUTABLE = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"
_TAKES_GZIP = re.compile(r"(?:^|,)\s*(?:gzip|\*)\s*(?:;\s*q=(?:0?\.0*[1-9]|[1-9])[0-9.]*\s*)?(?:,|$)", re.IGNORECASE)
_GZIP_SAVES = 0.9
"""of the length; what shrinks less is sent as it is"""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    body: bytes
    gzipped: bytes
    """empty where that saves nothing"""
    media_type: str
    digest: str
    """hex SHA-256, the first 16 digits"""
    edition: str
    """of its set"""

    @property
    def integrity(self) -> str:
        """As a page names it to be sure of the bytes (W3C Subresource Integrity)."""
        return "sha384-" + base64.b64encode(hashlib.sha384(self.body).digest()).decode()


class Assets:
    """Handlers of the files' routes."""

    def __init__(self, *sets: Iterable[Path]) -> None:
        """Reads the files.

        Args:
            sets: each of folders whose files load one another. Only files of `MEDIA_TYPES` are taken.
        """
        self._assets = {name: asset for folders in sets for name, asset in _read(folders).items()}
        self._assets[INTEGRITY] = _asset(INTEGRITY, self._integrity(), "")

    def path(self, name: str) -> str:
        """The address of a file that may be kept for ever. Raises KeyError when there is no such file."""
        return f"/assets/{self._assets[name].edition}/{name}"

    def routes(self) -> list[Route]:
        """Pages of any origin may load the files."""
        addresses = {
            "asset": "/assets/{name}",
            "asset_language": "/assets/languages/{name}",
            "asset_edition": "/assets/{edition}/{name}",
            "asset_edition_language": "/assets/{edition}/languages/{name}",
        }
        return [Route("GET", address, self.asset, name, readers=Readers.ANYONE) for name, address in addresses.items()]

    async def asset(self, request: web.Request) -> web.Response:
        """GET /assets/…: a file. One asked for in another edition is today's, and is not kept."""
        name = request.match_info["name"]
        asset = self._assets.get(f"languages/{name}" if request.path.endswith(f"/languages/{name}") else name)
        if asset is None:
            return problem(Code.NOT_FOUND)
        shrunk = bool(asset.gzipped) and _TAKES_GZIP.search(request.headers.get("Accept-Encoding", "")) is not None
        etag = f'"{asset.digest}{"-gzip" if shrunk else ""}"'
        headers = {
            "ETag": etag,
            "Cache-Control": IMMUTABLE if request.match_info.get("edition") == asset.edition else _ASK_AGAIN,
            "Cross-Origin-Resource-Policy": "cross-origin",
            "Vary": "Accept-Encoding",
        }
        if_none_match = request.headers.get("If-None-Match")
        if if_none_match is not None and etag_matches(if_none_match, etag):
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = asset.media_type
        if shrunk:
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=asset.gzipped if shrunk else asset.body, headers=headers)

    def _integrity(self) -> bytes:
        listed = {name: {"path": self.path(name), "integrity": asset.integrity} for name, asset in self._assets.items()}
        return msgspec.json.format(msgspec.json.encode(listed, order="sorted"), indent=1)


def _read(folders: Iterable[Path]) -> dict[str, Asset]:
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix in MEDIA_TYPES and path.is_file()
    }
    edition = hashlib.sha256()
    for name, body in sorted(found.items()):
        edition.update(f"{name}\0{len(body)}\0".encode() + body)
    return {name: _asset(name, body, edition.hexdigest()[:16]) for name, body in found.items()}


def _asset(name: str, body: bytes, edition: str) -> Asset:
    gzipped = gzip.compress(body, 9, mtime=0)
    return Asset(
        body=body,
        gzipped=gzipped if len(gzipped) < len(body) * _GZIP_SAVES else b"",
        media_type=MEDIA_TYPES[Path(name).suffix],
        digest=hashlib.sha256(body).hexdigest()[:16],
        edition=edition,
    )
