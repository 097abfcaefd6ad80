// What is said aloud to people who do not see the card: at thresholds only, never at every look. Pure.

const COUNTDOWNS_S = [10, 30, 60];
const ENDING_S = 60;
export const UNLIKELY = 0.05; // a chance that is no hope

/**
 * What has changed so much from one view to the next that it is said: "state", "notice", "proof", "place", or the seconds left; null
 * for nothing.
 */
export function announcement(before, now) {
  if (now.state === "loading") return null;
  if (before?.state !== now.state || before.problem?.code !== now.problem?.code) return "state";
  const countdowns = now.state === "admitted" ? [ENDING_S] : COUNTDOWNS_S;
  const seconds = now.untilMs && countdowns.find((one) => now.untilMs <= 1000 * one);
  if (seconds && (before.untilMs || Infinity) > 1000 * seconds) return seconds;
  if (before.notice !== now.notice || before.away?.code !== now.away?.code) return "notice";
  if (now.proof && !before.proof) return "proof";
  return isCloser(before.place, now.place) || isHopeless(now.place) > isHopeless(before.place) ? "place" : null;
}

/** Whether the people ahead have become fewer than the next power of two: 512, 256, … 2, 1. */
function isCloser(before, now) {
  return now && Math.clz32(now.position) > Math.clz32(before.position);
}

function isHopeless(place) {
  return (place?.chance ?? 1) < UNLIKELY;
}
