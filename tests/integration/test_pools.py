"""Connections on the loop the service runs on."""

from __future__ import annotations

import asyncio

import pytest

from flashsale.connections.pools import NotSent, StorePool
from flashsale.embedded.stores import EmbeddedStores


async def test_a_connection_found_closed_at_the_moment_of_sending_has_sent_nothing(stores: EmbeddedStores) -> None:
    pool = StorePool.from_url(stores.valkey.url)
    connection = await pool.get_connection()
    assert connection._writer is not None
    connection._writer.transport.abort()
    await asyncio.sleep(0)
    with pytest.raises(NotSent):
        await connection.send_packed_command(connection.pack_command("PING"))
    await pool.aclose()
