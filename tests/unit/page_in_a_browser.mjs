// Runs the page against a made-up browser and a service that answers with the statuses given; prints what happened. What the page
// keeps, and what the drop and the serving document say beside the usual, come as JSON in KEPT, DROP and SERVING; what
// a join is answered in PLACE.
import { pathToFileURL } from "node:url";

const [, , file, ...statuses] = process.argv;
const beside = (name) => JSON.parse(process.env[name] ?? "{}");
const elements = {};
const element = (id) => (elements[id] ??= { textContent: "", childElementCount: 1, replaceChildren() {}, append() {} });
const drop = {
  currency: "EUR", skus: [{ sku: "s", name: "S", price_minor: 100, allotment: 5 }], joins_at_ms: 0, description: "A drop", order: "arrival",
  ...beside("DROP"),
};
const serving = {
  epoch: 1, now_ms: Date.now(), opens_at_ms: 0, state: "open", sold_out: false, joined: 3, entries: 3, key: null, serving_number: 9, rate_per_min: 60,
  available: { s: 3 }, poll: { floor_ms: 2000, ceiling_ms: 3000, divisor: 20 }, ...beside("SERVING"),
};
const kept = { ticket: "t", number: 1, token: "x", tokenExpiresAtMs: Date.now() + 1e6, ...beside("KEPT") };
const seen = { polls_ms: [], troubles: [], headlines: [], more: [], asked: [], joins: [], kept: {} };
const immediately = setImmediate;

async function fetched(path, { method, body: sent }) {
  seen.asked.push(path);
  if (method === "POST") seen.joins.push(JSON.parse(sent));
  const status = Number(statuses.shift());
  const told = method === "POST" ? beside("PLACE") : path.endsWith("/serving") ? serving : drop;
  const body = status < 300 ? told : { type: "about:blank", status, code: status === 422 ? "receipt_invalid" : "" };
  return { status, headers: { get: () => null }, json: async () => structuredClone(body) };
}

function later(action, ms) {
  seen.polls_ms.push(ms);
  seen.troubles.push(element("trouble").textContent);
  seen.headlines.push(element("headline").textContent);
  seen.more.push(element("more").textContent);
  if (statuses.length) immediately(action);
  else console.log(JSON.stringify(seen));
}

Object.assign(globalThis, {
  document: { body: { dataset: { drop: "d", pays: "no" } }, getElementById: element, createElement: () => element("made") },
  localStorage: { getItem: () => JSON.stringify(kept), setItem: (_name, text) => (seen.kept = JSON.parse(text)) },
  fetch: fetched, setTimeout: later, setInterval() {},
});
await import(pathToFileURL(file));
