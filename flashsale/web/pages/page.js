// A plain page to take part in a drop. It knows its own place, and everything else it computes from the serving document.
import { nextPollMs, outlook } from "./outlook.js";
import { queueNumber } from "./verify-draw.js";

const dropId = document.body.dataset.drop;
const testPayments = document.body.dataset.pays === "yes";
const base = `/v1/drops/${dropId}`;
const storageName = `flashsale:${dropId}`;
const noAnswer = "The service does not answer. We keep trying; your place is safe.";
const element = (id) => document.getElementById(id);

const kept = JSON.parse(localStorage.getItem(storageName) || "{}"); // secret, ticket, receipt, entry, number, drawKey, token, key, reservation
let drop = null;
let serving = null;
let clockAheadMs = 0; // of the service's clock before ours
let firstPosition = null;
let busy = false;

const keep = (values) => localStorage.setItem(storageName, JSON.stringify(Object.assign(kept, values)));
const nowMs = () => Date.now() + clockAheadMs;
const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));
const base64url = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const epochOf = (receipt) => JSON.parse(atob(receipt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).epoch;
const money = (minor) => {
  const format = new Intl.NumberFormat(undefined, { style: "currency", currency: drop.currency });
  return format.format(minor / 10 ** format.resolvedOptions().maximumFractionDigits);
};

const nameOf = (sku) => drop.skus.find((one) => one.sku === sku)?.name ?? sku;

function duration(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return (parts[0] ? parts : parts.slice(1)).map((part, i) => (i ? String(part).padStart(2, "0") : part)).join(":");
}

function setText(id, text) { // only changes are written, so that they are announced once
  if (element(id).textContent !== text) element(id).textContent = text;
}

async function ask(method, path, { body, headers } = {}) {
  const answer = await fetch(path, {
    method, credentials: "omit", headers: { ...(body ? { "Content-Type": "application/json" } : {}), ...headers },
    body: body && JSON.stringify(body),
  });
  return { status: answer.status, retryMs: 1000 * Number(answer.headers.get("Retry-After") || 1), ...(await answer.json()) };
}

// A document that has to be there: whatever else is answered must not be taken for it.
async function read(path) {
  const answer = await ask("GET", path);
  if (answer.status !== 200) throw new Error(`${path} was answered ${answer.status}`);
  return answer;
}

// Repeats what may be repeated: every request here carries its own key, so the outcome is the same one.
async function insist(method, path, options) {
  for (;;) {
    const answer = await ask(method, path, options).catch(() => ({ status: 503, retryMs: 2000 }));
    if (answer.status !== 503 && answer.status !== 429) return answer;
    setText("trouble", "The service is busy. We keep trying; your place is safe.");
    await pause(answer.retryMs * (0.7 + 0.6 * Math.random()));
  }
}

async function join() {
  if (!kept.secret) keep({ secret: base64url(crypto.getRandomValues(new Uint8Array(24))) });
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(kept.secret));
  const body = { secret_hash: base64url(new Uint8Array(digest)), ...(kept.receipt && { receipt: kept.receipt }) };
  const answer = await insist("POST", `${base}/tickets`, { body });
  if (answer.code === "receipt_invalid" && kept.receipt) {
    keep({ receipt: null });
    return join();
  }
  if (answer.status >= 400) return setText("trouble", answer.detail);
  const entry = answer.entry_number ?? null; // without one the place is its own: its shopper came after the opening
  const number = answer.queue_number ?? (drop.order === "draw" ? null : entry);
  keep({ ticket: answer.ticket_id, receipt: answer.receipt, entry, number, drawKey: null });
  await takeLot();
}

// The queue number follows from the entry number and the published key. It is worked out here, so that nobody has to ask for it.
async function takeLot() {
  const { entries, key } = serving;
  if (!kept.ticket || kept.entry == null || !key || kept.drawKey === key) return;
  // A place given back after a loss may lie behind those that were drawn; its number stays what it is.
  keep({ number: kept.entry < entries ? await queueNumber(kept.entry, entries, key) : kept.entry, drawKey: key });
}

const isCalled = () => kept.number != null && kept.number < serving.serving_number;

async function enter() {
  const answer = await insist("POST", `${base}/admissions`, { headers: { Authorization: `Ticket ${kept.ticket}.${kept.secret}` } });
  if (answer.status === 200) keep({ token: answer.admission_token, tokenExpiresAtMs: answer.expires_at_ms });
  else if (answer.code === "ticket_invalid") await join();
  else if (answer.code !== "not_yet") setText("trouble", answer.detail);
}

async function reserve() {
  const inputs = [...element("choice").elements].filter((input) => Number(input.value) > 0);
  const items = inputs.map((input) => ({ sku: input.name, quantity: Number(input.value) }));
  if (!items.length) return setText("trouble", "Choose how many you want.");
  if (!kept.key) keep({ key: crypto.randomUUID() }); // kept until its outcome is known, over reloads too
  const headers = { Authorization: `Bearer ${kept.token}`, "Idempotency-Key": kept.key };
  const answer = await insist("POST", `${base}/reservations`, { headers, body: { items } });
  keep({ key: null });
  if (answer.status < 300) return keep({ reservation: answer });
  setText("trouble", answer.detail);
  if (answer.status === 401) keep({ token: null });
}

async function pay() {
  const answer = await insist("POST", "/v1/test-provider/payments", { body: { reservation_id: kept.reservation.reservation_id } });
  if (answer.status >= 300) return setText("trouble", answer.detail);
  await look();
}

async function giveBack() {
  await insist("DELETE", `/v1/reservations/${kept.reservation.reservation_id}`);
  await look();
}

async function look() { // at our own reservation; only its owner asks, and only while it matters
  const answer = await insist("GET", `/v1/reservations/${kept.reservation.reservation_id}`);
  keep({ reservation: answer.status === 200 ? answer : null });
}

function showStock() {
  const rows = drop.skus.map((sku) => {
    const row = document.createElement("li");
    const left = document.createElement("span");
    row.append(`${sku.name}, ${money(sku.price_minor)}`, left);
    left.textContent = `${serving.available[sku.sku] ?? 0} of ${sku.allotment} left`;
    return row;
  });
  element("stock").replaceChildren(...rows);
}

function showChoice() {
  if (element("choice").childElementCount) return;
  drop.skus.forEach((sku, i) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "number", name: sku.sku, min: 0, max: sku.limit_per_shopper, value: i ? 0 : 1 });
    label.append(sku.name, input);
    element("choice").append(label);
  });
}

function waitText() {
  if (serving.state === "paused") return "The drop is paused. Your place is kept.";
  const { position, eta_ms: etaMs, chance } = outlook(serving, kept.number);
  const said = [];
  if (position !== null) said.push(`${position} ahead of you.`);
  if (etaMs) said.push(`About ${duration(etaMs[0])} to ${duration(etaMs[1])}.`);
  if (chance !== null) said.push(chanceText(chance));
  return said.join(" ");
}

function chanceText(chance) {
  if (chance >= 0.95) return "The stock will very likely reach you.";
  if (chance < 0.05) return "The stock will very likely not reach you.";
  return `The chance that the stock reaches you is about ${Math.round(10 * chance) * 10} %.`;
}

// What to say and offer: {headline, big, more, act: [label, action], choice, back, progress}.
function scene() {
  const untilOpenMs = serving.opens_at_ms - nowMs();
  const held = kept.reservation;
  if (held?.state === "confirmed") {
    const recorded = held.order?.recorded && held.order.state === "paid";
    return { headline: recorded ? "It is yours." : "Paid. Your order is being recorded …", more: `Order ${held.reservation_id}, ${money(held.amount_minor)}` };
  }
  if (held?.state === "reserved") {
    const leftMs = held.expires_at_ms - nowMs();
    if (leftMs <= 0) return { headline: "Your reservation is ending …" };
    const more = `${held.items.map((item) => `${item.quantity} × ${nameOf(item.sku)}`).join(", ")}: ${money(held.amount_minor)}`;
    const act = testPayments ? [`Pay ${money(held.amount_minor)} (test)`, pay] : null;
    return { headline: "Reserved for you. Pay before the time runs out.", big: duration(leftMs), more, act, back: true };
  }
  const ended = held?.state ? { trouble: "Your reservation has ended." } : {};
  if (serving.state === "closed") return { headline: "The drop has ended." };
  if (serving.sold_out) return { headline: "Sold out." };
  if (serving.state === "recovering") return { headline: "The drop is being recovered. Your place is kept." };
  if (kept.token && nowMs() < kept.tokenExpiresAtMs) {
    const gone = Object.values(serving.available).every((units) => units === 0);
    if (gone) return { headline: "Everything is reserved just now. Units may come back.", choice: true, act: ["Try again", reserve], ...ended };
    return { headline: "Your turn.", more: "Choose and reserve; the units are then yours for a while.", choice: true, act: ["Reserve", reserve], ...ended };
  }
  if (!kept.ticket) {
    if (serving.state === "scheduled") return { headline: "Joining opens soon.", big: duration(drop.joins_at_ms - nowMs()) };
    if (untilOpenMs > 0) return { headline: "The drop opens in", big: duration(untilOpenMs), act: ["Join the line", join] };
    return { headline: "The drop is open.", more: `${serving.joined} have joined.`, act: ["Join the line", join] };
  }
  if (untilOpenMs > 0 && serving.state !== "open") {
    const more = drop.order === "draw"
      ? `You are entry number ${kept.entry}. The order is drawn by lot at the opening; when you came does not count.`
      : `Your number is ${kept.number}.`;
    return { headline: "You are in. The drop opens in", big: duration(untilOpenMs), more: `${more} ${waitText()}`.trim() };
  }
  if (kept.number == null) return { headline: "The order is being drawn …", more: waitText() };
  const position = Math.max(0, kept.number - serving.serving_number);
  firstPosition ??= Math.max(1, position);
  const headline = isCalled() ? "You are being let in …" : "You are in line. You can reload; your place is kept.";
  return { headline, big: String(position), more: waitText(), progress: 1 - position / firstPosition };
}

function show() {
  if (!drop || !serving) return;
  const { headline, big, more, act, choice, back, progress, trouble } = scene();
  setText("headline", headline);
  setText("big", big || "");
  setText("more", serving.notice || more || "");
  if (trouble && !element("trouble").textContent) setText("trouble", trouble);
  if (choice) showChoice();
  element("choice").hidden = !choice;
  element("progress").hidden = progress === undefined;
  element("progress").value = progress ?? 0;
  element("back").hidden = !back;
  element("act").hidden = !act;
  if (act) setText("act", act[0]);
  element("act").disabled = element("back").disabled = busy;
  element("act").onclick = act && (() => actOn(act[1]));
}

async function actOn(action) {
  if (busy) return;
  busy = true;
  setText("trouble", "");
  show();
  try {
    await action();
  } catch {
    setText("trouble", "There is no connection. Try again.");
  } finally {
    busy = false;
    show();
  }
}

// As the document advises; just after the opening at the latest.
function pauseMs() {
  const ahead = kept.ticket && kept.number != null ? Math.max(0, kept.number - serving.serving_number) : 0;
  const untilOpenMs = Math.max(0, serving.opens_at_ms - nowMs());
  const pollMs = nextPollMs(serving, untilOpenMs + (ahead * 60_000) / Math.max(1, serving.rate_per_min));
  return untilOpenMs ? Math.min(pollMs, untilOpenMs + serving.poll.floor_ms * Math.random()) : pollMs;
}

async function poll() {
  let delayMs = 3000 * (0.7 + 0.6 * Math.random()); // many pages lose a service at the same moment
  try {
    drop ??= await read(base);
    serving = await read(`${base}/serving`);
    // A later epoch: data has been lost, and the line that is served now may end before our number. The receipt gives it back.
    if (kept.receipt && serving.epoch > epochOf(kept.receipt) && !serving.sold_out && serving.state !== "closed") await join();
    if (element("trouble").textContent === noAnswer) setText("trouble", "");
    clockAheadMs = serving.now_ms - Date.now();
    setText("about", drop.description);
    showStock();
    const held = kept.reservation;
    const unsettled = held?.state === "reserved" || (held?.state === "confirmed" && held.order?.state !== "paid");
    await takeLot();
    if (unsettled) await look();
    else if (kept.ticket && !(kept.token && nowMs() < kept.tokenExpiresAtMs) && isCalled() && !serving.sold_out) await enter();
    delayMs = pauseMs();
  } catch {
    setText("trouble", noAnswer);
  }
  show();
  setTimeout(poll, delayMs);
}

element("choice").onsubmit = (event) => event.preventDefault();
element("back").onclick = () => actOn(giveBack);
setInterval(show, 500);
poll();
