// What a shopper is to see, to do and to ask next: pure functions of the serving document, of what is kept, and of the time by the
// service's clock. The browser's own clock is never asked.

import { nextPollMs } from "../../web/outlook.js";

const LINE_STRIDE = 1_000_000_000;
const RETRY_MS = 2_000;
const RETRY_MS_MAX = 30_000;
const JITTER = 0.3;
const ENDING_MS = 120_000;
const IN_LINE = ["joined", "drawing", "waiting", "called", "paused"];

/** The line a place is in: its `entries`, `key` and `serving_number`. */
export function lineOf({ serving, kept }) {
  return serving.groups?.[kept.line] ?? serving;
}

/** Whether nothing more can come of the drop. */
export function isOver(serving) {
  return serving.sold_out || serving.state === "closed";
}

/** Whether the service has lost data since the place was given; the receipt gives it back. */
export function isBehind({ serving, kept }) {
  return kept.ticket && !kept.gone && (kept.epoch ?? 0) < serving.epoch;
}

export function holdsToken({ kept, nowMs }) {
  return kept.token && nowMs < kept.tokenExpiresAtMs;
}

export function stateOf(known) {
  const { serving, kept, nowMs } = known;
  if (!serving) return "loading";
  if (serving.state === "closed") return "closed";
  if (serving.sold_out) return "sold_out";
  if (kept.gone) return kept.gone;
  if (serving.state === "recovering" || isBehind(known)) return "recovering";
  if (holdsToken(known)) return "admitted";
  if (!kept.ticket) return serving.state === "scheduled" ? "before" : "ready";
  if (serving.opens_at_ms > nowMs && serving.state !== "open") return "joined";
  if (kept.number == null) return "drawing";
  if (serving.state === "paused") return "paused";
  return kept.number < lineOf(known).serving_number ? "called" : "waiting";
}

/**
 * Everything that is shown. `telling` is the module place.js, once it is loaded; before, nothing is said of when. `problem` is a refusal that only the shopper can do something about, `away` why the service does not
 * answer just now; both {code, detail} or null. `untilMs` is the time until what is waited for starts, or until an
 * admission ends that is about to; 0 when there is neither.
 */
export function viewOf(known) {
  const { serving, drop, kept, nowMs, away } = known;
  const problem = known.problem ?? (serving ? null : away);
  const state = problem ? "trouble" : stateOf(known);
  const startsAtMs = ["before", "ready", "joined"].includes(state) ? startOf(known) : 0;
  const endsInMs = state === "admitted" ? kept.tokenExpiresAtMs - nowMs : Infinity;
  return {
    state, problem, away: problem ? null : away, startsAtMs, untilMs: endsInMs < ENDING_MS ? endsInMs : Math.max(0, startsAtMs - nowMs),
    notice: serving?.notice,
    order: drop?.order,
    hasPlace: Boolean(kept.ticket) && !kept.gone,
    place: IN_LINE.includes(state) ? placeOf(known) : null,
    mayJoin: Boolean(serving) && !kept.ticket && ["ready", "trouble"].includes(state),
    inWords: known.telling?.inWords,
    takesCode: drop?.invites !== "none",
  };
}

function placeOf(known) {
  const { serving, kept, telling } = known;
  const { number = null, entry = null, line = 0, from = 0 } = kept;
  const servingNumber = lineOf(known).serving_number;
  const isDrawn = number !== null;
  const { eta_ms: etaMs = null, chance = null } = telling?.outlook(serving, isDrawn ? line * LINE_STRIDE + number : null, line) ?? {};
  const progress = Math.min(1, Math.max(0, (servingNumber - from) / Math.max(1, number - from)));
  return { position: isDrawn ? Math.max(0, number - servingNumber) : null, etaMs, chance, queueNumber: number, entryNumber: entry, progress };
}

/** When what is waited for starts: joining, or the drop. */
function startOf({ serving, drop, kept }) {
  return (serving.state === "scheduled" && !kept.ticket && drop?.joins_at_ms) || serving.opens_at_ms;
}

/**
 * Milliseconds until the next look: as the document advises, and just after the opening at the latest. Whoever has no place in the line
 * waits for nothing that is soon.
 */
export function nextLookMs(known) {
  const { serving, kept, nowMs } = known;
  const untilMs = Math.max(0, startOf(known) - nowMs);
  const ahead = Math.max(0, (kept.number ?? 0) - lineOf(known).serving_number);
  const isIdle = isOver(serving) || !kept.ticket || kept.gone;
  const pollMs = nextPollMs(serving, isIdle ? Infinity : untilMs + (ahead * 60_000) / Math.max(1, serving.rate_per_min));
  return untilMs ? Math.min(pollMs, untilMs + serving.poll.floor_ms * Math.random()) : pollMs;
}

/** Milliseconds until another try after `failures` in a row: twice as long each time, never less than was asked for. */
export function retryMs(failures, atLeastMs) {
  return spread(Math.max(Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** failures), atLeastMs));
}

/** So long or up to 30 % longer: whoever is told the same does not come back at the same moment. */
export function spread(ms) {
  return ms * (1 + JITTER * Math.random());
}
