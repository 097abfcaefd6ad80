"""Connections that can be relied on in three moments where the library's cannot (redis-py 8.1).

It sends inside `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that arrives when the sending has just
ended: a loop that misses its cancellation never stops. And it raises the same error when a connection could not be made as
when one was lost under a command, although the first means that nothing was sent and the second that nobody knows. And it
does not expect what uvloop raises when a connection is found closed at the very moment of sending.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    Sentinel,
    SentinelConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import MasterNotFoundError, SentinelManagedConnection, SentinelManagedSSLConnection
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as StoreTimeoutError

from flashsale.connections.wording import reason_of

SENTINEL_ASK_S = 0.2
"""How often a client in use asks who the primary is: for so long it may take a former primary for the present one."""
SENTINEL_ASK_AGAIN_S = 5.0
"""The same while no Sentinel answers, so that calls are not held up by asking."""


class NotSent(StoreConnectionError):
    """There is no connection to the store, so the command was not sent."""


if TYPE_CHECKING:
    _Sender = AbstractConnection
else:
    _Sender = object


class _Sends(_Sender):
    """Looks for a cancellation that the library's sending has missed, and knows a closed connection by uvloop's word for it."""

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - the library's signature
        task = asyncio.current_task()
        asked_before = task.cancelling() if task else 0
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            raise NotSent(str(error)) from error
        if task and task.cancelling() > asked_before:
            await self.disconnect(nowait=True)  # or the next command would be given this one's reply
            raise asyncio.CancelledError


class _Tcp(_Sends, Connection):
    pass


class _Tls(_Sends, SSLConnection):
    pass


class _Socket(_Sends, UnixDomainSocketConnection):
    pass


class _AnswersAsPrimary(_Sender):
    """Takes no answer from a server that is not the primary any more: whatever it did is lost when it becomes a replica."""

    connection_pool: SentinelPool

    async def read_response(self, *words: Any, **options: Any) -> Any:
        response = await super().read_response(*words, **options)
        try:
            await self.connection_pool.require_primary(self)
        except BaseException:
            await self.disconnect(nowait=True)  # other answers may be on their way
            raise
        return response


class _Primary(_Sends, _AnswersAsPrimary, SentinelManagedConnection):
    pass


class _PrimaryTls(_Sends, _AnswersAsPrimary, SentinelManagedSSLConnection):
    pass


_OURS: dict[type[AbstractConnection], type[AbstractConnection]] = {
    ours.__bases__[-1]: ours for ours in (_Tcp, _Tls, _Socket, _Primary, _PrimaryTls)
}


class StorePool(BlockingConnectionPool):
    """Connections to one server. It waits for a free one instead of failing at once.

    Raises `NotSent` when there is none in time, or none can be made.
    """

    def __init__(self, *, connection_class: type[AbstractConnection] = Connection, **options: Any) -> None:
        """As the library's pool; `connection_class` is the library's, and ours of the same kind is used."""
        super().__init__(connection_class=_OURS[connection_class], **options)

    async def get_connection(self, *words: Any, **options: Any) -> AbstractConnection:  # noqa: ARG002 - deprecated in the library
        """A connection that is ready to send."""
        try:
            connection: AbstractConnection = await super().get_connection()  # type: ignore[no-untyped-call]
        except (StoreConnectionError, StoreTimeoutError, OSError) as error:
            raise NotSent(str(error)) from error
        return connection


class Sentinels(Sentinel):
    """The Sentinels of one primary, asked in the way their protocol prescribes.

    redis-py looks into their lists, where the primary that has gone stands until the whole failover is over; the question
    below is answered with the new one as soon as it is promoted. https://valkey.io/topics/sentinel-clients/, step 2.
    """

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Host and port of the primary, told by the first Sentinel that answers; that one is asked first from then on.

        Raises:
            MasterNotFoundError: none answers, or none knows a primary of that name.
        """
        reason = "they know none"
        for sentinel in list(self.sentinels):
            try:
                host, port = await sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service_name) or (None, 0)  # type: ignore[no-untyped-call]
            except (RedisError, OSError) as error:
                reason = reason_of(error)
                continue
            if host is not None:
                self.sentinels.remove(sentinel)
                self.sentinels.insert(0, sentinel)
                return host.decode(), int(port)
        raise MasterNotFoundError(f"The Sentinels do not say who {service_name} is: {reason}")


class SentinelPool(SentinelConnectionPool, StorePool):
    """Connections to whichever server the Sentinels call the primary.

    redis-py asks the Sentinels only when it makes a connection, so a client whose connections stayed whole would go on with a
    primary that was frozen, replaced and thawed, until the Sentinels find it after some ten seconds. This one asks again before
    a connection is used and before an answer counts.
    """

    def __init__(self, *names: Any, **options: Any) -> None:
        """As the library's pool."""
        super().__init__(*names, **options)  # type: ignore[no-untyped-call]
        self._asking = asyncio.Lock()
        self._ask_at = 0.0

    async def get_connection(self, *words: Any, **options: Any) -> AbstractConnection:  # noqa: ARG002 - deprecated in the library
        """A connection to the primary; those to a former one are closed."""
        await self._ask_in_time()
        return await super().get_connection()

    async def require_primary(self, connection: Any) -> None:
        """Returns when `connection` leads to the primary.

        Raises:
            ConnectionError: it leads to a former one.
        """
        await self._ask_in_time()
        if self.master_address != (connection.host, connection.port):
            raise StoreConnectionError("The server that answered is not the primary any more")

    async def _ask_in_time(self) -> None:
        if self._is_time_to_ask():
            async with self._asking:
                if self._is_time_to_ask():
                    await self._ask()

    def _is_time_to_ask(self) -> bool:
        return asyncio.get_running_loop().time() >= self._ask_at

    async def _ask(self) -> None:
        pause_s = SENTINEL_ASK_S
        try:
            await self.get_master_address()  # type: ignore[no-untyped-call]
        except (RedisError, OSError):
            # Nobody knows better than our connections; without Sentinels nobody is promoted either.
            pause_s = SENTINEL_ASK_AGAIN_S
        self._ask_at = asyncio.get_running_loop().time() + pause_s

    async def aclose(self) -> None:
        """Close all connections, also those to the Sentinels, which redis-py leaves open."""
        await super().aclose()
        await self.sentinel_manager.aclose()
