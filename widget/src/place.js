// What a place is told of its waiting time, its chance and its draw; loaded once there is a place. A page that has long been open may load
// it from a later version: what is exported keeps its names and meanings.

import { UNLIKELY } from "./announcements.js";

export { outlook } from "../../web/outlook.js";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const LIKELY = 0.95;

/** Sentences about a place, none where nothing honest can be said. */
export function inWords({ etaMs, chance }, words) {
  return [...(etaMs ? [waitText(etaMs, words)] : []), ...(chance == null ? [] : [chanceText(chance, words)])];
}

/** What was found of a draw that gave the place this number: {verified, step, sentence}, the step being the first that does not hold. */
export function verdictOf({ steps, queue_number }, number) {
  const other = queue_number !== number && { name: "queue_number", sentence: "The draw gives another number than the one that counts here." };
  const { name: step, sentence } = steps.find(({ passed }) => !passed) ?? other;
  return { verified: !step, step, sentence };
}

function waitText([lowMs, highMs], words) {
  const [unit, unitMs] = highMs < 2 * HOUR_MS ? ["minute", MINUTE_MS] : ["hour", HOUR_MS];
  const low = Math.floor(lowMs / unitMs);
  const count = Math.ceil(highMs / unitMs);
  return words.text(low && low < count ? "range" : "up_to", { low, high: words.unit(count, unit) });
}

function chanceText(chance, words) {
  if (chance >= LIKELY) return words.text("likely");
  if (chance < UNLIKELY) return words.text("unlikely");
  return words.text("chance", { n: words.number(Math.round(10 * chance) / 10, { style: "percent" }) });
}
