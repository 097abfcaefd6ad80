"""`flashsale drop watch`: a drop, live in the terminal."""

from __future__ import annotations

import typer


def register(drops: typer.Typer) -> None:
    """Adds the command."""
