// What became of a drop: the key figures of its report here, all of it on a page of its own.

import { read, Refusal } from "./api.js";
import { Histogram } from "./charts.js";
import { commandLine, dropCommand } from "./commands.js";
import { announce, h, show, write } from "./dom.js";
import { count, countdown, percent, span } from "./format.js";

const TIMEOUT_MS = 120_000; // a report on hundreds of thousands of places takes its time, and waits for others
const MAKING = "Making the report …";
const LATE = "it is not ready after two minutes. Look again in a while, or use the command below.";

/** The panel; `load()` reads the report (again), and once more when it is asked to meanwhile. */
export function reportPanel(drop, context) {
  const path = `/v1/merchant/drops/${encodeURIComponent(drop)}`;
  const figures = h("dl", { class: "figures" });
  const making = h("span", { class: "quiet", hidden: true }, MAKING);
  const trouble = h("p", { class: "result", "data-level": "bad", role: "status", hidden: true });
  const waits = new Histogram({ id: "waits", title: "How long people waited", css: "waiting", head: ["Waited until called", "Shoppers"] });
  const rate = new Histogram({ id: "rate-over-time", title: "Admissions per minute, from the opening", css: "admitted", head: ["Since the opening", "Admissions per minute"] });
  const charts = h("div", { class: "charts two" }, waits.element, rate.element);
  const links = h(
    "p", { class: "buttons" },
    h("a", { class: "button", href: `${path}/report?format=html`, target: "_blank", rel: "noopener" }, "The whole report"),
    h("a", { class: "button plain", href: `${path}/orders.csv`, download: `${drop}-orders.csv` }, "Orders as CSV"),
  );
  const element = h(
    "section", { class: "card report", "aria-labelledby": "report-title", hidden: true },
    h("div", { class: "head" }, h("h2", { id: "report-title" }, "Report"), making), trouble, figures, charts, links,
    commandLine(dropCommand("report", drop, "--html", `${drop}.html`)).element,
    commandLine(dropCommand("orders", drop, ">", `${drop}.csv`)).element,
  );

  let isMaking = false;
  let again = false;

  async function load() {
    again = isMaking;
    if (isMaking) return;
    isMaking = true;
    show(element, true);
    show(making, true);
    announce(MAKING);
    try {
      await draw();
    } finally {
      show(making, false);
      isMaking = false;
    }
    if (again) await load();
  }

  async function draw() {
    try {
      const report = await read(`${path}/report`, { timeoutMs: TIMEOUT_MS, late: LATE });
      figures.replaceChildren(...keyFigures(report).map(figure));
      drawWaits(waits, report);
      drawRate(rate, report);
      show(figures, true);
      show(charts, true);
      show(trouble, false);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      write(trouble, `The report cannot be had just now: ${context.failed(error)}`);
      show(trouble, true);
      show(charts, false);
    }
  }
  show(charts, false);
  return { element, load };
}

function figure([label, value, note]) {
  return h("div", {}, h("dt", {}, label), h("dd", {}, value), note ? h("dd", { class: "note" }, note) : null);
}

/** The numbers to look at first: [label, value, note]. Pure. */
export function keyFigures({ whole, stock, eta }) {
  const taken = stock.all_sold_ms ?? stock.all_taken_ms;
  return [
    ["Sold", count(stock.sold), `of ${count(stock.allotment)} units · ${percent(stock.sold, stock.allotment)}`],
    [stock.all_sold_ms === null ? "Everything taken after" : "Everything sold after", taken === null ? "never" : span(taken), stock.half_sold_ms === null ? "" : `half sold after ${span(stock.half_sold_ms)}`],
    ["Joined", count(whole.joined), `${count(whole.called)} had their turn`],
    ["Came", count(whole.claimed), `${percent(whole.claimed, whole.called)} of those called; ${count(whole.left)} gave up their places`],
    ["Half were called within", span(whole.wait_to_call?.p50_ms), whole.wait_to_call ? `90 % within ${span(whole.wait_to_call.p90_ms)}` : "nobody was called"],
    ["Overtakes", count(whole.calls.inversions), whole.calls.inversions ? "somebody was called before somebody ahead of them" : "nobody was called before somebody ahead of them"],
    ["Waits within the range told", eta ? `${Math.round(100 * eta.share_within)}\u00a0%` : "—", eta ? `of ${count(eta.looks)} looks; the aim is 80 %` : "too little was seen to judge"],
  ];
}

function drawWaits(chart, { waits, whole }) {
  const columns = waits.map((bin) => [bin.from_ms, bin.to_ms, bin.count]);
  const words = whole.wait_to_call ? `Half waited at most ${span(whole.wait_to_call.p50_ms)}, the longest ${span(whole.wait_to_call.max_ms)}.` : "Nobody was called.";
  drawColumns(chart, columns, words);
}

function drawRate(chart, { rate }) {
  const columns = rate.map((bin) => [bin.from_ms, bin.to_ms, bin.per_min]);
  const most = Math.max(0, ...columns.map(([, , value]) => value));
  drawColumns(chart, columns, columns.length ? `At most ${count(Math.round(most))} a minute.` : "Nobody was let in.");
}

function drawColumns(chart, columns, words) {
  const most = Math.max(1, ...columns.map(([, , value]) => value));
  chart.draw({ from: columns[0]?.[0] ?? 0, to: columns.at(-1)?.[1] ?? 1, most, columns, label: countdown }, words);
}
