// One page's visit to a drop: looks at the serving document as often as that says, does what there is to do for the place, and tells
// what is to be seen. It knows the network, the storage and the time, and nothing of elements.

import { queueNumber } from "../../web/verify-draw.js";
import { Refusal, Unavailable, ask } from "./api.js";
import { checkDraw } from "./proof.js";
import { holdsToken, isBehind, isOver, lineOf, nextLookMs, retryMs, stateOf, viewOf } from "./room.js";
import { Storage, seenIn } from "./storage.js";
import { Tabs } from "./tabs.js";

const UNKNOWN_DROP_RETRY_MS = 30_000;
const LOOK_AGAIN_MS = 1_000;
const STALE_MS_MAX = 30_000;
const SLEPT_MS = 3_000;
const TICK_MS = 1_000;
const CHECK_SPREAD_MS_MAX = 60_000;
const CHECK_AGAIN_MS = 30_000;
const CHECKS_MAX = 3;
const SECRET_BYTES = 24;
const GONE = new Set(["removed", "moved"]);
const DOCUMENT_TELLS = new Set(["not_open", "paused", "closed", "sold_out"]); // refusals that the next document explains
const GIVEN_UP = new Set(["ticket_invalid", "ticket_not_found", "left", "removed", "moved"]);

const base64url = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** What a visit needs of the world; tests bring their own. */
export const browser = {
  send: (...all) => fetch(...all),
  now: () => performance.now(),
  wallNow: () => Date.now(),
  random: Math.random,
  later: (work, ms) => setTimeout(work, ms),
  cancel: (timer) => clearTimeout(timer),
  isVisible: () => document.visibilityState !== "hidden",
  isOnline: () => navigator.onLine !== false,
};

export class Visit {
  drop = null;
  serving = null;
  verdict = null; // of the draw: {verified, sentence}

  #base;
  #api;
  #dropId;
  #world;
  #shown;
  #credentials;
  #storage;
  #tabs;
  #seenAt = 0; // by the world's clock, when `serving` was had
  #lookedAt = -Infinity;
  #wish = null; // to join: {handoff?}
  #problem = null;
  #away = null;
  #failures = 0;
  #handedOverUntilMs = 0;
  #checksKey = null;
  #timer = null;
  #ticker = null;
  #skewMs;
  #isStopped = false;
  #isLookPlanned = false;
  #checks = 0;
  #turn = Promise.resolve();

  /**
   * @param credentials returns {code, identity} as the page has them now
   * @param shown is called with a view after every change
   */
  constructor({ api, drop, credentials = () => ({}), shown, world = browser }) {
    this.#api = api;
    this.#dropId = drop;
    this.#base = `${api}/v1/drops/${encodeURIComponent(drop)}`;
    this.#credentials = credentials;
    this.#shown = shown;
    this.#world = world;
    this.#storage = new Storage(drop);
    this.#tabs = new Tabs(drop, (message) => this.#hear(message));
    this.#skewMs = world.wallNow() - world.now();
  }

  /** Begins to look; with `auto` also joins, unless there is a place or was one. */
  start({ auto = false } = {}) {
    if (auto && !this.kept.ticket && !this.kept.gone) this.#wish = {};
    this.#tick();
    return this.#take(true);
  }

  stop() {
    this.#isStopped = true;
    this.#world.cancel(this.#timer);
    this.#world.cancel(this.#ticker);
    this.#tabs.close();
  }

  /** The page is seen again, or has a connection again. */
  wake() {
    this.#tick();
    const elapsedMs = this.#world.now() - this.#lookedAt;
    if (elapsedMs >= LOOK_AGAIN_MS) return this.#take(true);
    this.#schedule(LOOK_AGAIN_MS - elapsedMs);
  }

  /** The page is hidden: nothing is asked until it is seen again. */
  rest() {
    this.#world.cancel(this.#timer);
    this.#world.cancel(this.#ticker);
  }

  get kept() {
    return this.#storage.read();
  }

  get nowMs() {
    return this.serving ? this.serving.now_ms + this.#world.now() - this.#seenAt : 0;
  }

  get token() {
    return holdsToken(this.kept, this.nowMs) ? this.kept.token : null;
  }

  get view() {
    const { serving, drop, kept, nowMs, verdict } = this;
    const away = this.#away && !this.#world.isOnline() ? { code: "offline" } : this.#away;
    const view = viewOf({ serving, drop, kept, nowMs, problem: this.#problem, away });
    const proof = view.placed && verdict && { ...verdict, receipt: kept.receipt };
    return { ...view, isBusy: Boolean(this.#wish), lasts: this.#storage.lasts, proof };
  }

  /** Joins the line; what stands in the way is in the view. */
  join({ handoff } = {}) {
    this.#problem = null;
    this.#wish = this.kept.ticket ? null : { handoff };
    return this.#take(!this.serving);
  }

  /** Looks at once, after the shopper has asked for it. */
  again() {
    this.#problem = null;
    return this.#take(true);
  }

  /** Gives the place up. Throws Refusal or Unavailable. */
  async leave() {
    const { ticket } = this.kept;
    if (ticket) {
      const answer = await this.#askForTicket("DELETE", "");
      if (answer.status >= 400 && !GIVEN_UP.has(answer.code)) throw new Refusal(answer);
    }
    this.reset();
  }

  /** A code with which another device takes the place over: {handoff, expiresAtMs}. Throws Refusal or Unavailable. */
  async handOver() {
    const answer = await this.#askForTicket("POST", "/handoff");
    if (answer.status >= 400) throw new Refusal(answer);
    this.#handedOverUntilMs = answer.expires_at_ms;
    return { handoff: answer.handoff, expiresAtMs: answer.expires_at_ms };
  }

  /** Forgets the place in this browser. */
  reset() {
    this.#wish = this.#problem = this.verdict = this.#checksKey = null;
    this.#storage.forget();
    this.#tabs.tell({ kept: true });
    this.#show();
  }

  // ---------------------------------------------------------------------------------------------------------- looking, and then?

  /** One turn after the other: looks when `look`, does what there is to do, and plans the next. */
  #take(look) {
    if (look && this.#isLookPlanned) return this.#turn;
    this.#isLookPlanned ||= look;
    return (this.#turn = this.#turn.then(() => this.#oneTurn(look)));
  }

  async #oneTurn(look) {
    if (this.#isStopped) return;
    this.#world.cancel(this.#timer);
    if (look) this.#isLookPlanned = false;
    else this.#show();
    let delayMs;
    try {
      if (look) await this.#look();
      delayMs = await this.#act();
      this.#failures = 0;
      this.#away = null;
      delayMs ??= nextLookMs(this, this.#world.random);
    } catch (error) {
      if (!(error instanceof Unavailable)) globalThis.reportError?.(error);
      const { code, retryMs: atLeastMs } = error instanceof Unavailable ? error : new Unavailable("unreachable");
      this.#away = { code };
      delayMs = retryMs(this.#failures++, atLeastMs, this.#world.random);
    }
    this.#show();
    this.#schedule(delayMs);
  }

  #schedule(delayMs) {
    this.#world.cancel(this.#timer);
    if (!this.#isStopped && this.#world.isVisible()) this.#timer = this.#world.later(() => this.#take(true), delayMs);
  }

  async #look() {
    this.#lookedAt = this.#world.now();
    this.drop ??= await this.#read("");
    const serving = await this.#read("/serving");
    this.#see(serving);
    this.#tabs.tell({ serving });
    if (this.nowMs < this.#handedOverUntilMs) await this.#lookAtTicket();
    if (this.#problem?.code === "drop_not_found") this.#problem = null;
  }

  async #read(path) {
    const { status, ...document } = await this.#ask("GET", this.#base + path);
    if (status === 200) return document;
    if (status !== 404) throw new Unavailable("unreachable");
    this.#problem = { code: "drop_not_found" };
    throw new Unavailable("drop_not_found", UNKNOWN_DROP_RETRY_MS);
  }

  /** Takes a document for the present one, unless it is older: another worker's or cache's. */
  #see(serving) {
    const behindMs = this.serving && serving.epoch === this.serving.epoch ? this.serving.now_ms - serving.now_ms : 0;
    if (behindMs > 0 && behindMs < STALE_MS_MAX) return;
    this.serving = serving;
    this.#seenAt = this.#world.now();
  }

  #hear({ serving, kept }) {
    if (this.#isStopped || !(serving || kept)) return;
    if (serving && this.drop) {
      this.#see(serving);
      if (this.#world.isVisible()) return this.#take(false);
    }
    this.#show();
  }

  /** What the place needs after a look. Returns milliseconds until the next one where the service has asked for them. */
  async #act() {
    const { serving } = this;
    if (!serving || this.#problem || isOver(serving) || serving.state === "recovering") return;
    if (isBehind(serving, this.kept)) await this.#join();
    else if (this.#wish && serving.state !== "scheduled") await this.#join();
    await this.#takeLot();
    if (stateOf(this) === "called" && this.#world.isVisible()) return this.#enter();
  }

  // ------------------------------------------------------------------------------------------------------------------- the place

  #join() {
    return this.#tabs.alone(() => this.#joinAlone());
  }

  async #joinAlone() {
    const { kept } = this;
    if (kept.ticket && !isBehind(this.serving, kept)) return void (this.#wish = null); // another tab was faster
    if (!globalThis.crypto?.subtle) return this.#refuse({ code: "insecure" });
    if (!kept.secret) this.#keep({ secret: base64url(crypto.getRandomValues(new Uint8Array(SECRET_BYTES))) });
    const { drop } = this;
    const { code, identity } = this.#credentials();
    const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(this.kept.secret));
    const body = {
      secret_hash: base64url(new Uint8Array(hash)),
      receipt: kept.receipt ?? undefined,
      code: kept.receipt || drop.invites === "none" ? undefined : code || undefined,
      identity: drop.identity === "none" ? undefined : identity || undefined,
      handoff: this.#wish?.handoff,
    };
    const answer = await this.#ask("POST", `${this.#base}/tickets`, { body });
    if (answer.status < 300) return this.#placed(answer);
    if (answer.code === "receipt_invalid" && kept.receipt) this.#keep({ receipt: null, ticket: null });
    else if (answer.code !== "left" || !kept.secret) return this.#refuse(answer);
    else this.#storage.forget(); // that secret has no place any more
    if (this.#wish || kept.receipt) return this.#joinAlone();
  }

  #placed({ ticket_id: ticket, receipt, entry_number: entry = null, queue_number: number = null, serving_number: from }) {
    this.#wish = null;
    if (this.drop.order !== "draw") number ??= entry;
    this.#keep({ ticket, receipt, entry, number, from, ...seenIn(receipt), drawKey: null, token: null, gone: null });
  }

  /** A refusal: either it is final for the place, or the next document tells more, or the shopper has to do something. */
  #refuse({ code, detail }) {
    if (GONE.has(code)) this.#keep({ gone: code });
    else if (!DOCUMENT_TELLS.has(code)) this.#problem = { code, detail };
    if (code !== "not_open") this.#wish = null;
  }

  /** The queue number follows from the entry number and the published key, so that nobody has to ask for it. */
  async #takeLot() {
    const { kept } = this;
    const { entries, key, serving_number: from } = lineOf(this.serving, kept);
    if (!kept.ticket || kept.entry == null || !key) return;
    const drawn = kept.entry < entries; // a place given back after a loss may lie behind those that were drawn
    if (kept.drawKey !== key) this.#keep({ number: drawn ? await queueNumber(kept.entry, entries, key) : kept.entry, drawKey: key, from });
    if (drawn && this.#checksKey !== key) this.#planCheck(key, entries);
  }

  async #enter() {
    const answer = await this.#tabs.alone(async () => (this.token ? null : this.#askForToken()));
    if (answer === null) return;
    if (answer.status === 200) this.#keep({ token: answer.admission_token, tokenExpiresAtMs: answer.expires_at_ms });
    else if (answer.code === "not_yet") return answer.poll_after_ms && answer.poll_after_ms * (1 + 0.3 * this.#world.random());
    else if (answer.code === "ticket_invalid") {
      this.#keep({ ticket: null });
      await this.#join();
    } else if (answer.code === "left") this.reset();
    else this.#refuse(answer);
  }

  #askForToken() {
    const { ticket, secret } = this.kept;
    return this.#ask("POST", `${this.#base}/admissions`, { authorization: `Ticket ${ticket}.${secret}` });
  }

  #askForTicket(method, path) {
    const { ticket, secret } = this.kept;
    return this.#ask(method, `${this.#api}/v1/tickets/${ticket}${path}`, { authorization: `Ticket ${ticket}.${secret}` });
  }

  /** Whether the other device has taken the place over by now. */
  async #lookAtTicket() {
    const { state } = await this.#ask("GET", `${this.#api}/v1/tickets/${this.kept.ticket}`);
    if (GONE.has(state)) this.#keep({ gone: state });
  }

  /** Checks the draw once; not everybody at the same moment. */
  #planCheck(key, entries) {
    this.#checksKey = key;
    this.#checks = 0;
    if (this.kept.checked === key) this.verdict = { verified: true };
    else this.#checkLater(key, Math.min(entries, CHECK_SPREAD_MS_MAX));
  }

  #checkLater(key, spreadMs) {
    this.#world.later(async () => {
      if (this.#isStopped || this.#checksKey !== key) return;
      const { receipt } = this.kept;
      const verdict = await checkDraw({ read: (path) => this.#readAny(path), dropId: this.#dropId, receipt, load: this.#world.load });
      if (!verdict.step && !verdict.verified && ++this.#checks < CHECKS_MAX) return this.#checkLater(key, CHECK_AGAIN_MS);
      this.verdict = verdict;
      if (verdict.verified) this.#keep({ checked: key });
      this.#show();
    }, spreadMs * this.#world.random());
  }

  async #readAny(path) {
    const { status, ...document } = await this.#ask("GET", this.#api + path);
    if (status !== 200) throw new Unavailable("unreachable");
    return document;
  }

  // ------------------------------------------------------------------------------------------------------------- small things

  #ask(method, address, options) {
    return ask(this.#world.send, method, address, options);
  }

  #keep(values) {
    this.#storage.write(values);
    this.#tabs.tell({ kept: true });
  }

  #show() {
    if (!this.#isStopped) this.#shown(this.view);
  }

  /** Every second: the countdown goes on, and a device that has slept looks at once. */
  #tick() {
    this.#world.cancel(this.#ticker);
    this.#ticker = this.#world.later(() => this.#tick(), TICK_MS);
    const skewMs = this.#world.wallNow() - this.#world.now();
    const slept = Math.abs(skewMs - this.#skewMs) > SLEPT_MS;
    this.#skewMs = skewMs;
    if (this.view.untilMs !== null) this.#show();
    if (slept) return this.#take(true);
  }
}
