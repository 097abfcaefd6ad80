import assert from "node:assert/strict";
import { registerHooks } from "node:module";
import { test } from "node:test";
import { pass } from "./stage.mjs";

const { beside } = await import("../../../widget/src/beside.js");

const NEVER = "data:text/javascript,await new Promise(() => {})";
const THERE = "data:text/javascript,export const isThere = true";
registerHooks({
  resolve: (name, context, next) => next({ "late.js": NEVER, "late.js?1": THERE }[name.split("/").at(-1)] ?? name, context),
});

test("a file that never comes is given up when its time is over, and asked for anew by another address", async () => {
  const given = beside("late.js");
  given.catch(() => {});
  await pass(9_999);
  assert.equal(await Promise.race([given, "waiting"]), "waiting");
  await pass(1);
  await assert.rejects(given, { code: "unreachable", retryMs: 2_300 });
  await assert.rejects(beside("late.js"), { code: "unreachable" }, "not before it was said");
  await pass(2_300);
  const [one, other] = await Promise.all([beside("late.js"), beside("late.js")]);
  assert.deepEqual([one.isThere, one === other], [true, true]);
});
