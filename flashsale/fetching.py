"""Fetching a small public document over HTTP: bounded in time and size, following nowhere, and without secrets in errors."""

from __future__ import annotations

from aiohttp import ClientError, ClientSession, ClientTimeout, StreamReader

from flashsale.errors import FlashsaleError

ANSWER_BYTES_MAX = 262_144


class FetchFailed(FlashsaleError):
    """Nobody answered, or not with a document that can be used."""

    code = "fetch_failed"


async def fetch(client: ClientSession, url: str, what: str, *, timeout_ms: int) -> tuple[int, bytes]:
    """(status, body) of a GET. `what` names the document in errors, because an address may hold a credential.

    Raises:
        FetchFailed: no answer in time, one too long, or a redirection.
    """
    try:
        async with client.get(url, allow_redirects=False, timeout=ClientTimeout(total=timeout_ms / 1000)) as answer:
            status, body = answer.status, await read_bounded(answer.content, ANSWER_BYTES_MAX)
    except TimeoutError:
        raise FetchFailed(what=f"{what} could not be fetched:", why=f"no answer within {timeout_ms} ms.") from None
    except (ClientError, OSError, ValueError) as error:
        raise FetchFailed(what=f"{what} could not be fetched:", why=f"{type(error).__name__}.", todo="Is the address right?") from None
    if body is None:
        raise FetchFailed(what=f"{what} is longer than {ANSWER_BYTES_MAX} bytes.")
    if 300 <= status < 400:
        raise FetchFailed(what=f"{what} is not there:", why=f"the answer leads elsewhere ({status}).", todo="Give the final address.")
    return status, body


async def read_bounded(stream: StreamReader, bytes_max: int) -> bytes | None:
    """Everything, or None when it is more than `bytes_max`."""
    content = b""
    async for chunk in stream.iter_chunked(bytes_max):
        content += chunk
        if len(content) > bytes_max:
            return None
    return content
