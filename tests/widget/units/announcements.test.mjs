import assert from "node:assert/strict";
import { test } from "node:test";
import { announcement } from "../../../widget/src/announcements.js";

const view = ({ position = 700, chance = 0.9, ...values }) => ({
  state: "waiting", place: { position, chance }, untilMs: 0, notice: null, problem: null, away: null, ...values,
});
const told = (before, now) => announcement(before && view(before), view(now));

test("the first view is said, and every new state", () => {
  assert.equal(told(null, {}), "state");
  assert.equal(told({}, { state: "called" }), "state");
  assert.equal(told(null, { state: "loading" }), null);
});

test("a position is said when it falls below a power of two", () => {
  assert.equal(told({ position: 700 }, { position: 512 }), null);
  assert.equal(told({ position: 512 }, { position: 511 }), "place");
  assert.equal(told({ position: 511 }, { position: 300 }), null);
  assert.equal(told({ position: 300 }, { position: 301 }), null);
  assert.equal(told({ position: 1 }, { position: 0 }), "place");
  assert.equal(told({ position: 700 }, { position: 3 }), "place"); // once, though many were crossed
});

test("a walk down the line says little", () => {
  const said = Array.from({ length: 1_000 }, (_, i) => told({ position: 1_000 - i }, { position: 999 - i })).filter(Boolean);
  assert.equal(said.length, 10);
});

test("a countdown is said at 60, 30 and 10 seconds", () => {
  const seconds = [];
  for (let ms = 90_000; ms > 1_000; ms -= 1_000) {
    const news = told({ state: "joined", untilMs: ms }, { state: "joined", untilMs: ms - 1_000 });
    if (news) seconds.push([ms - 1_000, news]);
  }
  assert.deepEqual(seconds, [60, 30, 10].map((second) => [1000 * second, second]));
  assert.equal(told({ state: "joined", untilMs: 90_000 }, { state: "joined", untilMs: 9_500 }), 10);
});

test("that an admission ends is said once, a minute before", () => {
  const seconds = [];
  for (let ms = 150_000; ms > 1_000; ms -= 1_000) {
    const [before, now] = [ms, ms - 1_000].map((untilMs) => ({ state: "admitted", untilMs: untilMs < 120_000 ? untilMs : 0 }));
    const news = told(before, now);
    if (news) seconds.push([ms - 1_000, news]);
  }
  assert.deepEqual(seconds, [[60_000, 60]]);
  assert.equal(told({ state: "admitted", untilMs: 0 }, { state: "admitted", untilMs: 45_000 }), 60); // a page that was asleep
});

test("what was found of the draw is said, good or bad", () => {
  assert.equal(told({}, { proof: { verified: true } }), "proof");
  assert.equal(told({}, { proof: { verified: false, sentence: "The key does not follow." } }), "proof");
  assert.equal(told({ proof: { verified: true } }, { proof: { verified: true } }), null);
});

test("a notice, a service that is away, and lost hope are said when they come", () => {
  assert.equal(told({}, { notice: "Size 42 is nearly gone." }), "notice");
  assert.equal(told({}, { away: { code: "unreachable" } }), "notice");
  assert.equal(told({ chance: 0.06 }, { chance: 0.04 }), "place");
  assert.equal(told({ chance: 0.04 }, { chance: 0.03 }), null);
  assert.equal(told({ chance: 0.9 }, { chance: null }), null);
});
