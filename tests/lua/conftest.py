"""Every test of the scripts gets a drop in an empty store."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis

from tests.lua.world import World


@pytest.fixture
async def world(store: Redis) -> World:
    return World(store)
