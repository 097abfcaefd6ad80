// <flash-sale-room drop="launch" api="https://queue.shop.example">: the room of one drop in somebody else's page.

import { announcement } from "./announcements.js";
import { Card } from "./card.js";
import { Words, localeFor, wordsOf } from "./languages.js";
import { sentenceOf, spokenOf } from "./sentences.js";
import { Visit } from "./visit.js";

const WORDS_MS_MAX = 1_500; // after which a card in English is better than none
const ATTRIBUTES = ["drop", "api", "lang", "code", "auto"];
const PLACE = ["position", "etaMs", "chance", "queueNumber", "entryNumber"];

export class FlashSaleRoom extends HTMLElement {
  static observedAttributes = ATTRIBUTES;

  #internals = this.attachInternals?.();
  #abort = null; // ends this connection's listeners
  #visit = null;
  #card = null;
  #words = null;
  #before = null; // the view that was told last
  #place = "";
  #token = null;
  #document = null;
  #identity;

  connectedCallback() {
    for (const name of [...ATTRIBUTES, "identity"]) this.#adopt(name);
    this.#begin();
  }

  disconnectedCallback() {
    this.#end();
  }

  attributeChangedCallback(name, before, now) {
    if (!this.#visit || before === now) return;
    if (name === "lang") this.#speak();
    else if (name === "drop" || name === "api") {
      this.#end();
      this.#begin();
    }
  }

  get state() {
    return this.#before?.state ?? "loading";
  }

  get token() {
    return this.#visit?.token ?? null;
  }

  get drop() {
    return this.getAttribute("drop") ?? "";
  }

  set drop(value) {
    this.setAttribute("drop", value);
  }

  get api() {
    return (this.getAttribute("api") || new URL(import.meta.url).origin).replace(/\/+$/, "");
  }

  set api(value) {
    this.setAttribute("api", value);
  }

  get code() {
    return this.getAttribute("code") ?? "";
  }

  set code(value) {
    this.setAttribute("code", value);
  }

  get auto() {
    return this.hasAttribute("auto");
  }

  set auto(value) {
    this.toggleAttribute("auto", Boolean(value));
  }

  /** Who the shopper is: a JWT of the storefront. Only a property, so that it stands in no markup. */
  get identity() {
    return this.#identity;
  }

  set identity(value) {
    this.#identity = value;
  }

  join(options) {
    return this.#visit?.join(options);
  }

  leave() {
    return this.#visit?.leave();
  }

  handoff() {
    return this.#visit?.handOver();
  }

  reset() {
    this.#visit?.reset();
  }

  /** A property that was set before the element was defined hides the accessor; it is set again. */
  #adopt(name) {
    if (!Object.hasOwn(this, name)) return;
    const value = this[name];
    delete this[name];
    this[name] = value;
  }

  #begin() {
    const visit = new Visit({
      api: this.api,
      drop: this.drop,
      credentials: () => ({ code: this.code || this.#card?.code, identity: this.#identity }),
      shown: (view) => visit === this.#visit && this.#show(view),
    });
    this.#visit = visit;
    this.#before = null;
    this.#place = "";
    this.#token = this.#document = null;
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const seen = () => (document.visibilityState === "hidden" ? visit.rest() : visit.wake());
    document.addEventListener("visibilitychange", seen, { signal });
    addEventListener("pageshow", (event) => event.persisted && seen(), { signal });
    addEventListener("online", () => visit.wake(), { signal });
    this.#speak();
    visit.start({ auto: this.auto });
  }

  #end() {
    this.#abort?.abort();
    this.#visit?.stop();
    this.#visit = null;
  }

  #locale() {
    return localeFor([this.closest("[lang]")?.lang, navigator.language]);
  }

  async #speak() {
    const { signal } = this.#abort;
    const locale = this.#locale();
    const use = (words) => {
      if (signal.aborted || locale !== this.#locale()) return;
      this.#words = words;
      this.#show(this.#visit.view);
    };
    const late = setTimeout(() => this.#words || use(new Words()), WORDS_MS_MAX);
    use(await wordsOf(locale));
    clearTimeout(late);
  }

  #show(view) {
    if (!this.#words) return; // until then the page's own fallback is there
    this.#card ??= new Card(this.shadowRoot ?? this.attachShadow({ mode: "open" }), {
      act: () => (this.#before?.joins ? this.join() : this.#visit.again()),
      proofAddress: (receipt) => `${this.api}/verify-draw?drop=${this.drop}#receipt=${receipt}`,
    });
    this.#card.show(view, this.#words, { asksCode: view.asksCode && !this.code });
    const before = this.#before;
    this.#before = view;
    this.#say(before, view);
    this.#tell(before, view);
  }

  #say(before, view) {
    const news = announcement(before, view);
    if (news) this.#card.say(spokenOf(news, view, this.#words), news.topic === "state" && view.state === "admitted");
  }

  #tell(before, view) {
    const { state } = view;
    const { serving } = this.#visit;
    if (serving && serving !== this.#document) this.#send("serving", { document: serving });
    this.#document = serving;
    if (state !== before?.state) this.#tellState(state, before?.state ?? null);
    const trouble = view.problem ?? view.away;
    if (trouble && trouble.code !== (before?.problem ?? before?.away)?.code)
      this.#send("error", { code: trouble.code, message: sentenceOf(trouble, this.#words) });
    this.#tellPlace(view);
    if (view.proof && !before?.proof) this.#send("draw", { verified: view.proof.verified, step: view.proof.step });
    const { token } = this;
    if (state !== "admitted" || !token || token === this.#token) return;
    this.#token = token;
    this.#send("admitted", { token, expiresAtMs: this.#visit.kept.tokenExpiresAtMs });
  }

  #tellState(state, previous) {
    if (previous) this.#internals?.states?.delete(previous);
    this.#internals?.states?.add(state);
    this.dataset.state = state;
    this.#send("state", { state, previous });
    if (state === "sold_out" || state === "closed") this.#send(state.replace("_", "-"), {});
  }

  #tellPlace(view) {
    const place = Object.fromEntries(PLACE.map((name) => [name, view[name]]));
    const known = JSON.stringify(place);
    if (view.entryNumber === null && view.queueNumber === null) return;
    if (known !== this.#place) this.#send("position", place);
    this.#place = known;
  }

  #send(name, detail) {
    const event = new CustomEvent(`flash-sale-${name}`, { bubbles: true, composed: true, detail: { drop: this.drop, ...detail } });
    this.dispatchEvent(event);
  }
}
