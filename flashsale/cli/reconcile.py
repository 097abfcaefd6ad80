"""`flashsale reconcile`: the process that writes orders, returns overdue units and proves the totals."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, finish, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from prometheus_client import CollectorRegistry

    from flashsale.settings import ReconcilerSettings, Settings


MetricsPort: TypeAlias = Annotated[
    int | None,
    typer.Option("--metrics-port", metavar="PORT", min=0, max=65535, help="Serve its metrics there; 0 for nowhere.", show_default="0"),
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    command(
        app,
        "reconcile",
        "FLASHSALE_STORE_URL=redis://store:6379 FLASHSALE_POSTGRES_URL=postgresql://db/flashsale flashsale reconcile",
        "flashsale reconcile --config /etc/flashsale.toml --metrics-port 9464",
    )(reconcile)
    command(app, "reconcile-worker", hidden=True)(reconcile_worker)


def reconcile(metrics_port: MetricsPort = None, config: options.Config = None) -> None:
    """Write orders from the journal to Postgres, return overdue units, and prove the totals.

    Any number may run beside each other. The stores are checked first; what could lose a sale is refused, with what to
    change. While Postgres is away the journal keeps everything.

    Its alarms are metrics: with --metrics-port they are served at /metrics, on reconciler.metrics_host.
    """
    finish(run(_reconcile(metrics_port, config)))


def reconcile_worker() -> None:
    """The reconciler alone; settings come from the environment. Started by `up`."""
    from flashsale.cli.metric_files import forget_dead_processes
    from flashsale.settings import load_settings

    forget_dead_processes()
    run(run_reconciler(load_settings()))


async def _reconcile(metrics_port: int | None, config: Path | None) -> int:
    from flashsale.cli.checks import require_safe_stores
    from flashsale.cli.metric_files import forget_dead_processes
    from flashsale.settings import load_settings

    forget_dead_processes()
    settings = load_settings(config, overrides={} if metrics_port is None else {"reconciler": {"metrics_port": metrics_port}})
    await require_safe_stores(settings)
    await run_reconciler(settings)
    return 0


async def run_reconciler(settings: Settings) -> None:
    """Puts the reconciler together and runs it until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: a URL is malformed, or its metrics cannot be served where they are to be.
    """
    import asyncio

    from prometheus_client import CollectorRegistry

    from flashsale.cli.refund_providers import opened_refund_providers
    from flashsale.cli.target import opened
    from flashsale.connections.store import open_store
    from flashsale.drops import ROLLED_BACK
    from flashsale.expiry import Expiry
    from flashsale.log import configure_logging
    from reconciler.metrics import ReconcilerMetrics
    from reconciler.runner import Reconciler, stop_on_signals
    from reconciler.watch import Watch

    configure_logging(settings.log)
    stop = asyncio.Event()
    stop_on_signals(stop)
    registry = CollectorRegistry()
    async with (
        opened(settings) as parts,
        opened_refund_providers(settings.payments) as refund_providers,
        metrics_served(settings.reconciler, registry),
    ):
        metrics = ReconcilerMetrics(registry)
        expiry = Expiry(parts.drops, parts.reservations.expire, on_step=metrics.clock_stepped)
        watch = Watch(parts.database, parts.scripts, parts.drops, metrics, settings.reconciler.refresh_ms)
        reconciler = Reconciler(
            settings=settings,
            database=parts.database,
            open_journal_store=lambda: open_store(settings.store, blocks_ms=settings.reconciler.block_ms),
            expire=expiry.end_overdue,
            pause=parts.drops.pause,
            open_in_store=parts.catalog.open_in_store,
            complete_stock=parts.stock.complete,
            metrics=metrics,
            fence=lambda drop_id, epoch: parts.drops.fence(drop_id, epoch, ROLLED_BACK),
            refund_providers=refund_providers,
            more_agents=[watch],
        )
        await reconciler.run(stop)


@asynccontextmanager
async def metrics_served(settings: ReconcilerSettings, registry: CollectorRegistry) -> AsyncIterator[None]:
    """Metrics are served while the context lasts, if there is a port for them. Raises ConfigurationError."""
    import structlog

    from flashsale.metrics import render
    from flashsale.web.metrics_listener import serving_metrics

    if not settings.metrics_port:
        yield
        return
    async with serving_metrics(settings.metrics_host, settings.metrics_port, lambda: render(registry)) as port:
        structlog.get_logger("reconciler").info("metrics_served", host=settings.metrics_host, port=port)
        yield
