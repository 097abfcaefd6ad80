// What a place is told of its waiting time and its chance, in numbers and in words; loaded once there is a place.

import { UNLIKELY } from "./announcements.js";

export { outlook } from "../../web/outlook.js";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const LIKELY = 0.95;

/** Sentences about a place, none where nothing honest can be said. */
export function inWords({ etaMs, chance }, words) {
  return [...(etaMs ? [waitText(etaMs, words)] : []), ...(chance == null ? [] : [chanceText(chance, words)])];
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
