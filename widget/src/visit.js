// One page's visit to a drop: looks at the serving document as often as that says, does what there is to do for the place, and tells
// what is to be seen. It knows the network, the storage and the time, and nothing of elements.

import { ask, unavailable } from "./api.js";
import { beside } from "./beside.js";
import { holdsToken, isBehind, isOver, lineOf, nextLookMs, retryMs, spread, stateOf, viewOf } from "./room.js";
import { NOTHING, storageOf } from "./storage.js";
import { alone, channelOf } from "./tabs.js";

const UNKNOWN_DROP_RETRY_MS = 30_000;
const LOOK_AGAIN_MS = 1_000;
const STALE_MS_MAX = 30_000;
const TICK_MS = 1_000;
const SLEPT_MS = 5_000;
const CHECK_SPREAD_MS_MAX = 60_000;
const CHECK_AGAIN_MS = 30_000;
const GONE = ["removed", "moved"];
const EXPLAINED = ["not_open", "paused", "closed", "sold_out"]; // refusals that the next document tells of

/** The error of a refusal. */
export const refusal = ({ code, detail }) => Object.assign(new Error(detail), { code });

/**
 * @param api origin of the service
 * @param credentials returns {code, identity} as the page has them now
 * @param shown is called with a view after every change
 */
export function visit(api, dropId, credentials, shown) {
  const name = `flashsale:${dropId}`;
  const address = `${api}/v1/drops/${encodeURIComponent(dropId)}`;
  const { read, write, lasts } = storageOf(name);
  const channel = channelOf(name, hear);
  let telling = null; // the module place.js, once there is a place
  let drop = null;
  let serving = null;
  let seenAt = 0; // by the page's own monotonic clock, when `serving` was had
  let lookedAt = -Infinity;
  let tickedAt;
  let problem = null; // only the shopper can do something about it
  let away = null; // why the service does not answer just now
  let failures = 0;
  let wish = null; // to join: {handoff?}
  let verdict = null; // of the draw
  let checkAtMs = 0;
  let turn = Promise.resolve();
  let isLookPlanned = false;
  let isStopped = false;
  let timer, ticker;

  /** All that is known; times are by the service's clock. */
  function known() {
    const nowMs = serving ? serving.now_ms + performance.now() - seenAt : 0;
    return { serving, drop, kept: read(), nowMs, problem, away, telling };
  }

  function view() {
    const all = viewOf(known());
    const proof = all.hasPlace && verdict && { ...verdict, remembered: Boolean(read().commitment) };
    return { ...all, isBusy: Boolean(wish), lasts: lasts(), proof };
  }

  function token() {
    const all = known();
    return serving && holdsToken(all) ? all.kept.token : null;
  }

  /** Begins to look; with `auto` also joins, unless there is a place or was one. */
  function start(auto) {
    const { ticket, gone } = read();
    if (auto && !ticket && !gone) wish = {};
    return wake();
  }

  function stop() {
    isStopped = true;
    rest();
    channel?.close();
  }

  /** The page is seen again, or has a connection again. */
  function wake() {
    tickedAt = Date.now();
    tick();
    const elapsedMs = performance.now() - lookedAt;
    if (elapsedMs >= LOOK_AGAIN_MS) return go(true);
    lookIn(LOOK_AGAIN_MS - elapsedMs);
  }

  /** The page is hidden: nothing is asked until it is seen again. */
  function rest() {
    clearTimeout(timer);
    clearTimeout(ticker);
  }

  /** Looks at once, after the shopper has asked for it. */
  function again() {
    problem = null;
    return go(true);
  }

  /** Joins the line; what stands in the way is in the view. */
  function join({ handoff } = {}) {
    problem = null;
    wish = read().ticket ? null : { handoff };
    prepare();
    return go(!drop || !serving);
  }

  /** Gives the place up, if there is one. Throws an error with `code`. */
  async function leave() {
    const answer = read().ticket ? await askWithTicket("DELETE", "") : {};
    if (answer.status >= 300 && answer.code !== "left") {
      if (seeGone(answer.code)) show();
      throw refusal(answer);
    }
    reset();
  }

  /** A code with which another device takes the place over: {handoff, expiresAtMs}. Throws an error with `code`. */
  async function handOver() {
    const answer = await askWithTicket("POST", "/handoff");
    if (answer.status !== 200) throw refusal(answer);
    keep({ handoffEndsAtMs: answer.expires_at_ms });
    return { handoff: answer.handoff, expiresAtMs: answer.expires_at_ms };
  }

  /** Forgets the place in this browser. */
  function reset() {
    wish = problem = verdict = null;
    keep(NOTHING);
    show();
  }

  // ---------------------------------------------------------------------------------------------------------- looking, and then?

  /** One turn after the other: looks when `look`, does what there is to do, and plans the next. */
  function go(look) {
    if (look && isLookPlanned) return turn;
    isLookPlanned ||= look;
    return (turn = turn.then(() => isStopped || takeTurn(look)).catch(reportError)); // a mistake is no end: the next look is planned
  }

  async function takeTurn(looks) {
    let delayMs;
    try {
      if (looks) {
        isLookPlanned = false;
        await look();
      } else show();
      delayMs = (await act()) ?? nextLookMs(known());
      failures = 0;
      away = null;
    } catch (error) {
      if (error.code !== "unreachable") reportError(error); // a mistake in this file, which shows in the console
      away = { code: navigator.onLine === false ? "offline" : "unreachable" };
      delayMs = retryMs(failures++, error.retryMs ?? 0);
    }
    lookIn(delayMs);
    show();
  }

  function lookIn(delayMs) {
    clearTimeout(timer);
    if (!isStopped && !document.hidden) timer = setTimeout(() => go(true), delayMs);
  }

  async function look() {
    lookedAt = performance.now();
    prepare();
    await Promise.all([get("/serving").then(see), drop ?? get("").then((found) => (drop = found))]);
    channel?.postMessage(serving);
    if (problem?.status) problem = null; // a document was refused, and now it was not
    const { kept, nowMs } = known();
    if (!kept.handoffEndsAtMs || kept.gone || seeGone((await askWithTicket("GET", "")).state)) return;
    if (nowMs >= kept.handoffEndsAtMs) keep({ handoffEndsAtMs: null }); // nothing comes of that code any more
  }

  /** Loads what only a place needs, beside the requests that it waits for. */
  function prepare() {
    if (telling || !(wish || read().ticket)) return;
    const use = (found) => {
      telling = found;
      show();
    };
    beside("place.js").then(use, () => {}); // a place is one without it, too
  }

  async function get(path) {
    const { status, ...found } = await ask("GET", address + path);
    if (status === 200) return found;
    problem = { status, ...found };
    throw unavailable(UNKNOWN_DROP_RETRY_MS);
  }

  /** Takes a document for the present one, unless it is older: another worker's or cache's. */
  function see(latest) {
    const behindMs = serving?.epoch === latest.epoch ? serving.now_ms - latest.now_ms : 0;
    if (behindMs > 0 && behindMs < STALE_MS_MAX) return;
    serving = latest;
    seenAt = performance.now();
  }

  /** Another tab has looked, or (null) has changed what is kept. */
  function hear(latest) {
    if (latest) see(latest);
    return latest && drop && !document.hidden ? go(false) : show();
  }

  /** What the place needs after a look. Returns milliseconds until the next one where the service has asked for them. */
  async function act() {
    if (problem || isOver(serving) || serving.state === "recovering") return;
    if (isBehind(known()) || (wish && serving.state !== "scheduled")) await takePlace();
    await takeLot();
    const delayMs = stateOf(known()) === "called" && !document.hidden ? await enter() : undefined;
    check(); // for itself: nobody's turn waits for it
    return delayMs;
  }

  // ------------------------------------------------------------------------------------------------------------------- the place

  function takePlace() {
    return alone(name, async () => {
      const all = known();
      if (!all.kept.ticket || isBehind(all)) await ticket();
      else wish = null; // another tab was faster
    });
  }

  async function ticket() {
    const kept = read();
    if (!crypto.subtle) return refuse({ code: "insecure" });
    if (!kept.secret) keep({ secret: crypto.randomUUID() });
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(read().secret)));
    const { code, identity } = credentials();
    const body = {
      secret_hash: btoa(String.fromCharCode(...hash)).replaceAll("+", "-").replaceAll("/", "_").replace("=", ""),
      receipt: kept.receipt || undefined,
      code: (!kept.receipt && code) || undefined,
      identity: (drop.identity !== "none" && identity) || undefined,
      handoff: wish?.handoff,
    };
    const answer = await ask("POST", `${address}/tickets`, { body });
    if (answer.status < 300) return placed(answer);
    if (answer.code === "receipt_invalid" && kept.receipt) keep({ receipt: null, commitment: null });
    else if (answer.code === "left" && kept.secret) keep(NOTHING); // that secret has no place any more
    else return refuse(answer);
    return ticket();
  }

  function placed({ ticket_id, receipt, group, entry_number: entry = null, queue_number: number = null, serving_number: from }) {
    const { epoch, groups } = serving;
    const line = groups?.findIndex((one) => one.group === group);
    wish = null;
    const isDrawn = lineOf({ serving, kept: { line } }).key;
    const commitment = read().commitment ?? (isDrawn ? null : drop.commitment); // the first that was shown, and only before the draw
    if (drop.order !== "draw") number ??= entry;
    keep({ ticket: ticket_id, receipt, commitment, line, entry, number, epoch, from, drawKey: null, token: null, gone: null, handoffEndsAtMs: null });
  }

  /** Keeps that the place is gone from here, if it is. */
  function seeGone(code) {
    const isGone = GONE.includes(code);
    if (isGone) keep({ gone: code });
    return isGone;
  }

  /** A refusal: either it is final for the place, or the next document tells of it, or the shopper has to do something. */
  function refuse({ code, detail }) {
    if (!seeGone(code) && !EXPLAINED.includes(code)) problem = { code, detail };
    if (code !== "not_open") wish = null;
  }

  /** The queue number follows from the entry number and the published key, so that nobody has to ask for it. */
  async function takeLot() {
    const all = known();
    const { ticket, entry, drawKey } = all.kept;
    const { entries, key, serving_number: from } = lineOf(all);
    if (!ticket || entry == null || drop.order !== "draw") return;
    const loaded = beside("verify-draw.js"); // before it is needed, so that the opening does not wait for it
    if (!key) return void loaded.catch(() => {});
    if (drawKey === key) return;
    const { queueNumber } = await loaded;
    const isDrawn = entry < entries; // a place given back after a loss may lie behind those that were drawn
    keep({ number: isDrawn ? await queueNumber(entry, entries, key) : entry, drawKey: key, from });
  }

  /** Checks the draw, once; not everybody at the same moment. */
  async function check() {
    const all = known();
    const { entry, number, drawKey, checked, receipt, commitment } = all.kept;
    const { entries } = lineOf(all);
    if (!drawKey || entry >= entries || verdict || !telling) return;
    checkAtMs ||= all.nowMs + Math.min(entries, CHECK_SPREAD_MS_MAX) * Math.random();
    if (checked === drawKey) verdict = { verified: true };
    else if (all.nowMs >= checkAtMs) {
      checkAtMs = all.nowMs + CHECK_AGAIN_MS;
      const found = await beside("verify-draw.js").then(({ verifyPlace }) => verifyPlace(api, dropId, receipt, commitment)).catch(() => null);
      if (!found || read().receipt !== receipt) return; // there is nothing to check it with just now, or nothing to check
      verdict = telling.verdictOf(found, number);
      if (verdict.verified) keep({ checked: drawKey });
      show();
    }
  }

  async function enter() {
    const answer = await alone(name, async () => (token() ? {} : askWithTicket("POST")));
    const { status, code, poll_after_ms } = answer;
    if (status === 200) keep({ token: answer.admission_token, tokenExpiresAtMs: answer.expires_at_ms });
    else if (code === "not_yet") return poll_after_ms && spread(poll_after_ms);
    else if (code === "left") reset();
    else if (code === "ticket_invalid") {
      keep({ ticket: null });
      await takePlace();
    } else if (code) refuse(answer);
  }

  /** Asks for something of the ticket's; without a path for its admission. */
  function askWithTicket(method, path) {
    const { ticket, secret } = read();
    const where = path === undefined ? `${address}/admissions` : `${api}/v1/tickets/${ticket}${path}`;
    return ask(method, where, { authorization: `Ticket ${ticket}.${secret}` });
  }

  // ---------------------------------------------------------------------------------------------------------------- small things

  function keep(values) {
    write(values);
    channel?.postMessage(null);
  }

  function show() {
    if (!isStopped) shown(view());
  }

  /** Every second: the countdown goes on, and a device that has slept looks at once. */
  function tick() {
    clearTimeout(ticker);
    if (document.hidden) return;
    ticker = setTimeout(tick, TICK_MS);
    const elapsedMs = Date.now() - tickedAt;
    tickedAt = Date.now();
    if (view().untilMs) show();
    if (elapsedMs > SLEPT_MS) return go(true);
  }

  return { start, stop, wake, rest, again, join, leave, handOver, reset, view, token, kept: read, latest: () => serving };
}
