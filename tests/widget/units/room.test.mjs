import assert from "node:assert/strict";
import { test } from "node:test";
import * as telling from "../../../widget/src/place.js";
import { nextLookMs, retryMs, stateOf, viewOf } from "../../../widget/src/room.js";
import { OPENS_AT_MS, documentOf, dropOf, world } from "./stage.mjs";

const placed = { ticket: "d.t1", secret: "s", epoch: 1, line: 0, entry: 7, number: 700 };
const OPEN = { serving: documentOf(), nowMs: OPENS_AT_MS + 60_000 };
const EARLY = { serving: documentOf({ state: "waiting", serving_number: 0, now_ms: OPENS_AT_MS - 60_000 }), nowMs: OPENS_AT_MS - 60_000 };

const STATES = [
  ["loading", { serving: null, kept: {}, nowMs: 0 }],
  ["before", { ...EARLY, serving: { ...EARLY.serving, state: "scheduled" }, kept: {} }],
  ["ready", { ...EARLY, kept: {} }],
  ["ready", { ...OPEN, kept: {} }],
  ["joined", { ...EARLY, kept: { ...placed, number: null } }],
  ["drawing", { ...OPEN, kept: { ...placed, number: null } }],
  ["waiting", { ...OPEN, kept: placed }],
  ["called", { ...OPEN, kept: { ...placed, number: 99 } }],
  ["waiting", { ...OPEN, kept: { ...placed, number: 100 } }],
  ["admitted", { ...OPEN, kept: { ...placed, token: "t", tokenExpiresAtMs: OPEN.nowMs + 1 } }],
  ["called", { ...OPEN, kept: { ...placed, number: 1, token: "t", tokenExpiresAtMs: OPEN.nowMs } }],
  ["paused", { ...OPEN, serving: documentOf({ state: "paused" }), kept: placed }],
  ["recovering", { ...OPEN, serving: documentOf({ state: "recovering" }), kept: placed }],
  ["recovering", { ...OPEN, serving: documentOf({ epoch: 2 }), kept: { ...placed, token: "t", tokenExpiresAtMs: OPEN.nowMs + 1 } }],
  ["sold_out", { ...OPEN, serving: documentOf({ sold_out: true, epoch: 2 }), kept: placed }],
  ["closed", { ...OPEN, serving: documentOf({ state: "closed", sold_out: true }), kept: placed }],
  ["removed", { ...OPEN, kept: { ...placed, gone: "removed" } }],
  ["moved", { ...OPEN, kept: { ...placed, gone: "moved" } }],
];

for (const [state, known] of STATES) test(`the state is ${state} for ${JSON.stringify(known.kept)}`, () => assert.equal(stateOf(known), state));

test("a place in a group is told its own line", () => {
  const groups = [
    { group: "", joined: 900, entries: 700, key: null, serving_number: 100, share_permille: 700 },
    { group: "gold", joined: 100, entries: 100, key: null, serving_number: 30, share_permille: 300 },
  ];
  const view = viewOf({ serving: documentOf({ groups }), drop: dropOf(), kept: { ...placed, line: 1, number: 50 }, nowMs: OPEN.nowMs });
  assert.deepEqual([view.state, view.place.position], ["waiting", 20]);
});

test("progress is the part of the line that was there and is gone", () => {
  const view = viewOf({ ...OPEN, drop: dropOf(), kept: { ...placed, from: 50, number: 150 } });
  assert.deepEqual([view.place.progress, view.place.position], [0.5, 50]);
});

test("before the draw there is an entry number, and no position", () => {
  const view = viewOf({ ...EARLY, drop: dropOf(), kept: { ...placed, number: null } });
  const { position, entryNumber, queueNumber } = view.place;
  assert.deepEqual([view.state, position, entryNumber, queueNumber, view.untilMs], ["joined", null, 7, null, 60_000]);
});

test("an admission that is about to end is counted down", () => {
  const left = (ms) => viewOf({ ...OPEN, drop: dropOf(), kept: { ...placed, token: "t", tokenExpiresAtMs: OPEN.nowMs + ms } }).untilMs;
  assert.deepEqual([left(600_000), left(119_000), left(1_000)], [0, 119_000, 1_000]);
});

test("until what a place is told is loaded, there is its position and nothing of when", () => {
  const { position, etaMs, chance } = viewOf({ ...OPEN, drop: dropOf(), kept: placed }).place;
  assert.deepEqual([position, etaMs, chance], [600, null, null]);
  const told = viewOf({ ...OPEN, drop: dropOf(), kept: placed, telling }).place;
  assert.equal(told.position, 600);
  assert.ok(told.etaMs[0] < told.etaMs[1] && told.chance > 0);
});

test("the countdown before joining is to the joining", () => {
  const serving = documentOf({ state: "scheduled" });
  const view = viewOf({ serving, drop: dropOf(), kept: {}, nowMs: OPENS_AT_MS - 3_600_000 - 5_000 });
  assert.deepEqual([view.state, view.untilMs, view.startsAtMs], ["before", 5_000, OPENS_AT_MS - 3_600_000]);
});

test("what only the shopper can mend is trouble; what passes by itself leaves the place in sight", () => {
  const away = { code: "unreachable" };
  assert.equal(viewOf({ ...OPEN, kept: placed, away }).state, "waiting");
  assert.equal(viewOf({ serving: null, kept: {}, nowMs: 0, away }).state, "trouble");
  assert.equal(viewOf({ ...OPEN, kept: {}, problem: { code: "code_required" } }).state, "trouble");
});

test("the next look is as the document advises", () => {
  const look = (kept, values = {}) => nextLookMs({ serving: documentOf(values), drop: dropOf(), kept, nowMs: OPEN.nowMs });
  assert.equal(look(placed), 3_000); // 600 ahead at 600 a minute, by 20
  assert.equal(look({ ...placed, number: 99 }), 2_000);
  assert.equal(look({ ...placed, number: 1e6 }), 30_000);
  assert.equal(look(placed, { sold_out: true }), 30_000);
  assert.equal(look(placed, { state: "closed" }), 30_000);
  assert.equal(look({}), 30_000); // nothing is waited for
  assert.equal(look({ ...placed, gone: "moved" }), 30_000);
});

/** What `work` gives when chance gives the least and the most. */
function spreadOf(work) {
  const found = [0, 1].map((part) => {
    world.part = part;
    return Math.round(work());
  });
  world.part = 0.5;
  return found;
}

test("the next look is just after the opening at the latest, and not everybody's at once", () => {
  assert.deepEqual(spreadOf(() => nextLookMs({ ...EARLY, drop: dropOf(), kept: placed, nowMs: OPENS_AT_MS - 1_000 })), [1_000, 3_000]);
});

test("tries come further and further apart, never sooner than asked, and are spread", () => {
  assert.deepEqual(
    [0, 1, 2, 3, 4, 50].map((failures) => spreadOf(() => retryMs(failures, 0))),
    [[2_000, 2_600], [4_000, 5_200], [8_000, 10_400], [16_000, 20_800], [30_000, 39_000], [30_000, 39_000]],
  );
  assert.deepEqual(spreadOf(() => retryMs(0, 10_000)), [10_000, 13_000]);
});
