// <flash-sale-room drop="launch" api="https://queue.shop.example">: the room of one drop in somebody else's page.

import { announcement } from "./announcements.js";
import { cardIn } from "./card.js";
import { wordsOf } from "./languages.js";
import { sentenceOf, spokenOf } from "./sentences.js";
import { visit } from "./visit.js";

const WORDS_AGAIN_MS = 5_000;
const MIRRORED = ["drop", "api", "code"];

export class FlashSaleRoom extends HTMLElement {
  static observedAttributes = ["drop", "api", "lang"];

  #visit = null;
  #card = null;
  #words = null;
  #ending = null; // of this connection's listeners
  #told = {}; // what the page knows: {view, place, document, token}

  connectedCallback() {
    const credentials = () => ({ code: this.code || this.#card?.code(), identity: this.identity });
    const room = visit(this.#origin, this.drop, credentials, (view) => this.#show(view));
    this.#visit = room;
    this.#told = {};
    this.#ending = new AbortController();
    const { signal } = this.#ending;
    document.addEventListener("visibilitychange", () => (document.hidden ? room.rest() : room.wake()), { signal });
    addEventListener("online", room.wake, { signal });
    this.#speak();
    room.start(this.auto);
  }

  disconnectedCallback() {
    this.#ending.abort();
    this.#visit.stop();
    this.#visit = null;
  }

  attributeChangedCallback(name, before, now) {
    if (!this.#visit || before === now) return;
    if (name === "lang") return this.#speak();
    this.disconnectedCallback();
    this.connectedCallback();
  }

  get state() {
    return this.dataset.state ?? "loading";
  }

  get token() {
    return this.#visit.token();
  }

  get auto() {
    return this.hasAttribute("auto");
  }

  set auto(value) {
    this.toggleAttribute("auto", value);
  }

  join(options) {
    return this.#visit.join(options);
  }

  leave() {
    return this.#visit.leave();
  }

  handoff() {
    return this.#visit.handOver();
  }

  reset() {
    this.#visit.reset();
  }

  get #origin() {
    return new URL(this.api || import.meta.url, location).origin;
  }

  /** Learns the language of the page, or the browser's. Until then the page's own fallback is there. */
  #speak() {
    const { signal } = this.#ending;
    const use = (words) => {
      if (signal.aborted) return;
      this.#words = words;
      this.#show(this.#visit.view());
    };
    const later = () => setTimeout(() => signal.aborted || this.#speak(), WORDS_AGAIN_MS);
    wordsOf(this.closest("[lang]")?.lang || navigator.language).then(use, later);
  }

  #show(view) {
    if (!this.#words) return;
    this.#card ??= cardIn(this.attachShadow({ mode: "open" }), () => (this.#told.view.mayJoin ? this.join() : this.#visit.again()));
    const address = `${this.#origin}/verify-draw?drop=${this.drop}#receipt=${this.#visit.kept().receipt}`;
    this.#card.show(view, this.#words, view.mayJoin && view.takesCode && !this.code, address);
    this.#tell(view);
  }

  /** Says and sends what is new since the last view. */
  #tell(view) {
    const { state, place, proof } = view;
    const { view: before, ...told } = this.#told;
    const { token, latest, kept } = this.#visit;
    const trouble = view.problem ?? view.away;
    const now = { view, token: token(), document: latest(), place: place && JSON.stringify(place) };
    this.#told = now;

    const news = announcement(before, view);
    if (news) this.#card.say(spokenOf(news, view, this.#words), news === "state" && state === "admitted");

    if (now.document !== told.document) this.#send("serving", { document: now.document });
    if (state !== before?.state) {
      this.dataset.state = state;
      this.#send("state", { state, previous: before?.state ?? null });
      if (state === "sold_out" || state === "closed") this.#send(state.replace("_", "-"));
    }
    if (trouble && trouble.code !== (before?.problem ?? before?.away)?.code)
      this.#send("error", { code: trouble.code, message: sentenceOf(trouble, this.#words) });
    if (place && now.place !== told.place) this.#send("position", place);
    if (proof && !before?.proof) this.#send("draw", proof);
    if (state === "admitted" && now.token !== told.token) this.#send("admitted", { token: now.token, expiresAtMs: kept().tokenExpiresAtMs });
  }

  #send(name, detail) {
    this.dispatchEvent(new CustomEvent(`flash-sale-${name}`, { bubbles: true, composed: true, detail: { drop: this.drop, ...detail } }));
  }
}

for (const name of MIRRORED)
  Object.defineProperty(FlashSaleRoom.prototype, name, {
    get() {
      return this.getAttribute(name) ?? "";
    },
    set(value) {
      this.setAttribute(name, value);
    },
  });
