"""`flashsale serve`: API workers against stores named by URL."""

from __future__ import annotations

from pathlib import Path

import typer

from flashsale.cli import options
from flashsale.cli.commands import command, finish, run
from flashsale.cli.output import say


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    command(
        app,
        "serve",
        "FLASHSALE_STORE_URL=redis://store:6379 FLASHSALE_POSTGRES_URL=postgresql://db/flashsale flashsale serve",
        "flashsale serve --config /etc/flashsale.toml --workers 4",
    )(serve)
    command(app, "serve-worker", hidden=True)(serve_worker)


def serve(
    host: options.Host = None,
    port: options.Port = None,
    workers: options.Workers = None,
    config: options.Config = None,
) -> None:
    """Run the API against stores named by URL.

    The stores are checked first; what could lose a sale is refused, with what to change. If Postgres cannot be reached
    it starts all the same after a short wait: a drop runs without it, and orders arrive there later.
    """
    finish(run(_serve(host, port, workers, config)))


async def _serve(host: str | None, port: int | None, workers: int | None, config: Path | None) -> int:
    import msgspec

    from flashsale.cli.checks import require_safe_stores
    from flashsale.cli.compose import read_signing_keys
    from flashsale.cli.listening import http_url, port_for_workers
    from flashsale.cli.metric_files import shared_metrics
    from flashsale.cli.stack import processes_of
    from flashsale.log import configure_logging
    from flashsale.settings import load_settings
    from flashsale.supervisor import Supervisor

    settings = load_settings(config, overrides=options.http_overrides(host, port, workers))
    configure_logging(settings.log)
    read_signing_keys(settings.tokens.signing_keys_file)
    await require_safe_stores(settings)
    with port_for_workers(settings.http.host, settings.http.port) as taken, shared_metrics() as variables:
        settings = msgspec.structs.replace(settings, http=msgspec.structs.replace(settings.http, port=taken))
        url = http_url(settings.http.host, taken)
        supervisor = Supervisor(
            processes_of(settings, variables, reconciler=False),
            on_ready=lambda: say(f"Serving on [bold]{url}[/] with {settings.http.workers} workers."),
            stop_timeout_s=settings.http.shutdown_grace_ms / 1000 + 1,
        )
        return await supervisor.run()


def serve_worker() -> None:
    """One API worker; settings come from the environment. Started by `up` and `serve`."""
    from flashsale.cli.compose import run_worker
    from flashsale.cli.metric_files import forget_dead_processes
    from flashsale.settings import load_settings

    forget_dead_processes()
    run_worker(load_settings())
