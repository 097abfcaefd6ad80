"""Settings: one immutable tree, read once at start.

`config/flashsale.toml` is the single source of names and defaults, each with its reason. Over it go a file named by
`--config` or `FLASHSALE_CONFIG`, then the environment, then explicit overrides. Unknown names are refused, so a misspelt
setting never silently keeps its default.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from flashsale.errors import ConfigurationError
from flashsale.resources import resource_dir

Positive = Annotated[int, Meta(gt=0)]
Natural = Annotated[int, Meta(ge=0)]

ENVIRONMENT_PREFIX = "FLASHSALE_"
CONFIG_VARIABLE = "FLASHSALE_CONFIG"

_QUOTED_VALUE = re.compile(r"value '.*'", re.DOTALL)


class StoreSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The hot store."""

    url: str
    timeout_ms: Positive
    deadline_ms: Positive
    connections_max: Positive


class PostgresSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The durable store."""

    url: str
    pool_size_max: Positive
    statement_timeout_ms: Positive
    lock_timeout_ms: Positive


class HttpSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The API workers."""

    host: str
    port: Annotated[int, Meta(ge=0, le=65535)]
    workers: Annotated[int, Meta(ge=1, le=256)]
    body_max_bytes: Positive
    head_timeout_ms: Positive
    body_timeout_ms: Positive
    keepalive_ms: Positive
    connections_max: Positive
    rate_per_s: Annotated[float, Meta(ge=0)]
    rate_burst: Positive
    rate_exempt: list[str]
    trusted_proxies: list[str]
    cors_origins: list[str]
    shutdown_grace_ms: Positive

    def barred(self, origins: Iterable[str]) -> list[str]:
        """Those of `origins` whose pages may not call the API."""
        return [] if "*" in self.cors_origins else [origin for origin in origins if origin not in self.cors_origins]


class BatchSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Group commit in front of the store."""

    size_max: Annotated[int, Meta(ge=1, le=1024)]
    in_flight_max: Annotated[int, Meta(ge=1, le=16)]
    waiting_max: Positive


class WaitingRoomSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """The line."""

    beat_ms: Annotated[int, Meta(ge=50, le=5000)]
    tickets_max: Positive
    reservations_per_shopper_max: Positive
    poll_floor_ms: Positive
    poll_ceiling_ms: Positive
    poll_divisor: Positive


class TokenSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Admission tokens and receipts."""

    issuer: str
    audience: str
    ttl_ms: Annotated[int, Meta(ge=1000, le=600_000)]
    signing_keys_file: str


class IdentitySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Shoppers the storefront vouches for."""

    keys_file: str
    issuer: str
    audience: str


class BeaconSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Public randomness for draws."""

    drand_url: str
    file: str


class ReaperSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Return of overdue reservations."""

    interval_ms: Annotated[int, Meta(ge=50, le=1500)]
    batch_size_max: Annotated[int, Meta(ge=1, le=1000)]


class ReconcilerSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Journal to Postgres."""

    batch_entries_max: Annotated[int, Meta(ge=1, le=10_000)]
    batch_rows_max: Annotated[int, Meta(ge=1, le=50_000)]
    block_ms: Positive
    claim_idle_ms: Positive
    deliveries_max: Positive
    keep_finished_ms: Natural
    audit_interval_ms: Positive
    refresh_ms: Positive
    metrics_host: str
    metrics_port: Annotated[int, Meta(ge=0, le=65535)]


class ConfirmSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a confirm waits for Postgres."""

    deadline_ms: Natural


class PaymentSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Payment providers."""

    webhook_secret: str
    webhook_tolerance_ms: Positive
    stripe_webhook_secret: str
    stripe_api_key: str
    stripe_api_url: str
    refund_url: str
    refund_timeout_ms: Positive
    refund_interval_ms: Annotated[int, Meta(ge=50, le=60_000)]
    test_provider: bool


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Logging."""

    level: Literal["debug", "info", "warning", "error"]
    format: Literal["auto", "json", "console"]
    sample_ok: Positive


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that can be set. Sections and fields are those of `config/flashsale.toml`."""

    store: StoreSettings
    postgres: PostgresSettings
    http: HttpSettings
    batch: BatchSettings
    waiting_room: WaitingRoomSettings
    tokens: TokenSettings
    identity: IdentitySettings
    beacon: BeaconSettings
    reaper: ReaperSettings
    reconciler: ReconcilerSettings
    confirm: ConfirmSettings
    payments: PaymentSettings
    log: LogSettings


def load_settings(
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """The settings in force.

    Args:
        path: a TOML file over the defaults; `FLASHSALE_CONFIG` names one when this is None.
        environment: variables `FLASHSALE_<SECTION>_<NAME>`, or `…_FILE` with the path of a file holding the value;
            the process's own when None.
        overrides: section to name to value, over everything else.

    Raises:
        ConfigurationError: a file cannot be read, or a name or value is not valid; says which.
    """
    environment = os.environ if environment is None else environment
    if path is None and environment.get(CONFIG_VARIABLE):
        path = Path(environment[CONFIG_VARIABLE])
    tree = _read_toml(resource_dir("config") / "flashsale.toml")
    if path is not None:
        _merge(tree, _read_toml(path), source=str(path))
    _merge(tree, _from_environment(environment, tree), source="the environment")
    _merge(tree, overrides or {}, source="the command line")
    try:
        return msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        # The message may quote the value, and a value in the wrong place may be a secret.
        why = _QUOTED_VALUE.sub("value", str(error)).replace("`$.", "`")
        raise ConfigurationError(
            what="A setting is not valid:", why=f"{why}.", todo="See config/flashsale.toml for every setting and its range."
        ) from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(what=f"The settings file {path} cannot be read:", why=f"{error}.") from None


def _merge(tree: dict[str, Any], over: Mapping[str, Any], *, source: str) -> None:
    for section, values in over.items():
        if section not in tree or not isinstance(values, Mapping):
            raise ConfigurationError(what=f"{source} sets the unknown section [{section}].", todo=f"Sections are {', '.join(tree)}.")
        for name, value in values.items():
            if name not in tree[section]:
                raise ConfigurationError(
                    what=f"{source} sets {section}.{name}, which does not exist.",
                    todo=f"Settings of [{section}] are {', '.join(tree[section])}.",
                )
            tree[section][name] = value


def _from_environment(environment: Mapping[str, str], tree: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    known: set[str] = set()
    for section, values in tree.items():
        for name, default in values.items():
            variable = f"{ENVIRONMENT_PREFIX}{section}_{name}".upper()
            text = environment.get(variable)
            if text is None and (file := environment.get(variable + "_FILE")):
                try:
                    text = Path(file).read_text(encoding="utf-8").strip()
                except (OSError, UnicodeDecodeError) as error:
                    raise ConfigurationError(what=f"{variable}_FILE cannot be read:", why=f"{error}.") from None
            known |= {variable, variable + "_FILE"}
            if text is not None:
                found.setdefault(section, {})[name] = _typed(text, default, variable)
    _refuse_misspelt(environment, tree, known)
    return found


def _refuse_misspelt(environment: Mapping[str, str], tree: Mapping[str, Any], known: set[str]) -> None:
    """A variable of a section that names none of its settings would otherwise be ignored without a word."""
    sections = tuple(f"{ENVIRONMENT_PREFIX}{section}_".upper() for section in tree)
    for variable in sorted(environment):
        if variable.startswith(sections) and variable not in known:
            near = difflib.get_close_matches(variable, sorted(known), n=1)
            raise ConfigurationError(
                what=f"The environment sets {variable}, which is no setting.", todo=f"Did you mean {near[0]}?" if near else ""
            )


def _typed(text: str, default: Any, variable: str) -> Any:
    """`text` as the type of `default`; lists are JSON or comma-separated."""
    if isinstance(default, str):
        return text
    try:
        if not isinstance(default, list):
            return msgspec.convert(text, type(default), strict=False)
        if text.startswith("["):
            return msgspec.json.decode(text)
        return [part.strip() for part in text.split(",") if part.strip()]
    except msgspec.MsgspecError:
        # The value may hold a secret put in the wrong place, so it is not repeated.
        raise ConfigurationError(what=f"{variable} must be a {type(default).__name__}.") from None
