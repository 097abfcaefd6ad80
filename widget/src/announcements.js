// What is said aloud to people who do not see the card: at thresholds only, never at every look. Pure.

const POSITIONS = [10_000, 5_000, 2_000, 1_000, 500, 200, 100, 50, 20, 10, 5, 2, 1, 0];
const COUNTDOWNS_MS = [60_000, 30_000, 10_000];
const UNLIKELY = 0.05;

const crossed = (thresholds, before, now) => before !== null && now !== null && thresholds.some((at) => before > at && now <= at);

/** What has changed so much from one view to the next that it is said: {topic, seconds?}; null for nothing. */
export function announcement(before, now) {
  if (now.state === "loading") return null;
  if (before?.state !== now.state || before.problem?.code !== now.problem?.code) return { topic: "state" };
  if (crossed(COUNTDOWNS_MS, before.untilMs, now.untilMs)) return { topic: "countdown", seconds: COUNTDOWNS_MS.findLast((at) => now.untilMs <= at) / 1000 };
  if (before.notice !== now.notice || before.away?.code !== now.away?.code) return { topic: "notice" };
  const worse = isHopeless(now) && !isHopeless(before);
  return worse || crossed(POSITIONS, before.position, now.position) ? { topic: "position" } : null;
}

function isHopeless({ chance }) {
  return chance !== null && chance < UNLIKELY;
}
