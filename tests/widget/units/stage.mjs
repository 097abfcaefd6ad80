// A world without a browser: its clock goes on when a test says so, its network answers what a test says, its storage is a map.

import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";

// Beside the built file stands the verifier; beside its source it does not.
const VERIFIER = new URL("./verifier.mjs", import.meta.url).href;
registerHooks({
  resolve: (name, context, next) => next(/^file:.*\/widget\/src\/verify-draw\.js/.test(name) ? VERIFIER : name, context),
});

const { visit } = await import("../../../widget/src/visit.js");

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

const verifyPlace = async () => ({ queue_number: 700, passed: true, steps: [{ name: "receipt", passed: true }] });

// What stands in for the browser, the same for every stage of a test.
export const world = {};
const stages = new Map(); // by origin
let count = 0;

/** Ends every visit and begins a new world: what visits share with other tabs would keep Node running. */
export function renew() {
  for (const stage of stages.values()) stage.visit.stop();
  stages.clear();
  Object.assign(world, { time: 0, wallAheadMs: 0, timers: [], part: 0.5, mistakes: [], verifyPlace }); // half of every spread: no jitter
  Object.assign(globalThis.document, { hidden: false });
  setOnline(true);
}

export function setOnline(isOnline) {
  Object.defineProperty(navigator, "onLine", { configurable: true, value: isOnline });
}

globalThis.document = {};
globalThis.performance.now = () => world.time;
globalThis.Date.now = () => OPENS_AT_MS + world.time + world.wallAheadMs;
globalThis.Math.random = () => world.part;
globalThis.clearTimeout = (timer) => void (world.timers = world.timers.filter((one) => one !== timer));
globalThis.reportError = (error) => world.mistakes.push(error);
globalThis.setTimeout = (work, ms) => {
  const timer = { work, at: world.time + ms };
  world.timers.push(timer);
  return timer;
};
globalThis.fetch = async (address, request) => {
  const { protocol, origin } = new URL(address);
  if (protocol === "file:") return new Response(readFileSync(address));
  const { status, document, headers } = await stages.get(origin).answer(address.slice(origin.length), request);
  return { status, ok: status < 300, headers: new Headers(headers), json: async () => JSON.parse(JSON.stringify(document)) };
};

/** Time goes on; whatever is due happens, in order, and is over. */
export async function pass(ms) {
  const end = world.time + ms;
  for (;;) {
    const [timer] = world.timers.filter(({ at }) => at <= end).sort((one, other) => one.at - other.at);
    if (!timer) break;
    clearTimeout(timer);
    world.time = Math.max(world.time, timer.at);
    await timer.work();
  }
  world.time = end;
}

/** One visit. */
export class Stage {
  asked = []; // {method, path, body, authorization, credentials, at}
  views = [];

  /** `answers` of "METHOD path": a document, a [status, document, headers], an Error, or a function of the request that gives one. */
  constructor(answers = {}, { kept, credentials = () => ({}), dropId = "d" } = {}) {
    const origin = `https://s${(count += 1)}.example`;
    stages.set(origin, this);
    this.answers = { "GET ": dropOf(), "GET /serving": () => documentOf(), ...answers };
    if (kept !== "shared") this.storage = storeIn(kept ? { [`flashsale:${dropId}`]: kept } : {});
    this.dropId = dropId;
    this.visit = visit(origin, dropId, credentials, (view) => this.#shown(view));
  }

  get view() {
    return this.views.at(-1);
  }

  get kept() {
    return this.visit.kept();
  }

  get token() {
    return this.visit.token();
  }

  /** Requests of one kind so far. */
  requests(name) {
    return this.asked.filter(({ method, path }) => `${method} ${path}` === name);
  }

  async hide() {
    document.hidden = true;
    this.visit.rest();
  }

  async appear() {
    document.hidden = false;
    await this.visit.wake();
  }

  /** The next view for which `test` holds. */
  until(test) {
    return new Promise((resolve) => (this.waiting = { test, resolve }));
  }

  async answer(address, { method, body, headers, credentials }) {
    const path = address.replace(`/v1/drops/${this.dropId}`, "");
    const request = { method, path, body: body && JSON.parse(body), authorization: headers?.Authorization, credentials, at: world.time };
    this.asked.push(request);
    let answer = this.answers[`${method ?? "GET"} ${path}`];
    if (typeof answer === "function") answer = await answer(request);
    if (answer instanceof Error) throw answer;
    const [status, document, more] = Array.isArray(answer) ? answer : [answer ? 200 : 404, answer ?? { code: "not_found" }];
    return { status, document, headers: more };
  }

  #shown(view) {
    this.shows?.(view);
    this.views.push(view);
    if (this.waiting?.test(view)) this.waiting.resolve(view);
  }
}

renew();
