// One thing a merchant does: sent once at a time, and told what it came to.

import { send, serviceNow } from "./api.js";
import { announce, h, put, show, write } from "./dom.js";
import { time } from "./format.js";

/** The answers that say it was so already. */
const BEFORE = new Set(["unchanged", "replayed"]);

export class Action {
  #path;
  #context;
  #busy = false;

  constructor(drop, context) {
    this.#path = `/v1/merchant/drops/${encodeURIComponent(drop)}`;
    this.#context = context;
    this.result = h("p", { class: "result", hidden: true });
  }

  /**
   * Sends `body` to `word`, below the drop.
   * @param {{done: string | Function, unchanged: string}} words what it came to; a function makes them of the answer
   * @returns {Promise<Error | null>} why it was not done, or null
   */
  async send(word, body, words, button, headers = {}) {
    if (this.#busy) return new Error("One at a time.");
    this.#busy = true;
    put(button, "aria-busy", "true");
    try {
      const told = await send(`${this.#path}/${word}`, body, { headers });
      const done = typeof words.done === "function" ? words.done(told) : words.done;
      this.say(BEFORE.has(told?.outcome) ? words.unchanged : `${done} (${time(serviceNow())})`, "done");
      return null;
    } catch (error) {
      this.say(this.#context.failed(error), "bad");
      return error;
    } finally {
      this.#busy = false;
      put(button, "aria-busy", null);
    }
  }

  /** Says something in its place, and aloud. */
  say(words, level) {
    put(this.result, "data-level", level);
    write(this.result, words);
    show(this.result, Boolean(words));
    announce(words);
  }
}

/** A control with its heading, what is so now, what it came to, and the command. */
export function control(id, title, state, body, action, command) {
  const head = h("div", { class: "head" }, h("h3", { id: `${id}-title` }, title), state);
  return h("section", { class: "control", "aria-labelledby": `${id}-title` }, head, body, action.result, command.element);
}
