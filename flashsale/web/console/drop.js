// One drop, live: its line, its units, its orders, and the merchant's hand on it.

import { read, serviceNow } from "./api.js";
import { badge } from "./badge.js";
import { commandLine, dropCommand } from "./commands.js";
import { controls } from "./controls.js";
import { announce, h, icon, put, Rows, show, write } from "./dom.js";
import { countdown, moment, span, time, utc } from "./format.js";
import { keep, kept, sampleOf, totals } from "./history.js";
import { LINK, LiveStream } from "./live.js";
import { figurePanel, groupPanel, linePanel, ordersPanel, refusalsPanel, reservationsPanel, stockPanel } from "./panels.js";
import { attention, limitOf, nextOf } from "./reading.js";
import { reportPanel } from "./report.js";

const RETRY_MS = 3_000;
const AFTER_MS = 5_000; // how often a closed drop is looked at while somebody may still pay
const AUDIT_MS = 15_000;
const WORTH_A_CHART = 30; // samples

/** What is known of a drop without its stream, in the shape of the stream's data; null where only the stream tells. */
function withoutStream(drop) {
  return { ...drop, now_ms: drop.now_ms ?? serviceNow(), admitted_total: drop.admitted ?? null, reservations: null, orders: null, journal: null, errors: null };
}

export function dropView(id, context) {
  const path = `/v1/merchant/drops/${encodeURIComponent(id)}`;
  const head = headPanel(id);
  const place = h("div");
  const element = h("article", { class: "drop", "aria-labelledby": "title" }, head.element, place);
  let left = false;
  let timer = null;
  let shown = null;

  async function load() {
    try {
      const drop = await read(path);
      if (left) return;
      shown = openedDrop(id, drop, context, head, element);
      place.replaceWith(shown.element);
    } catch (error) {
      if (left) return;
      const words = context.failed(error);
      head.trouble(error.status === 404 ? "There is no drop of that name, or it is not this key's." : words);
      if (error.status === 404) place.replaceChildren(h("a", { class: "button", href: "#/" }, "All drops"));
      if (error.status === 0 || error.status >= 500 || error.status === 429) timer = setTimeout(load, RETRY_MS);
    }
  }

  load();
  return { title: id, element, leave: () => { left = true; clearTimeout(timer); shown?.leave(); } };
}

/** Everything below the heading, once the drop has been read. */
function openedDrop(id, first, context, head, article) {
  const path = `/v1/merchant/drops/${encodeURIComponent(id)}`;
  const history = kept(id);
  const alerts = alertPanel();
  const report = reportPanel(id, context);
  const hand = controls(first, context, ended);
  const panels = [figurePanel(first), stockPanel(first), reservationsPanel(), ordersPanel(id), refusalsPanel(), groupPanel(first)];
  const [figures, stock, reservations, orders, errors, groups] = panels;
  const line = linePanel();
  const reportSoFar = h("button", { type: "button", class: "plain", onclick: () => report.load() }, "The report so far");
  const foot = h("div", { class: "foot" }, reportSoFar, commandLine(dropCommand("watch", id)).element);
  const details = h("div", { class: "three" }, reservations.element, orders.element, errors.element);
  const column = h("div", { class: "column" }, report.element, line.element, stock.element, groups.element, details, foot);
  const element = h("div", { class: "board" }, alerts.element, figures.element, h("div", { class: "sides" }, hand.element, column));
  let drop = first;
  let now = withoutStream(first);
  let stream = null;
  let after = null;
  let over = false;
  let audit = null;

  function update(live) {
    now = { ...live, audit, state: over ? "closed" : live.state };
    head.update(drop, now);
    alerts.update(attention(drop, now));
    for (const panel of panels) panel.update(drop, now);
    hand.update(now);
    context.title(`${now.state} · ${drop.name}`);
  }

  function heard(live) {
    history.add(sampleOf(live));
    update({ ...live, admitted_last_min: live.admitted_last_min ?? history.lastMinute("admitted") });
    line.update(history, live);
  }

  function link() {
    head.link(stream, over);
    put(article, "data-stale", [LINK.LOST, LINK.TROUBLE].includes(stream.link));
    if (stream.link === LINK.TROUBLE && stream.trouble === "recovering") update({ ...now, state: "recovering" });
  }

  function follow() {
    stream?.stop();
    stream = new LiveStream(path, {
      live: heard,
      read: (found) => {
        drop = found;
        heard({ ...now, ...withoutStream(found) });
      },
      link,
      ended: settle,
      failed: (refusal) => head.trouble(context.failed(refusal)),
    });
    link();
  }

  /** From closing on there is nothing to steer, and a report. */
  function ended() {
    if (over) return;
    over = true;
    const held = hand.element.contains(document.activeElement);
    hand.element.remove(); // first: while its dialog is open, nothing outside it can have the focus
    if (held) document.getElementById("title").focus();
    show(foot, false);
    show(line.element, history.samples.length > WORTH_A_CHART);
    show(errors.element, false);
    update(now);
    link();
    report.load();
  }

  /** The stream of a closed drop tells of it once. What is reserved may still be paid, and is looked at again. */
  function settle() {
    ended();
    const unsettled = totals(now.skus).reserved > 0 || now.orders === null || now.orders.pending > 0 || now.journal?.oldest_ms > 0;
    if (unsettled) after = setTimeout(follow, AFTER_MS);
    else if (after !== null) report.load();
  }

  /** What the auditor last found. While it cannot be asked, that still stands. */
  async function look() {
    audit = await read(`${path}/audit`).catch(() => audit);
  }

  const ticking = setInterval(() => head.tick(drop, now), 1000);
  const auditing = setInterval(look, AUDIT_MS);
  look();
  const save = () => keep(id, history);
  addEventListener("pagehide", save);
  update(now);
  line.update(history, now);
  follow();
  return {
    element,
    leave() {
      clearInterval(ticking);
      clearInterval(auditing);
      clearTimeout(after);
      removeEventListener("pagehide", save);
      save();
      stream?.stop();
    },
  };
}

/** Name, state, what happens next, and whether the numbers are live. */
function headPanel(id) {
  const name = h("h1", { id: "title", tabindex: "-1" }, id);
  const state = badge();
  const next = h("span", { class: "next" });
  const limit = h("p", { class: "limit" });
  const times = h("p", { class: "quiet" });
  const link = h("p", { class: "link", "data-link": "connecting" }, "Connecting …");
  const banner = h("p", { class: "banner", "data-level": "bad", role: "status", hidden: true });
  state.element.hidden = true;
  const element = h("header", { class: "title" }, h("div", {}, h("div", { class: "name" }, name, state.element, next), limit, times), link, banner);
  const trouble = (words) => {
    write(banner, words);
    show(banner, Boolean(words));
    if (words) write(link, "");
  };
  const tick = (drop, live) => {
    const coming = nextOf(drop, live.state);
    write(next, coming ? `${coming.words} ${countdown(coming.at - serviceNow())}` : "");
  };
  const update = (drop, live) => {
    write(name, drop.name);
    show(state.element, true);
    state.set(live.state, soldOut(live) ? "sold out" : "");
    write(limit, limitOf(live));
    const now = serviceNow();
    write(times, `${drop.drop} · joining from ${moment(drop.joins_at_ms, now)} · opens ${moment(drop.opens_at_ms, now)} · closes ${moment(drop.closes_at_ms, now)} · ${drop.order === "draw" ? "by draw" : "by arrival"}`);
    put(times, "title", `${utc(drop.joins_at_ms)}, ${utc(drop.opens_at_ms)}, ${utc(drop.closes_at_ms)}`);
    tick(drop, live);
  };
  return { element, update, tick, trouble, link: (stream, over) => tellLink(stream, over, link, trouble) };
}

function soldOut(live) {
  const units = totals(live.skus ?? []);
  return units.allotment > 0 && units.sold === units.allotment;
}

function tellLink(stream, over, link, trouble) {
  put(link, "data-link", over ? LINK.ENDED : stream.link);
  const since = stream.lastMs === null ? "" : ` since ${time(stream.lastMs)}`;
  const age = stream.lastMs === null ? "" : ` The numbers below are ${span(Date.now() - stream.lastMs)} old.`;
  switch (stream.link) {
    case LINK.LIVE:
      trouble("");
      write(link, over ? "Over" : "Live");
      break;
    case LINK.REFUSED:
      trouble("");
      write(link, `Read every few seconds. ${stream.why}`);
      break;
    case LINK.LOST:
      trouble(`Connection lost${since}. ${stream.why} This page tries again by itself.`);
      write(link, age.trim());
      break;
    case LINK.TROUBLE:
      trouble(`No numbers${since}. ${stream.why}`);
      write(link, age.trim());
      break;
    case LINK.ENDED:
      trouble("");
      write(link, "Over");
      break;
    default:
      write(link, over ? "Over" : "Connecting …");
  }
}

/** What somebody should know or do, the worst first; announced when it comes. */
function alertPanel() {
  const list = h("ul", { class: "alerts" });
  const element = h("section", { class: "attention", "aria-label": "What to look at", hidden: true }, list);
  const rows = new Rows(list, (one) => {
    announce(one.words);
    const words = h("span");
    const command = one.command ? commandLine(one.command) : null;
    const row = h("li", {}, icon(one.level === "note" ? "note" : "warn"), h("div", {}, words, command?.element));
    return { element: row, update: (now) => { put(row, "data-level", now.level); write(words, now.words); } };
  });
  const update = (all) => {
    rows.set(all, (one) => one.key);
    show(element, all.length > 0);
  };
  return { element, update };
}
