"""Group commit: who asks together travels together, and everybody gets the own answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from flashsale.errors import Busy, ScriptError, StoreUnknown
from flashsale.scripts import Batcher
from flashsale.settings import BatchSettings


class Store:
    """Answers each request with itself, doubled, when it is let; remembers what it was sent."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.in_flight = 0
        self.in_flight_max = 0
        self.gates: list[asyncio.Future[None]] = []
        self.called = asyncio.Event()

    async def send(self, requests: list[int]) -> list[int]:
        self.batches.append(requests)
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        self.gates.append(asyncio.get_running_loop().create_future())
        self.called.set()
        try:
            await self.gates[-1]
        finally:
            self.in_flight -= 1
        return [2 * request for request in requests]

    async def next_call(self) -> None:
        await self.called.wait()
        self.called.clear()

    def answer(self, call: int = -1) -> None:
        self.gates[call].set_result(None)


@pytest.fixture
def held() -> Store:
    return Store()


def batcher(send: Callable[..., object], size_max: int = 4, in_flight_max: int = 1, waiting_max: int = 100) -> Batcher[int, int]:
    return Batcher(send, BatchSettings(size_max=size_max, in_flight_max=in_flight_max, waiting_max=waiting_max))  # type: ignore[arg-type]


async def at_once(requests: list[int]) -> list[int]:
    return [2 * request for request in requests]


async def test_a_lone_request_goes_out_at_once(held: Store) -> None:
    answer = batcher(held.send).submit(1)
    await held.next_call()
    held.answer()
    assert await answer == 2
    assert held.batches == [[1]]


async def test_requests_of_one_turn_travel_together_in_order(held: Store) -> None:
    group = batcher(held.send)
    answers = [group.submit(number) for number in range(3)]
    await held.next_call()
    held.answer()
    assert await asyncio.gather(*answers) == [0, 2, 4]
    assert held.batches == [[0, 1, 2]]


async def test_requests_that_arrive_meanwhile_go_out_as_the_next_call(held: Store) -> None:
    group = batcher(held.send)
    first = group.submit(0)
    await held.next_call()
    later = [group.submit(number) for number in range(1, 7)]
    held.answer()
    assert await first == 0
    await held.next_call()
    held.answer()
    await held.next_call()
    held.answer()
    assert await asyncio.gather(*later) == [2, 4, 6, 8, 10, 12]
    assert held.batches == [[0], [1, 2, 3, 4], [5, 6]]


async def test_no_more_calls_are_in_flight_than_allowed(held: Store) -> None:
    group = batcher(held.send, size_max=1, in_flight_max=3)
    answers = [group.submit(number) for number in range(9)]
    for call in range(9):
        while len(held.batches) <= call:
            await held.next_call()
        held.answer(call)
    assert await asyncio.gather(*answers) == [2 * number for number in range(9)]
    assert held.in_flight_max == 3


async def test_answers_find_their_callers_when_calls_end_out_of_order(held: Store) -> None:
    group = batcher(held.send, size_max=2, in_flight_max=2)
    answers = [group.submit(number) for number in range(4)]
    while len(held.batches) < 2:
        await held.next_call()
    held.answer(1)
    assert await asyncio.gather(*answers[2:]) == [4, 6]
    assert not answers[0].done()
    held.answer(0)
    assert await asyncio.gather(*answers[:2]) == [0, 2]


async def test_a_full_line_refuses_and_recovers(held: Store) -> None:
    group = batcher(held.send, waiting_max=3)
    first = group.submit(0)
    await held.next_call()
    waiting = [group.submit(number) for number in range(1, 4)]
    with pytest.raises(Busy):
        _ = group.submit(4)
    held.answer()
    await first
    await held.next_call()
    held.answer()
    assert await asyncio.gather(*waiting) == [2, 4, 6]
    again = group.submit(5)
    await held.next_call()
    held.answer()
    assert await again == 10


async def test_who_went_away_before_the_call_is_not_sent(held: Store) -> None:
    group = batcher(held.send)
    first = group.submit(0)
    await held.next_call()
    gone, stays = group.submit(1), group.submit(2)
    gone.cancel()
    held.answer()
    await first
    await held.next_call()
    held.answer()
    assert await stays == 4
    assert held.batches == [[0], [2]]


async def test_a_line_of_people_who_all_went_away_sends_nothing(held: Store) -> None:
    group = batcher(held.send)
    for request in [group.submit(number) for number in range(3)]:
        request.cancel()
    await asyncio.sleep(0)
    assert held.batches == []
    assert await _answered(group, held) == 14


async def _answered(group: Batcher[int, int], held: Store) -> int:
    answer = group.submit(7)
    await held.next_call()
    held.answer()
    return await answer


@pytest.mark.parametrize("seed", range(5))
async def test_a_thousand_cancelled_at_random_moments_and_nobody_gets_anothers_answer(seed: int) -> None:
    rng = random.Random(seed)
    in_flight = 0
    most = 0

    async def send(requests: list[int]) -> list[int]:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        in_flight -= 1
        return [2 * request for request in requests]

    group = batcher(send, size_max=16, in_flight_max=3, waiting_max=2_000)

    async def ask(number: int) -> int:
        for _ in range(rng.randrange(20)):
            await asyncio.sleep(0)
        return await group.submit(number)

    tasks = [asyncio.create_task(ask(number)) for number in range(2_000)]
    doomed = rng.sample(tasks, 1_000)
    for index, task in enumerate(doomed):
        task.cancel()
        if index % 7 == 0:
            await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    answered = {number: result for number, result in enumerate(results) if not isinstance(result, BaseException)}
    assert all(result == 2 * number for number, result in answered.items())
    assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 2_000 - len(answered)
    assert {number for number, task in enumerate(tasks) if task not in doomed} <= answered.keys()
    assert most <= 3
    assert await asyncio.gather(*(group.submit(number) for number in range(50))) == [2 * number for number in range(50)]


async def test_the_exception_of_a_call_reaches_everyone_in_it_and_only_them() -> None:
    calls = 0

    async def send(requests: list[int]) -> list[int]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise StoreUnknown(what="No answer.")
        return await at_once(requests)

    group = batcher(send, size_max=3)
    results = await asyncio.gather(*(group.submit(number) for number in range(5)), return_exceptions=True)
    assert [type(result) for result in results[:3]] == [StoreUnknown] * 3
    assert results[3:] == [6, 8]


@pytest.mark.parametrize("count", [0, 2, 4])
async def test_a_call_with_the_wrong_number_of_answers_leaves_nobody_waiting(count: int) -> None:
    """Nobody can tell whose answers they are, so nobody gets one."""

    async def send(_requests: list[int]) -> list[int]:
        return list(range(count))

    group = batcher(send)
    async with asyncio.timeout(5):
        results = await asyncio.gather(*(group.submit(number) for number in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [ScriptError] * 3


async def test_callers_hear_it_when_the_service_stops(held: Store) -> None:
    group = batcher(held.send)
    answer = group.submit(1)
    await held.next_call()
    [call] = group._calls
    call.cancel()
    with pytest.raises(StoreUnknown, match="stopping"):
        await answer
    assert call.cancelled() or await asyncio.wait([call])
