// Runs the page against a made-up browser and a service that answers with the statuses given; prints what happened.
"use strict";

const fs = require("fs");
const vm = require("vm");

const [, , file, ...statuses] = process.argv;
const elements = {};
const element = (id) => (elements[id] ??= { textContent: "", childElementCount: 1, replaceChildren() {}, append() {} });
const drop = { currency: "EUR", skus: [{ sku: "s", name: "S", price_minor: 100, allotment: 5 }], joins_at_ms: 0, description: "A drop" };
const serving = {
  now_ms: Date.now(), opens_at_ms: 0, state: "open", sold_out: false, joined: 3, serving_number: 9, rate_per_min: 60,
  available: { s: 3 }, poll: { floor_ms: 2000, ceiling_ms: 3000, divisor: 20 },
};
const kept = { ticket: "t", number: 1, token: "x", tokenExpiresAtMs: Date.now() + 1e6 };
const seen = { polls_ms: [], troubles: [], headlines: [] };

async function fetched(path) {
  const status = Number(statuses.shift());
  const body = status === 200 ? (path.endsWith("/serving") ? serving : drop) : { type: "about:blank", status };
  return { status, headers: { get: () => null }, json: async () => structuredClone(body) };
}

function later(action, ms) {
  seen.polls_ms.push(ms);
  seen.troubles.push(element("trouble").textContent);
  seen.headlines.push(element("headline").textContent);
  if (statuses.length) setImmediate(action);
}

vm.runInNewContext(fs.readFileSync(file, "utf8"), {
  document: { body: { dataset: { drop: "d", pays: "no" } }, getElementById: element, createElement: () => element("made") },
  localStorage: { getItem: () => JSON.stringify(kept), setItem() {} },
  fetch: fetched, setTimeout: later, setInterval() {}, Intl,
});
process.on("exit", () => console.log(JSON.stringify(seen)));
