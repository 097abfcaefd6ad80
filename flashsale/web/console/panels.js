// The panels of a drop's live view. Each is made once; `update` changes texts and bars in place, so focus and selection stay.

import { StackedBar, TimeChart } from "./charts.js";
import { h, put, Rows, show, write } from "./dom.js";
import { count, counted, moment, money, NONE, percent, span, time } from "./format.js";
import { totals } from "./history.js";
import { ages, JOURNAL_LATE_MS, ordersOf, refusals } from "./reading.js";

function card(id, title, ...children) {
  return h("section", { class: "card", "aria-labelledby": id }, h("h2", { id }, title), children);
}

// ------------------------------------------------------------------------------------------------------------ key figures

/** The numbers to look at first. */
export function figurePanel(drop) {
  const names = ["Waiting", "Serving number", "Let in, last minute", "Inside", "Reserved", "Sold", "Orders paid", "Journal"];
  const inside = new StackedBar();
  const cells = names.map((name) => {
    const value = h("dd");
    const note = h("dd", { class: "note" });
    return { value, note, element: h("div", {}, h("dt", {}, name), value, note) };
  });
  cells[3].element.append(h("dd", { class: "meter" }, inside.element));
  const list = h("dl", { class: "figures" }, cells.map((cell) => cell.element));
  const element = h("section", { class: "card now", "aria-labelledby": "now-title" }, h("h2", { id: "now-title", class: "unseen" }, "Now"), list);
  const prices = new Map(drop.skus.map((sku) => [sku.sku, sku.price_minor]));

  function update(about, live) {
    const units = totals(live.skus);
    const worth = live.skus.reduce((sum, sku) => sum + sku.sold * (prices.get(sku.sku) ?? 0), 0);
    const late = (live.journal?.oldest_ms ?? 0) > JOURNAL_LATE_MS;
    const told = [
      [count(live.waiting), `of ${count(live.joined)} who joined`],
      [count(live.serving_number), `${count(live.admitted_total)} let in so far`],
      [count(live.admitted_last_min), `rate ${count(live.rate_per_min)} a minute`],
      [count(live.inside), `of ${count(live.capacity)} places${live.standby ? `; ${count(live.standby)} wait for units` : ""}`],
      [count(units.reserved), live.reservations ? `units, in ${counted(live.reservations.open, "reservation")}` : "units"],
      [count(units.sold), `of ${count(units.allotment)} · ${percent(units.sold, units.allotment)} · ${money(worth, about.currency)}`],
      [count(live.orders?.paid), ordersNote(live)],
      [live.journal ? span(live.journal.oldest_ms ?? 0) : NONE, live.journal ? journalNote(live.journal, late) : "not known just now"],
    ];
    told.forEach(([value, note], at) => {
      write(cells[at].value, value);
      write(cells[at].note, note);
    });
    put(cells[7].element, "data-level", late ? "warn" : null);
    inside.set([["inside", Math.min(live.inside ?? 0, live.capacity)]], live.capacity);
  }
  return { element, update };
}

function ordersNote({ orders, postgres }) {
  if (orders) return `${count(orders.pending)} pending; ${count(orders.recorded_last_min)} recorded last minute`;
  return postgres === "away" ? "Postgres is away" : "not known just now";
}

function journalNote({ oldest_ms: oldest, length }, late) {
  if (!oldest) return "everything is written to Postgres";
  return `${late ? "behind" : "oldest not yet in Postgres"}${length ? `; ${counted(length, "entry", "entries")}` : ""}`;
}

// ------------------------------------------------------------------------------------------------------------- over time

const RATE_SHOWN_WITHIN = 3;
const WIDTHS_MS = [[3 * 60_000, 5_000], [6 * 60_000, 10_000], [Infinity, 20_000]];

/** Admissions a minute, the waiting, and the units over the last quarter of an hour, as this page saw them. */
export function linePanel() {
  const admitted = new TimeChart({ id: "chart-admitted", title: "Let in per minute", unit: "a minute", series: [{ name: "Let in", css: "admitted" }, { name: "Rate", css: "target" }] });
  const waiting = new TimeChart({ id: "chart-waiting", title: "Waiting", unit: "waiting", series: [{ name: "In line, not called yet", css: "waiting" }] });
  const units = new TimeChart({ id: "chart-units", title: "Units", unit: "units", series: [{ name: "Sold", css: "sold" }, { name: "Reserved", css: "reserved" }, { name: "All", css: "target" }] });
  const element = card("over-time", "Over time", h("p", { class: "quiet aside" }, "what this page has seen of the last quarter of an hour"), h("div", { class: "charts" }, admitted.element, waiting.element, units.element));

  function update(history, live) {
    const { from, to } = history.reach(live.now_ms);
    drawAdmitted(admitted, history, live, from, to);
    drawWaiting(waiting, history, live, from, to);
    drawUnits(units, history, live, from, to);
  }
  return { element, update };
}

function most(points, least) {
  return points.reduce((top, [, value]) => Math.max(top, value ?? 0), least);
}

function drawAdmitted(chart, history, live, from, to) {
  const width = WIDTHS_MS.find(([reach]) => to - from <= reach)[1];
  const columns = history.perMinute("admitted", from, width);
  const rate = history.line("rate", from);
  const highest = columns.reduce((top, [, , value]) => Math.max(top, value), 0);
  const last = columns.at(-1)?.[2] ?? 0;
  const words = columns.length
    ? `Just now ${count(Math.round(last))} a minute, at most ${count(Math.round(highest))}; the rate is ${count(live.rate_per_min)} a minute.`
    : `Nothing was seen yet; the rate is ${count(live.rate_per_min)} a minute.`;
  const reach = highest ? RATE_SHOWN_WITHIN * highest : Infinity; // a rate far above would flatten everything else
  const shown = rate.map(([at, value]) => [at, value <= reach ? value : null]);
  const top = most(shown, highest);
  chart.draw({ from, to, most: top, columns, line: shown }, words);
}

function drawWaiting(chart, history, live, from, to) {
  const points = history.line("waiting", from);
  const seen = points.filter(([, value]) => value !== null);
  const [least, greatest] = [Math.min(...seen.map(([, value]) => value)), most(points, 0)];
  const words = seen.length ? `${count(live.waiting)} now; from ${count(least)} to ${count(greatest)} since ${time(seen[0][0])}.` : "Nothing was seen yet.";
  chart.draw({ from, to, most: greatest, areas: [points] }, words);
}

function drawUnits(chart, history, live, from, to) {
  const sold = history.line("sold", from);
  const reserved = history.line("reserved", from);
  const taken = sold.map(([at, value], index) => [at, value === null ? null : value + reserved[index][1]]);
  const { allotment, ...now } = totals(live.skus);
  const all = history.line("allotment", from);
  chart.draw({ from, to, most: most(all, allotment ?? 1), areas: [sold, taken], line: all }, `${count(now.sold)} sold and ${count(now.reserved)} reserved of ${count(allotment)}.`);
}

// ----------------------------------------------------------------------------------------------------------------- stock

const KINDS = [["sold", "Sold"], ["reserved", "Reserved"], ["available", "Available"], ["draining", "Draining"]];
const COLUMN_CSS = { draining: "drains", allotment: "whole" };

/** Units per SKU. Those to be withdrawn are among the reserved ones, and told beside them. */
export function stockPanel(drop) {
  const about = new Map(drop.skus.map((sku) => [sku.sku, sku]));
  const body = h("tbody");
  const heads = KINDS.map(([css, name]) => h("th", { scope: "col", class: `number ${COLUMN_CSS[css] ?? ""}` }, h("span", { class: `swatch ${css}`, "aria-hidden": "true" }), name));
  const table = h(
    "table", { class: "stock", "aria-labelledby": "stock-title" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "SKU"), h("td", { class: "units" }), heads, h("th", { scope: "col", class: "number whole" }, "Units"))),
    body,
  );
  const rows = new Rows(body, (sku) => stockRow(about.get(sku.sku), drop.currency));
  const element = card("stock-title", "Stock", h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Units by SKU" }, table));
  const update = (_, live) => {
    rows.set(live.skus, (sku) => sku.sku);
    put(table, "data-draining", live.skus.some((sku) => sku.draining));
  };
  return { element, update };
}

function stockRow(about, currency) {
  const bar = new StackedBar("tall");
  const cells = [...KINDS, ["allotment"]].map(([kind]) => h("td", { class: `number ${COLUMN_CSS[kind] ?? ""}` }));
  const code = h("span", { class: "id" });
  const name = h("th", { scope: "row" }, h("span", {}, about?.name ?? ""), code);
  const element = h("tr", {}, name, h("td", { class: "units" }, bar.element), cells);
  const update = (sku) => {
    write(code, about ? `${sku.sku} · ${money(about.price_minor, currency)}` : sku.sku);
    const draining = Math.min(sku.draining ?? 0, sku.reserved);
    bar.set([["sold", sku.sold], ["reserved", sku.reserved - draining], ["draining", draining], ["available", sku.available]], sku.allotment);
    [...KINDS.map(([kind]) => kind), "allotment"].forEach((kind, at) => write(cells[at], count(sku[kind])));
  };
  return { element, update };
}

/** The lines of priority groups, where there are some. */
export function groupPanel(drop) {
  const body = h("tbody");
  const heads = ["Line", "Share", "Joined", "Waiting", "Serving"].map((words, at) => h("th", { scope: "col", class: at ? "number" : null }, words));
  const element = card("groups-title", "Lines", h("table", { class: "lines", "aria-labelledby": "groups-title" }, h("thead", {}, h("tr", {}, heads)), body));
  const about = new Map((drop.groups ?? []).map((group) => [group.group, group]));
  const rows = new Rows(body, (line) => {
    const cells = [0, 1, 2, 3].map(() => h("td", { class: "number" }));
    const group = about.get(line.group);
    const row = h("tr", {}, h("th", { scope: "row" }, group?.name || line.group || "everybody"), cells);
    const update = (now) => {
      const share = group?.share_permille ?? null;
      [share === null ? NONE : percent(share, 1000), count(now.joined), count(now.waiting), count(now.serving_number)].forEach((words, at) => write(cells[at], words));
    };
    return { element: row, update };
  });
  const update = (now, live) => {
    const lines = live.lines ?? now.groups ?? [];
    rows.set(lines, (line) => line.group);
    show(element, lines.length > 0);
  };
  return { element, update };
}

// -------------------------------------------------------------------------------------------------- reservations and orders

/** Bars with their numbers: `set([[label, value, css?]])`. */
function barList(labelled) {
  const list = h("ul", { class: "bars", "aria-labelledby": labelled });
  const rows = new Rows(list, ([label]) => {
    const bar = new StackedBar();
    const value = h("b");
    const row = h("li", {}, h("span", {}, label), bar.element, value);
    return { element: row, update: ([, number, css, whole]) => { write(value, count(number)); bar.set([[css, number]], whole); } };
  });
  const set = (all, css) => {
    const whole = all.reduce((top, [, value]) => Math.max(top, value ?? 0), 1);
    rows.set(all.map(([label, value]) => [label, value, css, whole]), ([label]) => label);
  };
  return { element: list, set };
}

/** Open reservations by how long ago they were made. */
export function reservationsPanel() {
  const bars = barList("reservations-title");
  const note = h("p", { class: "quiet" });
  const element = card("reservations-title", "Open reservations", bars.element, note);
  const update = (about, live) => {
    const found = ages(live.reservations?.by_age);
    bars.set(found.map(({ label, count: number }) => [label, number]), "reserved");
    const life = `Each ends after ${span(about.reservation_ttl_ms)} unless it is paid.`;
    write(note, live.reservations ? `${count(live.reservations.open)} open, by age. ${life}` : "Not known just now.");
  };
  return { element, update };
}

/** Orders by state. */
export function ordersPanel(drop) {
  const bars = barList("orders-title");
  const note = h("p", { class: "quiet" });
  const link = h("a", { href: `/v1/merchant/drops/${encodeURIComponent(drop)}/orders.csv`, download: `${drop}-orders.csv` }, "All orders as CSV");
  const element = card("orders-title", "Orders", bars.element, note, h("p", {}, link));
  const update = (_, live) => {
    bars.set(live.orders ? ordersOf(live.orders) : [], "sold");
    write(note, live.orders ? `In Postgres.${audited(live)}` : live.postgres === "away" ? "Postgres does not answer. They wait in the journal." : "Not known just now.");
  };
  return { element, update };
}

function audited({ audit, now_ms: nowMs }) {
  return audit?.result === "clean" ? ` Audited ${moment(audit.audited_at_ms, nowMs)}: store and Postgres add up.` : "";
}

/** Requests refused in the last minute, by code. */
export function refusalsPanel() {
  const list = h("ul", { class: "codes" });
  const note = h("p", { class: "quiet" });
  const element = card("errors-title", "Refused, last minute", list, note);
  const rows = new Rows(list, ({ code }) => {
    const [number, words] = [h("b"), h("span", { class: "quiet" })];
    const row = h("li", {}, number, h("div", {}, h("code", {}, code), words));
    return { element: row, update: (one) => { write(number, count(one.count)); write(words, one.words); put(row, "data-level", one.ours ? "bad" : null); } };
  });
  const update = (_, live) => {
    const found = refusals(live.errors?.last_min_by_code);
    rows.set(found, (one) => one.code);
    const whose = live.errors?.of === "worker" ? " Of all drops, as the worker saw it that this page is connected to." : "";
    write(note, live.errors ? `${found.length ? "" : "Nobody."}${whose}`.trim() : "Not known just now.");
  };
  return { element, update };
}
