// What is said aloud to people who do not see the card: at thresholds only, never at every look. Pure.

import { UNLIKELY } from "./sentences.js";

const COUNTDOWNS_S = [10, 30, 60];

/** What has changed so much from one view to the next that it is said: "state", "notice", "place", or the seconds left; null for nothing. */
export function announcement(before, now) {
  if (now.state === "loading") return null;
  if (before?.state !== now.state || before.problem?.code !== now.problem?.code) return "state";
  const seconds = now.untilMs && COUNTDOWNS_S.find((one) => now.untilMs <= 1000 * one);
  if (seconds && before.untilMs > 1000 * seconds) return seconds;
  if (before.notice !== now.notice || before.away?.code !== now.away?.code) return "notice";
  return isCloser(before.place, now.place) || isHopeless(now.place) > isHopeless(before.place) ? "place" : null;
}

/** Whether the people ahead have become fewer than the next power of two: 512, 256, … 2, 1. */
function isCloser(before, now) {
  return now && Math.clz32(now.position) > Math.clz32(before.position);
}

function isHopeless(place) {
  return (place?.chance ?? 1) < UNLIKELY;
}
