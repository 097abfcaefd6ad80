"""What every test has: the stores' fixtures, the event loop that production runs on, and logging as it was."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator, Mapping

import pytest
import structlog
import uvloop

pytest_plugins = ["tests.stores"]


def pytest_configure() -> None:
    """Ctrl-C works in whatever the tests start: a shell has its background jobs ignore it, and that is handed down."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on uvloop, as the service does."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Logging is the process's: a command that sets it up in here must not silence the tests after it."""
    root = logging.getLogger()
    before, handlers, level = structlog.get_config(), root.handlers, root.level
    yield
    structlog.configure(**before)
    root.handlers = handlers
    root.setLevel(level)
