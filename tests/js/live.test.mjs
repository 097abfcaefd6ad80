// The console's live view in a browser that this is not: its stream, its network and its time are the test's.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

const RETRY_MS_MOST = 2_500;
const world = {};

delete AbortSignal.any; // Firefox before 124, Safari before 17.4 and Chrome before 116 have none
globalThis.addEventListener = globalThis.removeEventListener = () => {};
globalThis.setInterval = () => 0;
globalThis.setTimeout = (work, ms) => {
  if (ms <= RETRY_MS_MOST) world.planned(work);
  else world.late.push(work);
  return work;
};
globalThis.clearTimeout = (work) => (world.late = world.late.filter((one) => one !== work));
globalThis.reportError = (error) => world.mistakes.push(error.message);
globalThis.fetch = async (path, { signal }) => {
  const answer = world.answers[path];
  if (answer !== null) return new Response(JSON.stringify(answer[1]), { status: answer[0] });
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason));
    for (const work of world.late) work(); // nobody answers, and the time is over at once
  });
};
globalThis.EventSource = class extends EventTarget {
  static CLOSED = 2;
  readyState = 2;
  constructor() {
    super();
    world.sources.push(this);
  }
  close() {}
};

const { LINK, LiveStream } = await import("../../flashsale/web/console/live.js");

beforeEach(() => {
  const answers = { "/drop": [200, { drop: "d" }], "/drop/live": [429, { code: "rate_limited" }] };
  Object.assign(world, { answers, late: [], mistakes: [], sources: [], read: [] });
});

/** A stream that was refused, once it has planned what to do next: that is the second thing returned. */
async function refused(told = {}) {
  const again = new Promise((resolve) => (world.planned = resolve));
  const stream = new LiveStream("/drop", { link() {}, read: (drop) => world.read.push(drop), ...told });
  world.sources[0].dispatchEvent(new Event("error"));
  return [stream, await again];
}

test("where there is no room for the stream, the drop is read instead, and the stream tried again", async () => {
  const [stream, again] = await refused();
  assert.deepEqual([stream.link, world.read, world.mistakes], [LINK.REFUSED, [{ drop: "d" }], []]);
  assert.deepEqual(world.late, [], "no time of an answer that has come goes on");
  again();
  assert.equal(world.sources.length, 2);
});

test("a stream that nobody answers is given up after some time, and tried again", async () => {
  world.answers["/drop/live"] = null;
  const [stream] = await refused();
  assert.deepEqual([stream.link, world.read, world.mistakes], [LINK.LOST, [], []]);
  assert.match(stream.why, /does not answer|offline/);
});

test("a mistake of the page is told, and no end of the live view", async () => {
  const read = () => {
    throw new TypeError("a chart that cannot be drawn");
  };
  const [, again] = await refused({ read });
  assert.deepEqual(world.mistakes, ["a chart that cannot be drawn"]);
  again();
  assert.equal(world.sources.length, 2);
});
