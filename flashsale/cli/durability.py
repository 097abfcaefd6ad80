"""Does the store keep what its drops were promised?"""

from __future__ import annotations

from flashsale.cli.target import Parts
from flashsale.connections.checks import Finding
from flashsale.errors import Recovering, ScriptError, UnsafeStore
from flashsale.model import DropState


async def check_durability(parts: Parts) -> list[Finding]:
    """One finding for each drop whose durability the store does not keep, or one that says all is well.

    Drops that have ended are left out: nothing of theirs is acknowledged any more but payments, which Postgres keeps.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    found = [finding for drop_id in sorted(await parts.drops.ids()) if (finding := await _of_drop(parts, drop_id))]
    return found or [Finding("durability", "ok", "The store keeps the durability of every drop.")]


async def _of_drop(parts: Parts, drop_id: str) -> Finding | None:
    try:
        inspection = await parts.drops.inspect(drop_id)
        if inspection.snapshot.state is not DropState.CLOSED:
            await parts.drops.require_durability(inspection.definition)
    except UnsafeStore as error:
        return Finding(f"durability.{drop_id}", "unsafe", error.what, error.todo)
    except (Recovering, ScriptError):
        pass  # the drop's other findings tell that
    return None
