// What the numbers of a drop mean: what holds the line up, and what somebody should look at. Pure.

import { dropCommand } from "./commands.js";
import { count, counted, moment, span } from "./format.js";
import { totals } from "./history.js";

/** Orders that are older than this in the journal are late (as in `flashsale drop watch`). */
export const JOURNAL_LATE_MS = 2_000;
const JOURNAL_STUCK_MS = 15_000;

/** What each state means for shoppers, in a sentence. */
export const STATES = {
  scheduled: "Nobody can join yet.",
  waiting: "People are joining; nobody is let in before the opening.",
  open: "People are let in and can buy.",
  paused: "Nobody is called, let in, or can reserve. Every place is kept.",
  closed: "The drop has ended. What is reserved can still be paid.",
  recovering: "Closed to everybody until it has been recovered.",
};

/** What happens next by the clock: {words, at}; null when nothing does. */
export function nextOf(drop, state) {
  if (state === "scheduled") return { words: "joining opens in", at: drop.joins_at_ms };
  if (state === "waiting") return { words: "opens in", at: drop.opens_at_ms };
  if (state === "open" || state === "paused") return { words: "closes in", at: drop.closes_at_ms };
  return null;
}

/** What the line's speed hangs on just now, in a sentence. */
export function limitOf(live) {
  const { available, reserved, allotment, sold } = totals(live.skus ?? []);
  if (live.state === "paused" || live.state === "recovering") return ""; // `attention` says more
  if (live.state === "closed" && reserved === 0) return "The drop has ended, and nothing is reserved any more.";
  if (live.state !== "open") return STATES[live.state] ?? "";
  if (allotment && sold === allotment) return "Everything is sold.";
  if (allotment && available === 0 && reserved > 0) return `Everything is taken; ${counted(reserved, "reserved unit")} may come back.`;
  if (!live.waiting) return "Nobody is waiting.";
  if (live.capacity && live.inside !== null && live.inside >= live.capacity) return "Capacity is the limit: every place inside is taken.";
  return `The rate is the limit: ${count(live.rate_per_min)} a minute.`;
}

/** What somebody should know or do: [{key, level: "bad" | "warn" | "note", words, command?}], the worst first. */
export function attention(drop, live) {
  const found = [
    recovering(drop, live),
    drift(drop, live),
    postgres(live),
    journal(live),
    paused(drop, live),
    live.joining === "closed" && live.state !== "closed" && { key: "joining", level: "note", words: "Nobody new can join. Whoever has a place keeps it." },
    refundsDue(drop, live),
  ].filter(Boolean);
  const rank = { bad: 0, warn: 1, note: 2 };
  return found.sort((a, b) => rank[a.level] - rank[b.level]);
}

function recovering(drop, live) {
  return live.state === "recovering" && {
    key: "recovering",
    level: "bad",
    words: "The store has lost or gone back behind something of this drop, so it is closed to everybody until it has been recovered.",
    command: `flashsale recover ${drop.drop}`,
  };
}

function drift(drop, { audit, state, now_ms: nowMs }) {
  if (audit?.result !== "drift") return null;
  const units = audit.drifts.reduce((sum, found) => sum + Math.abs(found.units), 0);
  const paused = state === "paused" && audit.paused_at_ms ? ` The auditor paused the drop at ${moment(audit.paused_at_ms, nowMs)}.` : "";
  return { key: "drift", level: "bad", words: `Store and Postgres do not add up by ${counted(units, "unit")}.${paused} The audit says what is wrong, “flashsale repair” what can be put right.`, command: `flashsale audit ${drop.drop}` };
}

function postgres(live) {
  return live.postgres === "away" && {
    key: "postgres",
    level: "warn",
    words: "Postgres does not answer. The sale goes on: orders wait in the journal, and their numbers here are missing until it is back.",
    command: "flashsale doctor",
  };
}

function journal(live) {
  const late = live.journal?.oldest_ms ?? 0;
  if (late <= JOURNAL_LATE_MS || live.postgres === "away") return null;
  const level = late > JOURNAL_STUCK_MS ? "bad" : "warn";
  return { key: "journal", level, words: `Orders are written late: the oldest has waited for ${span(late)}. Is the reconciler running?`, command: "flashsale doctor" };
}

function paused(drop, live) {
  return live.state === "paused" && { key: "paused", level: "warn", words: `Paused. ${STATES.paused}`, command: dropCommand("resume", drop.drop) };
}

function refundsDue(drop, live) {
  const due = live.orders?.refund_due ?? 0;
  return due > 0 && { key: "refunds", level: "note", words: `${counted(due, "payment")} came too late for units and ${due === 1 ? "goes" : "go"} back.`, command: `flashsale refunds list ${drop.drop}` };
}

const CODES = {
  sold_out: "asked for more units than were available",
  not_yet: "came before it was their turn",
  not_open: "came before the opening",
  paused: "came while the drop was paused",
  closed: "came after the end",
  limit_reached: "wanted more than one shopper may buy",
  joining_closed: "wanted to join when nobody new may",
  rate_limited: "too many requests from one address",
  reservation_expired: "paid or changed a reservation that had ended",
  token_invalid: "an admission token that is not valid here",
  token_expired: "an admission token that had expired",
  ticket_invalid: "a ticket or secret that is not valid here",
  unauthorized: "a key that is missing, unknown or revoked",
  forbidden: "a key without the scope",
  bad_request: "a malformed request",
  amount_mismatch: "a payment of another amount",
  busy: "refused because of too much load",
  store_unavailable: "the store did not answer",
  database_unavailable: "Postgres did not answer",
  recovering: "the drop has to be recovered",
  unknown: "may or may not have happened",
  internal: "an error of the service",
};

/** Codes that are the service's fault, not the caller's. */
const OURS = new Set(["busy", "store_unavailable", "database_unavailable", "recovering", "unknown", "internal", "unsafe_store"]);

/** Refusals of the last minute: [{code, words, count, ours}], the most first. */
export function refusals(byCode) {
  return Object.entries(byCode ?? {})
    .filter(([, number]) => number > 0)
    .map(([code, number]) => ({ code, words: CODES[code] ?? code.replaceAll("_", " "), count: number, ours: OURS.has(code) }))
    .sort((a, b) => Number(b.ours) - Number(a.ours) || b.count - a.count);
}

/** Bars of open reservations by age: [{label, count}]. */
export function ages(byAge) {
  let from = 0;
  return (byAge ?? []).map(({ up_to_s: upTo, count: number }) => {
    const label = upTo === null || upTo === undefined ? `over ${span(from * 1000)}` : from ? `${span(from * 1000)} to ${span(upTo * 1000)}` : `up to ${span(upTo * 1000)}`;
    from = upTo ?? from;
    return { label, count: number };
  });
}

const ORDER_WORDS = { pending: "pending", paid: "paid", expired: "expired unpaid", cancelled: "cancelled", refund_due: "to be refunded", refunded: "refunded" };

/** Orders by state: [[words, number]], what nobody has had left out but for paid and pending. */
export function ordersOf(orders) {
  return Object.entries(ORDER_WORDS)
    .map(([name, words]) => [words, orders?.[name] ?? null])
    .filter(([words, number]) => number || words === "paid" || words === "pending");
}
