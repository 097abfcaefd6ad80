"""Every outcome of every script: the answer, the whole state afterwards, and that calling twice has one effect."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.lua import scenarios_line, scenarios_orders, scenarios_recovery, scenarios_repair, scenarios_room
from tests.lua.dump import changed
from tests.lua.scenario import HOT, Scenario
from tests.lua.world import ENVELOPED, LIBRARY, World

SCENARIOS = [
    *scenarios_room.SCENARIOS,
    *scenarios_line.SCENARIOS,
    *scenarios_orders.SCENARIOS,
    *scenarios_recovery.SCENARIOS,
    *scenarios_repair.SCENARIOS,
]


def test_every_outcome_of_every_script_has_a_scenario() -> None:
    covered = {(scenario.script, scenario.outcome) for scenario in SCENARIOS}
    assert covered == {(script.name, outcome) for script in LIBRARY.values() for outcome in script.outcomes}
    names = Counter(scenario.name for scenario in SCENARIOS if scenario.when)
    assert not [name for name, times in names.items() if times > 1]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_outcome(world: World, scenario: Scenario) -> None:
    await scenario.start(world)
    if scenario.after_ms is not None:
        world.at(scenario.after_ms)
    before, digest_before = await world.state(), await world.digest()

    outcome, answer = _told(scenario, await world.act(scenario.script, *scenario.asked))
    sequence = world.told

    after, digest_after = await world.state(), await world.digest()
    assert outcome == scenario.outcome
    if scenario.answer is not None:
        assert answer == scenario.answer
    assert after == _counting(_numbered(scenario, changed(before, **scenario.changes)), scenario.counted)
    if not scenario.changes and not scenario.counted:
        assert digest_after == digest_before
    if scenario.script in ENVELOPED and outcome != "recovering":
        assert str(sequence) == after["drop"]["sequence"]

    await world.client.script_flush()
    repeated, _ = _told(scenario, await world.act(scenario.script, *scenario.asked))
    assert repeated == (scenario.replay or scenario.outcome)
    assert await world.state() == _counting(after, scenario.counted)
    if not scenario.counted:
        assert await world.digest() == digest_after


def _told(scenario: Scenario, reply: tuple[str, int, Any]) -> tuple[str, Any]:
    word, _, results = reply
    if scenario.script not in ENVELOPED:
        return word, list(results)
    if word == "recovering":
        assert results == []
        return word, None
    assert word == "done"
    answer = results[0] if scenario.script in HOT else results
    return answer[0], answer


def _numbered(scenario: Scenario, state: dict[str, Any]) -> dict[str, Any]:
    """`state` with the next sequence, in the drop and in the journal, when the scenario changes what somebody is told of."""
    if scenario.changes and not scenario.quiet:
        state["drop"]["sequence"] = str(int(state["drop"]["sequence"]) + 1)
        for entry in state["journal"]:
            entry.setdefault("sequence", int(state["drop"]["sequence"]))
    return state


def _counting(state: dict[str, Any], counted: dict[str, int]) -> dict[str, Any]:
    stats = Counter(state["stats"])
    stats.update(counted)
    return state | {"stats": dict(stats)}
