"""What lua/README.md says to type works."""

from __future__ import annotations

import asyncio
import re
import sys

import msgpack

from flashsale.embedded.stores import EmbeddedStores
from flashsale.resources import resource_dir
from tests.lua.world import LIBRARY, World, busy

README = (resource_dir("lua") / "README.md").read_text(encoding="utf-8")


async def test_inspecting_by_hand(world: World, stores: EmbeddedStores) -> None:
    await busy(world)
    [code] = re.findall(r"<<'PY'\n(.*?)\nPY\n", README, re.DOTALL)
    assert "redis.Redis()" in code
    assert "my-drop" in code
    code = code.replace("redis.Redis()", f"redis.Redis.from_url({stores.valkey.url!r})").replace("my-drop", "d")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, cwd=resource_dir("lua").parent
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    assert printed.startswith(b"['done', ")
    assert b"'found'" in printed


async def test_expiring_from_a_shell(world: World) -> None:
    """The wheel brings no valkey-cli, so its words are sent another way."""
    await busy(world)
    [command] = re.findall(r"EVALSHA \"\$SHA\" (.*?) ENVELOPE 100\n", README, re.DOTALL)
    number, *keys = command.replace("\\\n", " ").replace("$D:", "fs:{d}:").replace('"', "").split()
    [envelope] = re.findall(r"printf '([^']+)' \| valkey-cli -X ENVELOPE", README)
    packed = bytes.fromhex(envelope.replace("\\x", ""))
    assert packed == msgpack.packb((0, 0, 0))
    assert int(number) == len(keys) == len(LIBRARY["expire"].keys)
    await world.client.hset("fs:{d}:drop", "clock", "store")
    reply = await world.command("EVAL", LIBRARY["expire"].body, number, *keys, packed, 100)
    assert msgpack.unpackb(reply)[2] == ["expired", 0]
