// A world without a browser: its clock goes on when a test says so, its network answers what a test says, its storage is a map.

import { Visit } from "../../../widget/src/visit.js";

export const OPENS_AT_MS = 1_800_000_000_000;

export function documentOf(values = {}) {
  return {
    drop: "d", epoch: 1, state: "open", now_ms: OPENS_AT_MS + 60_000, opens_at_ms: OPENS_AT_MS, closes_at_ms: OPENS_AT_MS + 3_600_000,
    joined: 1_000, entries: 800, key: null, serving_number: 100, rate_per_min: 600, available: { s: 150 }, reserved: { s: 40 },
    sold_out: false, cut_line: null, poll: { floor_ms: 2_000, ceiling_ms: 30_000, divisor: 20 }, notice: null, groups: null,
    pace: { low_per_min: 90, high_per_min: 140, free: 0, free_per_min: 600, held_after: 300, held_ms: 0 },
    reach: { units: 1_800, units_spread: 4, mean: 0.5, spread: 0.7, uncertainty: 0.04, undecided: 33 },
    ...values,
  };
}

export const dropOf = (values = {}) => ({
  drop: "d", joins_at_ms: OPENS_AT_MS - 3_600_000, order: "draw", invites: "none", identity: "none", ...values,
});

/** A receipt as the service would write it, without its signature. */
export function receiptOf(payload) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "EdDSA" })}.${part({ drop: "d", entry_number: 7, late: false, epoch: 1, ...payload })}.x`;
}

export const ticketOf = (values = {}) => ({
  ticket_id: "d.t1", state: "waiting", receipt: receiptOf({}), serving_number: 100, opens_at_ms: OPENS_AT_MS, queue_number: 700, ...values,
});

export function storeIn(values = {}) {
  const items = new Map(Object.entries(values).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]));
  const storage = { getItem: (name) => items.get(name) ?? null, setItem: (name, text) => void items.set(name, text), items };
  Object.defineProperty(globalThis, "localStorage", { configurable: true, get: () => storage });
  return storage;
}

export function blockStorage() {
  const get = () => {
    throw new DOMException("The operation is insecure.", "SecurityError");
  };
  Object.defineProperty(globalThis, "localStorage", { configurable: true, get });
}

let stages = 0;
const all = [];

/** Ends every visit: what they share with other tabs would keep Node running. */
export const stopAll = () => all.splice(0).forEach((stage) => stage.visit.stop());

/** One visit in a world of its own. */
export class Stage {
  time = 0;
  wallAheadMs = 0;
  timers = [];
  asked = []; // {method, path, body, authorization, at}
  views = [];
  isVisible = true;
  isOnline = true;
  part = 0.5; // what "random" answers: half of every spread, so no jitter

  /** `answers` of "METHOD path": a document, a [status, document, headers], an Error, or a function of the request that gives one. */
  constructor(answers = {}, { kept, credentials, dropId = `d${(stages += 1)}`, api = "" } = {}) {
    this.dropId = dropId;
    this.answers = { "GET ": dropOf(), "GET /serving": () => documentOf(), ...answers };
    if (kept !== "shared") this.storage = storeIn(kept ? { [`flashsale:${dropId}`]: kept } : {});
    const world = {
      send: (address, request) => this.#send(address.replace(`${api}/v1/drops/${dropId}`, ""), request),
      now: () => this.time,
      wallNow: () => this.time + this.wallAheadMs,
      random: () => this.part,
      later: (work, ms) => this.#later(work, ms),
      cancel: (timer) => (this.timers = this.timers.filter((one) => one !== timer)),
      isVisible: () => this.isVisible,
      isOnline: () => this.isOnline,
      load: (name) => import(new URL(`../../../web/${name}`, import.meta.url)),
    };
    all.push(this);
    this.visit = new Visit({ api, drop: dropId, credentials, shown: (view) => this.#shown(view), world });
  }

  get view() {
    return this.views.at(-1);
  }

  get kept() {
    return this.visit.kept;
  }

  /** Requests of one kind so far. */
  requests(name) {
    return this.asked.filter(({ method, path }) => `${method} ${path}` === name);
  }

  start(options) {
    return this.visit.start(options);
  }

  /** Time goes on; whatever is due happens, in order, and is over. */
  async pass(ms) {
    const end = this.time + ms;
    for (;;) {
      const [timer] = this.timers.filter(({ at }) => at <= end).sort((one, other) => one.at - other.at);
      if (!timer) break;
      this.timers = this.timers.filter((one) => one !== timer);
      this.time = Math.max(this.time, timer.at);
      await timer.work();
    }
    this.time = end;
  }

  async hide() {
    this.isVisible = false;
    this.visit.rest();
  }

  async appear() {
    this.isVisible = true;
    await this.visit.wake();
  }

  /** The next view for which `test` holds. */
  until(test) {
    return new Promise((resolve) => (this.waiting = { test, resolve }));
  }

  #shown(view) {
    this.views.push(view);
    if (this.waiting?.test(view)) this.waiting.resolve(view);
  }

  #later(work, ms) {
    const timer = { work, at: this.time + ms };
    this.timers.push(timer);
    return timer;
  }

  async #send(path, { method, body, headers, credentials }) {
    const request = { method, path, body: body && JSON.parse(body), authorization: headers.Authorization, credentials, at: this.time };
    this.asked.push(request);
    let answer = this.answers[`${method} ${path}`];
    if (typeof answer === "function") answer = await answer(request);
    if (answer instanceof Error) throw answer;
    const [status, document, more = {}] = Array.isArray(answer) ? answer : [answer ? 200 : 404, answer ?? { code: "not_found" }];
    return { status, headers: new Headers(more), json: async () => JSON.parse(JSON.stringify(document)) };
  }
}
