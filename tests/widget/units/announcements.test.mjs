import assert from "node:assert/strict";
import { test } from "node:test";
import { announcement } from "../../../widget/src/announcements.js";

const view = (values) => ({ state: "waiting", position: 700, chance: 0.9, untilMs: null, notice: null, problem: null, away: null, ...values });
const told = (before, now) => announcement(before && view(before), view(now));

test("the first view is said, and every new state", () => {
  assert.deepEqual(told(null, {}), { topic: "state" });
  assert.deepEqual(told({}, { state: "called" }), { topic: "state" });
  assert.equal(told(null, { state: "loading" }), null);
});

test("a position is said at thresholds only", () => {
  assert.equal(told({ position: 700 }, { position: 501 }), null);
  assert.deepEqual(told({ position: 501 }, { position: 500 }), { topic: "position" });
  assert.equal(told({ position: 500 }, { position: 499 }), null);
  assert.deepEqual(told({ position: 1 }, { position: 0 }), { topic: "position" });
  assert.deepEqual(told({ position: 700 }, { position: 3 }), { topic: "position" }); // once, though many were crossed
});

test("a walk down the line says little", () => {
  const said = Array.from({ length: 1_000 }, (_, i) => told({ position: 1_000 - i }, { position: 999 - i })).filter(Boolean);
  assert.equal(said.length, 10);
});

test("a countdown is said at 60, 30 and 10 seconds", () => {
  const seconds = [];
  for (let ms = 90_000; ms > 0; ms -= 1_000) {
    const news = told({ state: "joined", untilMs: ms }, { state: "joined", untilMs: ms - 1_000 });
    if (news) seconds.push([ms - 1_000, news]);
  }
  const expected = [60, 30, 10].map((second) => [1000 * second, { topic: "countdown", seconds: second }]);
  assert.deepEqual(seconds, expected);
  assert.deepEqual(told({ state: "joined", untilMs: 90_000 }, { state: "joined", untilMs: 9_500 }), { topic: "countdown", seconds: 10 });
});

test("a notice, a service that is away, and lost hope are said when they come", () => {
  assert.deepEqual(told({}, { notice: "Size 42 is nearly gone." }), { topic: "notice" });
  assert.deepEqual(told({}, { away: { code: "unreachable" } }), { topic: "notice" });
  assert.deepEqual(told({ chance: 0.06 }, { chance: 0.04 }), { topic: "position" });
  assert.equal(told({ chance: 0.04 }, { chance: 0.03 }), null);
  assert.equal(told({ chance: 0.9 }, { chance: null }), null);
});
