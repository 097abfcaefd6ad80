"""A copy of Postgres that takes its place: a standby that got nothing more since, or an old backup."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import asyncpg

from flashsale.child import child_argv
from flashsale.embedded.folders import server_account
from flashsale.embedded.postgres import EmbeddedPostgres
from flashsale.embedded.processes import environment
from flashsale.embedded.programs import postgres_programs

PROMOTED_WITHIN_S = 30


async def copied(server: EmbeddedPostgres) -> Path:
    """A physical copy of a running server as it is now, made by pg_basebackup."""
    folder, program = server.folder / "copy", postgres_programs() / "pg_basebackup"
    argv = [str(program), f"--dbname={server.url_for(database='postgres')}", f"--pgdata={folder}", "--checkpoint=fast", "--no-sync"]
    process = await asyncio.create_subprocess_exec(
        *child_argv(argv, death_signal=signal.SIGTERM, account=server_account([program, server.folder.parent])),
        stderr=asyncio.subprocess.PIPE,
        cwd=server.folder,
        env=environment(),
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode(errors="replace")
    return folder


async def replaced_by(server: EmbeddedPostgres, copy: Path, *, promoted: bool) -> None:
    """The server dies and its copy is started in its place; what was committed in between is gone.

    Args:
        server: of which the copy was made.
        copy: as `copied` made it.
        promoted: as a standby, which begins a timeline of its own. Otherwise as somebody would who mistakes an old backup
            for the database.
    """
    await server.kill()
    _put_in_place(copy, server.folder / "data", promoted=promoted)
    await server.start()
    if promoted:
        connection = await asyncpg.connect(server.url)
        try:
            assert await connection.fetchval("SELECT pg_promote(true, $1)", PROMOTED_WITHIN_S)
        finally:
            await connection.close()


def _put_in_place(copy: Path, data: Path, *, promoted: bool) -> None:
    shutil.rmtree(data)
    copy.rename(data)
    if promoted:
        mark, owner = data / "standby.signal", data.stat()
        mark.touch()
        os.chown(mark, owner.st_uid, owner.st_gid)
