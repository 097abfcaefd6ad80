// <flash-sale-room drop="launch" api="https://queue.shop.example">: the room of one drop in somebody else's page.

import { announcement } from "./announcements.js";
import { cardIn } from "./card.js";
import { wordsOf } from "./languages.js";
import { retryMs } from "./room.js";
import { sentenceOf, spokenOf } from "./sentences.js";
import { entitle } from "./title.js";
import { refusal, visit } from "./visit.js";

const MIRRORED = ["drop", "api", "code"];
const TURNS = ["called", "admitted"];

/** The language of the page around a node, out of every shadow tree that it is in. */
const languageAround = (node) => node?.closest("[lang]")?.lang || (node && languageAround(node.getRootNode().host));

export class FlashSaleRoom extends HTMLElement {
  static observedAttributes = ["drop", "api", "lang"];

  #visit = null;
  #card = null;
  #words = null;
  #language = "";
  #ending = null; // of this connection's listeners
  #told = {}; // what the page knows: {view, place, document, token}
  #near = null; // while nobody sees the page: the timer until the turn may come, then true

  connectedCallback() {
    const credentials = () => ({ code: this.code || this.#card?.code(), identity: this.identity });
    const room = visit(this.#origin, this.drop, credentials, (view) => this.#show(view));
    this.#visit = room;
    this.#told = {};
    this.#ending = new AbortController();
    const { signal } = this.#ending;
    const turned = () => {
      if (document.hidden) room.rest();
      else room.wake();
      this.#foresee();
    };
    document.addEventListener("visibilitychange", turned, { signal });
    addEventListener("online", () => document.hidden || room.wake(), { signal });
    this.#speak();
    room.start(this.auto);
  }

  disconnectedCallback() {
    this.#ending.abort();
    this.#visit.stop();
    this.#visit = null;
    clearTimeout(this.#near);
    entitle("");
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
    return this.#visit?.token() ?? null;
  }

  get auto() {
    return this.hasAttribute("auto");
  }

  set auto(value) {
    this.toggleAttribute("auto", value);
  }

  join(options) {
    return this.#ask((room) => room.join(options));
  }

  leave() {
    return this.#ask((room) => room.leave());
  }

  handoff() {
    return this.#ask((room) => room.handOver());
  }

  reset() {
    this.#visit?.reset();
  }

  get #origin() {
    return new URL(this.api || import.meta.url, location).origin;
  }

  async #ask(act) {
    if (!this.#visit) throw refusal({ code: "disconnected", detail: "The element is not in a page." });
    return act(this.#visit);
  }

  /** Learns the language of the page, or the browser's; every other try is for English. Until then the page's own fallback is there. */
  #speak(tries = 0) {
    const { signal } = this.#ending;
    const language = (this.#language = languageAround(this) || navigator.language);
    const isLate = () => signal.aborted || language !== this.#language;
    const use = (words) => {
      if (isLate()) return;
      this.#words = words;
      this.#show(this.#visit.view());
    };
    const again = () => {
      if (isLate()) return;
      if (document.hidden) document.addEventListener("visibilitychange", again, { once: true });
      else this.#speak(tries + 1);
    };
    wordsOf(tries % 2 ? "en" : language).then(use, (error) => setTimeout(again, retryMs(tries, error.retryMs)));
  }

  #show(view) {
    if (!this.#words) return;
    this.#card ??= cardIn(this.attachShadow({ mode: "open" }), () => (this.#told.view.mayJoin ? this.join() : this.#visit.again()));
    const { receipt, commitment } = this.#visit.kept();
    const fragment = commitment ? `${receipt}&commitment=${commitment}` : receipt;
    const address = `${this.#origin}/verify-draw?drop=${this.drop}#receipt=${fragment}`;
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
    const expiresAtMs = kept().tokenExpiresAtMs;
    this.#told = now;
    this.#entitle();

    const news = announcement(before, view);
    const isEnding = state === "admitted" && typeof news === "number";
    if (news) this.#card.say(spokenOf(news, view, this.#words), isEnding || (state === "admitted" && news === "state"));

    if (now.document && now.document !== told.document) this.#send("serving", { document: now.document });
    if (state !== before?.state) {
      this.dataset.state = state;
      this.#send("state", { state, previous: before?.state ?? null });
      if (state === "sold_out" || state === "closed") this.#send(state.replace("_", "-"));
    }
    if (trouble && trouble.code !== (before?.problem ?? before?.away)?.code)
      this.#send("error", { code: trouble.code, message: sentenceOf(trouble, this.#words) });
    if (place && now.place !== told.place) this.#send("position", place);
    if (proof && !before?.proof) this.#send("draw", proof);
    if (state === "admitted" && now.token !== told.token) this.#send("admitted", { token: now.token, expiresAtMs });
    if (isEnding) this.#send("ending", { expiresAtMs });
  }

  /** A hidden page asks nothing: when its turn may come is worked out from what was told last. */
  #foresee() {
    const wait = this.#told.view?.place?.etaMs;
    const near = () => {
      this.#near = true;
      this.#entitle();
    };
    clearTimeout(this.#near);
    this.#near = document.hidden && wait?.[0] < 2 ** 31 && setTimeout(near, wait[0]); // a longer one would be over at once
    this.#entitle();
  }

  /** What cannot wait until a hidden page is seen stands in its title. */
  #entitle() {
    const text = TURNS.includes(this.#told.view?.state) ? "admitted" : this.#near === true && "near";
    if (!document.hidden) entitle("");
    else if (text && !this.hasAttribute("keep-title")) entitle(this.#words.text(text));
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
