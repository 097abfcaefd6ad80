"""What a running `flashsale up` leaves in its data folder, so that other commands find it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from flashsale.errors import ConfigurationError

DEFAULT_DATA_DIR = Path(".flashsale")
RUNTIME_FILE = "runtime.json"
SIGNING_KEYS_FILE = "signing-keys.json"


class Runtime(msgspec.Struct, frozen=True):
    """The file `runtime.json` of a data folder. Mode 0600: the URLs may hold passwords."""

    pid: int
    """of the `flashsale up` or `flashsale demo` that runs there"""
    http_url: str
    store_url: str
    postgres_url: str
    signing_keys_file: str


def write_private(path: Path, data: bytes) -> None:
    """Put `data` into `path`, whole or not at all, readable for its owner only.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise ConfigurationError(what=f"{path} cannot be written:", why=f"{error.strerror or error}.") from error


def write_runtime(data_dir: Path, runtime: Runtime) -> None:
    """Tell other commands what runs in `data_dir`."""
    write_private(data_dir / RUNTIME_FILE, msgspec.json.encode(runtime))


def remove_runtime(data_dir: Path) -> None:
    """Take it back."""
    (data_dir / RUNTIME_FILE).unlink(missing_ok=True)


def read_runtime(data_dir: Path) -> Runtime | None:
    """What runs in `data_dir`; None when nothing does, whatever a killed process left behind."""
    from flashsale.embedded.stores import running_stores

    try:
        runtime = msgspec.json.decode((data_dir / RUNTIME_FILE).read_bytes(), type=Runtime)
    except (OSError, msgspec.DecodeError):
        return None
    return runtime if running_stores(data_dir) is not None else None
