// Elements, made without markup: the page's policy allows no HTML from strings (Trusted Types).

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `given` holds attributes; `onclick` and the like are listeners, true is an empty attribute, null none. */
export function h(name, given = {}, ...children) {
  return filled(document.createElement(name), given, children);
}

/** An SVG element. */
export function s(name, given = {}, ...children) {
  return filled(document.createElementNS(SVG, name), given, children);
}

function filled(element, given, children) {
  for (const [name, value] of Object.entries(given)) put(element, name, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets an attribute only when it differs, so that what listens to the page is not told of nothing. */
export function put(element, name, value) {
  if (name.startsWith("on") && typeof value === "function") element.addEventListener(name.slice(2), value);
  else if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else {
    const text = value === true ? "" : String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

/** Sets the text only when it differs: a selection stays, and nothing is announced again. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows or hides. */
export function show(element, whether) {
  element.hidden = !whether;
}

/** Rows of a table or a list by key: kept elements keep focus and selection. `make(one)` answers an element with an `update(one)`. */
export class Rows {
  #parent;
  #make;
  #kept = new Map();

  constructor(parent, make) {
    this.#parent = parent;
    this.#make = make;
  }

  /** Makes the rows those of `all`, in its order. */
  set(all, keyOf) {
    const keys = new Set(all.map(keyOf));
    for (const [key, row] of this.#kept) {
      if (!keys.has(key)) {
        row.element.remove();
        this.#kept.delete(key);
      }
    }
    all.forEach((one, at) => {
      const key = keyOf(one);
      const row = this.#kept.get(key) ?? this.#make(one);
      this.#kept.set(key, row);
      row.update(one);
      if (this.#parent.children[at] !== row.element) this.#parent.insertBefore(row.element, this.#parent.children[at] ?? null);
    });
  }

  /** Calls `visit` with every row. */
  each(visit) {
    this.#kept.forEach(visit);
  }

  /** How many there are. */
  get size() {
    return this.#kept.size;
  }
}

let announced;

/** Tells people who cannot see it what has just happened. The same words twice are told twice. */
export function announce(words) {
  announced ??= document.getElementById("said");
  announced.textContent = announced.textContent === words ? `${words}\u00a0` : words;
}

const ICONS = {
  copy: "M9 9V5a2 2 0 0 1 2-2h8a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2h-4M5 9h8a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2v-8a2 2 0 0 1 2-2z",
  done: "M5 12.5 10 17.5 19.5 7",
  note: "M12 8v5M12 16.5v.5M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z",
  warn: "M12 9v5M12 17v.5M10.3 3.9 2.4 17.6A2 2 0 0 0 4.1 20.6h15.8a2 2 0 0 0 1.7-3L13.7 3.9a2 2 0 0 0-3.4 0z",
};

/** A small picture that says nothing by itself. */
export function icon(name) {
  return s("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, s("path", { d: ICONS[name] }));
}
