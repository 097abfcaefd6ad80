// Charts as plain SVG: over time, in columns of a histogram, and as stacked bars. Drawn in the page's own pixels, so that
// text keeps its size; colours and forced colours are the style sheet's. Each has its words and its numbers as a table.

import { h, put, s, write } from "./dom.js";
import { count, shortTime, time } from "./format.js";

const HEIGHT = 190;
const LEFT = 46;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 24;
const LEAST_WIDTH = 220;
const ROWS_MAX = 16;
const Y_STEPS = 4;

/** A round step so that at most `steps` of them reach `most`; whole numbers only. */
export function roundStep(most, steps = Y_STEPS) {
  const least = Math.max(1, most / steps);
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 2.5, 5, 10].map((factor) => power * factor).find((step) => step >= least && Number.isInteger(step));
}

const TIME_STEPS_MS = [10_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000, 1_800_000, 3_600_000];

/** Moments to write below a chart over time, at least `apart` pixels from each other. */
export function timeTicks(from, to, width, apart = 64) {
  const step = TIME_STEPS_MS.find((one) => ((to - from) / one) * apart <= width) ?? (to - from) / 2;
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) ticks.push(at);
  return ticks;
}

class Chart {
  #figure;
  #svg;
  #plot;
  #frame;
  #words;
  #details;
  #table;
  #readout;
  #drawn = null;
  width = 480;

  /** @param {{id: string, title: string}} about */
  constructor({ id, title }) {
    this.#readout = h("span", { class: "readout", "aria-hidden": "true" });
    this.#frame = s("g", { class: "frame" });
    this.#plot = s("g", { class: "plot" });
    this.#svg = s("svg", { role: "img", "aria-labelledby": `${id}-title`, "aria-describedby": `${id}-words`, height: HEIGHT }, this.#frame, this.#plot);
    this.#words = h("p", { id: `${id}-words`, class: "words" });
    this.#table = h("table");
    this.#details = h("details", { ontoggle: () => this.#tell() }, h("summary", {}, "The numbers"), this.#table);
    this.#figure = h(
      "figure",
      { class: "chart", id },
      h("figcaption", {}, h("h3", { id: `${id}-title` }, title), this.#readout),
      this.#svg,
      this.#words,
      this.#details,
    );
    this.#svg.addEventListener("pointermove", (event) => this.#point(event));
    this.#svg.addEventListener("pointerleave", () => this.#unpoint());
    new ResizeObserver(([entry]) => this.#resize(entry.contentRect.width)).observe(this.#figure);
  }

  get element() {
    return this.#figure;
  }

  /** Draws `data`; `words` say the same. */
  draw(data, words) {
    this.#drawn = data;
    write(this.#words, words);
    this.#redraw();
    this.#tell();
  }

  #resize(width) {
    this.width = Math.max(LEAST_WIDTH, Math.floor(width));
    this.#redraw();
  }

  #redraw() {
    if (this.#drawn === null) return;
    put(this.#svg, "width", this.width);
    put(this.#svg, "viewBox", `0 0 ${this.width} ${HEIGHT}`);
    const plane = new Plane(this.width, this.#drawn);
    this.#frame.replaceChildren(...plane.frame(this.xTicks(this.#drawn, this.width)));
    this.#plot.replaceChildren(...this.marks(this.#drawn, plane));
  }

  #tell() {
    if (!this.#details.open || this.#drawn === null) return;
    const { head, rows } = this.numbers(this.#drawn);
    const every = Math.ceil(rows.length / ROWS_MAX) || 1;
    const told = rows.filter((_, at) => (rows.length - 1 - at) % every === 0).reverse();
    this.#table.replaceChildren(
      h("thead", {}, h("tr", {}, head.map((label) => h("th", { scope: "col" }, label)))),
      h("tbody", {}, told.map(([first, ...rest]) => h("tr", {}, h("th", { scope: "row" }, first), rest.map((cell) => h("td", {}, cell))))),
    );
  }

  #point(event) {
    if (this.#drawn === null) return;
    const plane = new Plane(this.width, this.#drawn);
    const words = this.at(this.#drawn, plane.back(event.clientX - this.#svg.getBoundingClientRect().left));
    write(this.#readout, words ?? "");
  }

  #unpoint() {
    write(this.#readout, "");
  }
}

/** Where values are on a drawing of `width` pixels: {from, to, most} over x and from 0 on. */
class Plane {
  constructor(width, { from, to, most }) {
    this.from = from;
    this.span = Math.max(1, to - from);
    this.right = width - RIGHT;
    this.step = roundStep(Math.max(1, most));
    this.top = Math.ceil(Math.max(1, most) / this.step) * this.step;
  }

  x(value) {
    return round(LEFT + ((value - this.from) / this.span) * (this.right - LEFT));
  }

  y(value) {
    return round(HEIGHT - BOTTOM - (value / this.top) * (HEIGHT - TOP - BOTTOM));
  }

  back(x) {
    return this.from + ((x - LEFT) / (this.right - LEFT)) * this.span;
  }

  frame(xTicks) {
    const parts = [];
    for (let value = 0; value <= this.top; value += this.step) {
      const y = this.y(value);
      parts.push(s("path", { class: value ? "grid" : "axis", d: `M${LEFT} ${y}H${this.right}` }));
      parts.push(s("text", { x: LEFT - 7, y: y + 4, "text-anchor": "end" }, short(value)));
    }
    for (const [value, label] of xTicks) {
      const x = this.x(value);
      const anchor = x > this.right - 18 ? "end" : x < LEFT + 12 ? "start" : "middle";
      parts.push(s("path", { class: "axis", d: `M${x} ${HEIGHT - BOTTOM}v4` }));
      parts.push(s("text", { x: anchor === "end" ? this.right : x, y: HEIGHT - 5, "text-anchor": anchor }, label));
    }
    return parts;
  }
}

function round(value) {
  return Math.round(value * 10) / 10;
}

/** 1,200 as 1.2k: an axis has little room. */
function short(value) {
  return value >= 10_000 ? `${count(value / 1000)}k` : count(value);
}

/** A path through points [x, y] with nulls where it stops; "" for none. */
function path(points, plane) {
  let drawing = false;
  return points
    .map(([at, value]) => {
      if (value === null) {
        drawing = false;
        return "";
      }
      const part = `${drawing ? "L" : "M"}${plane.x(at)} ${plane.y(value)}`;
      drawing = true;
      return part;
    })
    .join("");
}

/** Closed shapes between two lines with the same xs, split where either stops. */
function between(low, high, plane) {
  const shapes = [];
  let run = [];
  const end = () => {
    if (run.length > 1) {
      const there = run.map(([at, , top]) => `${plane.x(at)} ${plane.y(top)}`);
      const back = run.map(([at, bottom]) => `${plane.x(at)} ${plane.y(bottom)}`).reverse();
      shapes.push(`M${[...there, ...back].join("L")}Z`);
    }
    run = [];
  };
  high.forEach(([at, top], index) => {
    const bottom = low ? low[index][1] : 0;
    if (top === null || bottom === null) end();
    else run.push([at, bottom, top]);
  });
  end();
  return shapes.join("");
}

/** The last point that is not after x. */
function before(points, x) {
  let found = null;
  for (const point of points) {
    if (point[0] > x) break;
    found = point;
  }
  return found;
}

/** Over time: {from, to, most, columns?: [[from, to, value]], areas?: [points], line?: points}; areas are stacked bottom up. */
export class TimeChart extends Chart {
  #series;
  #unit;

  /** @param {{id: string, title: string, unit: string, series: {name: string, css: string}[]}} about series: columns or areas first, then the line */
  constructor(about) {
    super(about);
    this.#series = about.series;
    this.#unit = about.unit;
    const items = about.series.map(({ name, css }) => h("li", {}, h("span", { class: `swatch ${css}`, "aria-hidden": "true" }), name));
    this.element.querySelector("svg").after(h("ul", { class: "key" }, items));
  }

  xTicks({ from, to }, width) {
    return timeTicks(from, to, width - LEFT - RIGHT).map((at) => [at, shortOrSeconds(at)]);
  }

  marks({ columns = [], areas = [], line = null }, plane) {
    const marks = columns.map(([from, to, value]) => {
      const left = Math.max(LEFT, plane.x(from) + 0.5);
      const width = Math.max(0.5, Math.min(plane.right, plane.x(to) - 0.5) - left);
      const y = plane.y(value);
      return s("rect", { class: this.#series[0].css, x: left, y, width: round(width), height: round(HEIGHT - BOTTOM - y) });
    });
    areas.forEach((points, at) => {
      marks.push(s("path", { class: `area ${this.#series[at].css}`, d: between(at ? areas[at - 1] : null, points, plane) }));
      marks.push(s("path", { class: `edge ${this.#series[at].css}`, d: path(points, plane) }));
    });
    if (line) marks.push(s("path", { class: `line ${this.#series.at(-1).css}`, d: path(line, plane) }));
    return marks;
  }

  at(data, x) {
    const values = this.#valuesAt(data, x);
    return values && `${time(values.at)} · ${values.told.map(([name, value]) => `${count(Math.round(value))} ${name}`).join(" · ")}`;
  }

  #valuesAt({ columns = [], areas = [], line = null }, x) {
    const told = [];
    let at = null;
    const column = columns.find(([from, to]) => from <= x && x < to);
    if (column) {
      told.push([this.#unit, column[2]]);
      at = column[0];
    }
    areas.forEach((points, index) => {
      const point = before(points, x);
      if (!point || point[1] === null) return;
      at = point[0];
      const below = index ? (before(areas[index - 1], x)?.[1] ?? 0) : 0;
      told.push([areas.length > 1 ? this.#series[index].name.toLowerCase() : this.#unit, point[1] - below]);
    });
    const point = line && at !== null ? before(line, x) : null;
    if (point && point[1] !== null) told.push([this.#series.at(-1).name.toLowerCase(), point[1]]);
    return at === null ? null : { at, told };
  }

  numbers({ columns = [], areas = [] }) {
    if (columns.length || !areas.length) {
      return { head: ["Time", this.#series[0].name], rows: columns.map(([from, , value]) => [time(from), count(Math.round(value))]) };
    }
    const rows = areas[0]
      .map(([at, value], index) => [at, value, ...areas.slice(1).map((points, above) => points[index][1] - areas[above][index][1])])
      .filter(([, value]) => value !== null)
      .map(([at, ...values]) => [time(at), ...values.map((value) => count(value))]);
    return { head: ["Time", ...this.#series.slice(0, areas.length).map(({ name }) => name)], rows };
  }
}

function shortOrSeconds(at) {
  return at % 60_000 ? time(at) : shortTime(at);
}

/** A histogram: {from, to, most, columns: [[from, to, value]], label(x)}. */
export class Histogram extends Chart {
  #css;
  #head;

  /** @param {{id: string, title: string, css: string, head: [string, string]}} about head: what x and the values are */
  constructor(about) {
    super(about);
    this.#css = about.css;
    this.#head = about.head;
  }

  xTicks({ from, to, columns, label }, width) {
    const edges = columns.length ? [...columns.map(([left]) => left), columns.at(-1)[1]] : [from, to];
    const every = Math.ceil((edges.length * 58) / (width - LEFT - RIGHT));
    return edges.filter((_, at) => at % every === 0).map((at) => [at, label(at)]);
  }

  marks({ columns }, plane) {
    return columns.map(([from, to, value]) => {
      const y = plane.y(value);
      const width = Math.max(0.5, plane.x(to) - plane.x(from) - 1);
      return s("rect", { class: this.#css, x: plane.x(from) + 0.5, y, width: round(width), height: round(HEIGHT - BOTTOM - y) });
    });
  }

  at({ columns, label }, x) {
    const column = columns.find(([from, to]) => from <= x && x < to);
    return column ? `${label(column[0])} to ${label(column[1])} · ${count(Math.round(column[2]))}` : null;
  }

  numbers({ columns, label }) {
    const rows = columns.map(([from, to, value]) => [`${label(from)} to ${label(to)}`, count(Math.round(value))]);
    return { head: this.#head, rows: rows.reverse() };
  }
}

/** A bar of parts, as wide as its place: `set([[css, value]], whole)`. Says nothing by itself: its numbers stand beside it. */
export class StackedBar {
  #parts = new Map();

  constructor(css = "") {
    this.element = s("svg", { class: `bar ${css}`, "aria-hidden": "true", preserveAspectRatio: "none", width: "100%", height: 12 });
  }

  /** Draws the parts side by side. A part that is there at all can be seen. */
  set(parts, whole) {
    const all = Math.max(1, whole, parts.reduce((sum, [, value]) => sum + value, 0));
    let left = 0;
    for (const [css, value] of parts) {
      let rect = this.#parts.get(css);
      if (!rect) {
        rect = s("rect", { class: css, y: 0, height: "100%" });
        this.#parts.set(css, rect);
        this.element.append(rect);
      }
      const width = value ? Math.max(0.8, (100 * value) / all) : 0;
      put(rect, "x", `${Math.min(left, 100 - width)}%`);
      put(rect, "width", `${width}%`);
      left += width;
    }
  }
}
