// One drop, live: its line, its units, its orders, and the merchant's hand on it.

import { read, serviceNow, setClock } from "./api.js";
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
const AFTER_MS = 5_000; // how often a closed drop is read while somebody may still pay

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
  const hand = controls(id, context, ended);
  const panels = [figurePanel(first), stockPanel(first), reservationsPanel(), ordersPanel(id), refusalsPanel(), groupPanel(first)];
  const [figures, stock, reservations, orders, errors, groups] = panels;
  const line = linePanel();
  const reportSoFar = h("button", { type: "button", class: "plain", onclick: () => report.load() }, "The report so far");
  const more = h("p", { class: "buttons" }, reportSoFar);
  const element = h(
    "div", { class: "board" },
    alerts.element, figures.element, hand.element,
    h("div", { class: "column" }, report.element, line.element, stock.element, groups.element, h("div", { class: "three" }, reservations.element, orders.element, errors.element), more, commandLine(dropCommand("watch", id)).element),
  );
  let drop = first;
  let now = withoutStream(first);
  let stream = null;
  let after = null;

  function update(live) {
    now = live;
    head.update(drop, live);
    alerts.update(attention(drop, live));
    for (const panel of panels) panel.update(drop, live);
    hand.update(live);
    context.title(`${live.state} · ${drop.name}`);
  }

  function heard(live) {
    history.add(sampleOf(live));
    update({ ...live, admitted_last_min: live.admitted_last_min ?? history.lastMinute("admitted") });
    line.update(history, live);
  }

  function link() {
    head.link(stream);
    put(article, "data-stale", stream !== null && [LINK.LOST, LINK.TROUBLE].includes(stream.link));
    if (stream?.link === LINK.TROUBLE && stream.trouble === "recovering") update({ ...now, state: "recovering" });
  }

  function follow() {
    stream = new LiveStream(path, {
      live: heard,
      read: (found) => { drop = found; heard({ ...now, ...withoutStream(found) }); },
      link,
      ended,
      failed: (refusal) => head.trouble(context.failed(refusal)),
    });
    link();
  }

  /** The drop is over: the report, and the last reservations as they end. */
  function ended() {
    stream?.stop();
    show(reportSoFar, false);
    if (hand.element.contains(document.activeElement)) document.getElementById("title").focus();
    hand.element.remove();
    element.classList.add("over");
    report.load();
    settle();
  }

  async function settle() {
    clearTimeout(after);
    try {
      drop = await read(path);
      setClock(drop.now_ms ?? serviceNow());
      update({ ...now, ...withoutStream(drop), orders: now.orders });
      if (totals(drop.skus).reserved > 0) after = setTimeout(settle, AFTER_MS);
      else report.load();
    } catch (error) {
      head.trouble(context.failed(error));
      after = setTimeout(settle, AFTER_MS);
    }
  }

  const ticking = setInterval(() => head.tick(drop, now), 1000);
  const save = () => keep(id, history);
  addEventListener("pagehide", save);
  update(now);
  line.update(history, now);
  if (first.state === "closed") ended();
  else follow();
  return {
    element,
    leave() {
      clearInterval(ticking);
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
  return { element, update, tick, trouble, link: (stream) => tellLink(stream, link, trouble) };
}

function soldOut(live) {
  const units = totals(live.skus ?? []);
  return units.allotment > 0 && units.sold === units.allotment;
}

function tellLink(stream, link, trouble) {
  put(link, "data-link", stream.link);
  const since = stream.lastMs === null ? "" : ` since ${time(stream.lastMs)}`;
  const age = stream.lastMs === null ? "" : ` The numbers below are ${span(Date.now() - stream.lastMs)} old.`;
  switch (stream.link) {
    case LINK.LIVE:
      trouble("");
      write(link, "Live");
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
      write(link, "Ended");
      break;
    default:
      write(link, "Connecting …");
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
