// A word for a state, with a dot of its colour.

import { h, put, write } from "./dom.js";

/** `set(state, more)` changes it. */
export function badge() {
  const element = h("span", { class: "badge" });
  const set = (state, more = "") => {
    put(element, "data-state", state);
    write(element, more ? `${state} · ${more}` : state);
  };
  return { element, set };
}
