// What a shopper is to see, to do and to ask next: pure functions of the serving document, of what is kept, and of the time by the
// service's clock. The browser's own clock is never asked.

import { nextPollMs, outlook } from "../../web/outlook.js";

const LINE_STRIDE = 1_000_000_000;
const RETRY_MS = 2_000;
const RETRY_MS_MAX = 30_000;
const JITTER = 0.3;

/** The line a place is in: its `entries`, `key` and `serving_number`. */
export function lineOf(serving, kept) {
  return serving.groups?.[kept.line] ?? serving;
}

/** Whether nothing more can come of the drop. */
export function isOver(serving) {
  return serving.sold_out || serving.state === "closed";
}

/** Whether the service has lost data since the place was given; the receipt gives it back. */
export function isBehind(serving, kept) {
  return Boolean(kept.ticket) && (kept.epoch ?? 0) < serving.epoch && !kept.gone && !isOver(serving);
}

export function holdsToken(kept, nowMs) {
  return Boolean(kept.token) && nowMs < kept.tokenExpiresAtMs;
}

export function stateOf({ serving, kept, nowMs }) {
  if (!serving) return "loading";
  if (serving.state === "closed") return "closed";
  if (serving.sold_out) return "sold_out";
  if (kept.gone) return kept.gone;
  if (serving.state === "recovering" || isBehind(serving, kept)) return "recovering";
  if (holdsToken(kept, nowMs)) return "admitted";
  if (!kept.ticket) return serving.state === "scheduled" ? "before" : "ready";
  if (serving.opens_at_ms > nowMs && serving.state !== "open") return "joined";
  if (kept.number == null) return "drawing";
  if (serving.state === "paused") return "paused";
  return kept.number < lineOf(serving, kept).serving_number ? "called" : "waiting";
}

/**
 * Everything that is shown. `problem` is a refusal that only the shopper can do something about, `away` why the service does not
 * answer just now; both {code, detail} or null.
 */
export function viewOf({ serving, drop, kept, nowMs, problem = null, away = null }) {
  const stuck = problem ?? (serving ? null : away);
  const state = stuck ? "trouble" : stateOf({ serving, kept, nowMs });
  const placed = Boolean(kept.ticket) && !kept.gone;
  const view = {
    state, problem: stuck, away: stuck ? null : away, placed, notice: serving?.notice ?? null,
    position: null, etaMs: null, chance: null, queueNumber: null, entryNumber: null, untilMs: null, opensAtMs: null, progress: null,
    order: drop?.order,
    joins: Boolean(serving) && !kept.ticket && (state === "ready" || state === "trouble"), // the button does
    asksCode: Boolean(drop) && drop.invites !== "none",
  };
  if (!serving) return view;
  if (state === "before" || state === "ready" || state === "joined") {
    view.opensAtMs = state === "before" && drop ? drop.joins_at_ms : serving.opens_at_ms;
    view.untilMs = view.opensAtMs > nowMs ? view.opensAtMs - nowMs : null;
  }
  if (placed && ["joined", "drawing", "waiting", "called", "paused"].includes(state)) Object.assign(view, placeOf(serving, kept));
  return view;
}

function placeOf(serving, kept) {
  const { number = null, entry = null, line = 0, from = 0 } = kept;
  const told = outlook(serving, number === null ? null : line * LINE_STRIDE + number, line);
  const passed = lineOf(serving, kept).serving_number - from;
  const progress = number === null ? null : Math.min(1, Math.max(0, passed / Math.max(1, number - from)));
  return { position: told.position, etaMs: told.eta_ms, chance: told.chance, queueNumber: number, entryNumber: entry, progress };
}

/** Milliseconds until the next look: as the document advises, and just after the opening at the latest. */
export function nextLookMs({ serving, drop, kept, nowMs }, random) {
  if (isOver(serving)) return nextPollMs(serving, Infinity, random);
  const opensAtMs = (stateOf({ serving, kept, nowMs }) === "before" && drop?.joins_at_ms) || serving.opens_at_ms;
  const untilMs = Math.max(0, opensAtMs - nowMs);
  const ahead = Math.max(0, (kept.number ?? 0) - lineOf(serving, kept).serving_number);
  const pollMs = nextPollMs(serving, untilMs + (ahead * 60_000) / Math.max(1, serving.rate_per_min), random);
  return untilMs ? Math.min(pollMs, untilMs + serving.poll.floor_ms * random()) : pollMs;
}

/** Milliseconds until another try after `failures` in a row: twice as long each time, never less than the service asked for. */
export function retryMs(failures, atLeastMs, random) {
  const part = random();
  const backoffMs = Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** failures) * (1 - JITTER + 2 * JITTER * part);
  return Math.max(backoffMs, atLeastMs * (1 + JITTER * part));
}
