"""Asking a provider over HTTP: bounded in time and size, following nowhere, and honest about what is not known."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import ClientError, ClientSession, ClientTimeout

from flashsale.fetching import read_bounded
from flashsale.payments.provider import ProviderUnreachable

ANSWER_BYTES_MAX = 65_536
TRY_LATER = frozenset({401, 403, 404, 408, 409, 425, 429})
"""Statuses that say nothing of the refund: wrong address or credential, too early, too fast, or already being worked on."""


async def ask(
    client: ClientSession, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout_ms: int
) -> tuple[int, bytes]:
    """(status, body) of the answer, when it decides anything.

    Raises:
        ProviderUnreachable: no answer, one too large, a redirection, or a status that decides nothing.
    """
    try:
        async with client.request(
            method, url, data=body, headers=headers, allow_redirects=False, timeout=ClientTimeout(total=timeout_ms / 1000)
        ) as answer:
            content = await read_bounded(answer.content, ANSWER_BYTES_MAX)
            status = answer.status
    except TimeoutError:
        raise ProviderUnreachable(what="The provider did not answer in time.") from None
    except (ClientError, OSError, ValueError) as error:
        # The error's own words may hold the address, and an address may hold a credential.
        raise ProviderUnreachable(what="The provider could not be asked:", why=f"{type(error).__name__}.") from None
    if content is None:
        raise ProviderUnreachable(what="The provider's answer is too long.")
    if 300 <= status < 400 or status >= 500 or status in TRY_LATER:
        raise ProviderUnreachable(what=f"The provider answered with status {status}.")
    return status, content
