// Every drop of the merchant: where it stands, what happens next, and how much of it is sold.

import { read, serviceNow } from "./api.js";
import { badge } from "./badge.js";
import { StackedBar } from "./charts.js";
import { commandLine, dropCommand } from "./commands.js";
import { h, put, Rows, show, write } from "./dom.js";
import { count, countdown, counted, moment, percent, utc } from "./format.js";
import { nextOf } from "./reading.js";

const EVERY_MS = 4_000;
const PAGE = 50;
const STATES = ["open", "paused", "waiting", "scheduled", "closed"];
const ORDER = { recovering: 0, open: 0, paused: 0, waiting: 1, scheduled: 2, closed: 3 };

/** What is on first, then what opens next, then what is over, the latest first. */
function inOrder(drops) {
  const key = (drop) => (drop.state === "closed" ? -drop.closes_at_ms : drop.opens_at_ms);
  return drops.toSorted((a, b) => (ORDER[a.state] ?? 0) - (ORDER[b.state] ?? 0) || key(a) - key(b));
}

export function dropsView(context) {
  let pages = 1;
  let timer = null;
  let left = false;
  let asked = 0;
  const state = h("select", { id: "state", onchange: () => { pages = 1; refresh(); } }, h("option", { value: "" }, "all"), STATES.map((one) => h("option", { value: one }, one)));
  const trouble = h("p", { class: "banner", "data-level": "bad", role: "status", hidden: true });
  const body = h("tbody");
  const head = ["Drop", "Next", "Joined", "Waiting", "Sold"].map((words, at) => h("th", { scope: "col", class: at === 2 || at === 3 ? "number" : null }, words));
  const table = h("table", { class: "drops", "aria-labelledby": "title", hidden: true }, h("thead", {}, h("tr", {}, head)), body);
  const more = h("button", { type: "button", class: "plain", hidden: true, onclick: () => { pages += 1; refresh(); } }, "Show more");
  const empty = emptyDrops();
  const rows = new Rows(body, dropRow);
  const element = h(
    "section", { class: "wide" },
    h("div", { class: "title" }, h("h1", { id: "title", tabindex: "-1" }, "Drops"), h("label", { class: "inline" }, "State ", state)),
    trouble, h("div", { class: "card flush" }, table, empty), more,
    commandLine("flashsale drop list").element,
  );

  async function refresh() {
    clearTimeout(timer);
    const mine = (asked += 1);
    try {
      const found = await readPages(pages, state.value);
      if (left || mine !== asked) return;
      rows.set(inOrder(found.drops), (drop) => drop.drop);
      show(table, rows.size > 0);
      show(empty, rows.size === 0);
      write(empty.firstChild, state.value ? `No drop is ${state.value} just now.` : "There is no drop yet.");
      show(more, found.next !== null);
      show(trouble, false);
      put(element, "data-stale", null);
    } catch (error) {
      if (left || mine !== asked) return;
      write(trouble, `${context.failed(error)} What is below may be out of date.`);
      show(trouble, true);
      put(element, "data-stale", true);
    }
    if (!left) timer = setTimeout(refresh, EVERY_MS);
  }

  const ticking = setInterval(() => rows.each((row) => row.tick()), 1000);
  refresh();
  return { title: "Drops", element, leave: () => { left = true; clearTimeout(timer); clearInterval(ticking); } };
}

async function readPages(pages, state) {
  const drops = [];
  let next = null;
  for (let page = 0; page < pages; page += 1) {
    const query = new URLSearchParams({ limit: String(PAGE), ...(state && { state }), ...(next && { after: next }) });
    const found = await read(`/v1/merchant/drops?${query}`);
    drops.push(...found.drops);
    next = found.next ?? null;
    if (next === null) break;
  }
  return { drops, next };
}

function dropRow(first) {
  const state = badge();
  const [next, joined, waiting, sold, times] = ["span", "td", "td", "span", "span"].map((name) => h(name));
  for (const cell of [joined, waiting]) cell.className = "number";
  times.className = "quiet";
  const bar = new StackedBar();
  const name = h("a", { href: `#/${encodeURIComponent(first.drop)}` });
  const element = h(
    "tr", {},
    h("th", { scope: "row" }, name, " ", state.element, h("span", { class: "id" }, first.drop)),
    h("td", {}, next, times), joined, waiting,
    h("td", { class: "units" }, bar.element, sold),
  );
  let drop = first;
  const tick = () => {
    const coming = nextOf(drop, drop.state);
    write(next, coming ? `${coming.words} ${countdown(coming.at - serviceNow())}` : "over");
  };
  const update = (now) => {
    drop = now;
    write(name, now.name);
    state.set(now.state, now.allotment && now.sold === now.allotment ? "sold out" : "");
    write(times, `${moment(now.opens_at_ms, serviceNow())} to ${moment(now.closes_at_ms, serviceNow())}`);
    put(times, "title", `${utc(now.opens_at_ms)} to ${utc(now.closes_at_ms)}`);
    write(joined, count(now.joined));
    write(waiting, count(now.waiting));
    bar.set([["sold", now.sold], ["reserved", now.reserved], ["available", now.available]], now.allotment);
    write(sold, `${count(now.sold)} of ${counted(now.allotment, "unit")} · ${percent(now.sold, now.allotment)}`);
    tick();
  };
  return { element, update, tick };
}

function emptyDrops() {
  return h(
    "div", { class: "empty", hidden: true },
    h("p", {}, ""),
    h("p", { class: "quiet" }, "Drops are scheduled from a file:"),
    commandLine("flashsale drop example launch > launch.toml").element,
    commandLine(dropCommand("create", "launch.toml")).element,
  );
}
