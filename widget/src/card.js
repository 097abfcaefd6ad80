// The card in the page: made once; only what has changed is written, so that nothing is read out twice.

import { sentencesOf } from "./sentences.js";
import { dress } from "./styles.js";

const make = (tag, name, ...children) => {
  const element = document.createElement(tag);
  if (name) element.className = element.part = name;
  element.append(...children);
  return element;
};

const setText = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
};

/** Gives an element exactly these paragraphs. */
const setParagraphs = (element, texts) => {
  if (element.shown !== (element.shown = texts.join("\n"))) element.replaceChildren(...texts.map((text) => make("p", "", text)));
  element.hidden = !texts.length;
};

export class Card {
  #root;
  #headline = make("h2", "headline");
  #clock = make("p", "position clock");
  #position = make("p", "position big");
  #progress = make("progress", "progress");
  #details = make("div", "details");
  #notice = make("div", "notice");
  #codeLabel = make("span");
  #code = make("input");
  #ask = make("label", "", this.#codeLabel, this.#code);
  #button = make("button", "button");
  #form = make("form", "", this.#ask, this.#button);
  #proofText = make("span");
  #link = make("a");
  #proof = make("p", "proof", this.#proofText, " ", this.#link);
  #status = make("div", "spoken");
  #alert = make("div", "spoken");
  #section = make("section", "card", this.#headline, this.#clock, this.#position, this.#progress, this.#details, this.#notice, this.#form, this.#proof);

  /** `act` is called when the button is pressed; `proofAddress(receipt)` is where the draw can be checked again. */
  constructor(root, { act, proofAddress }) {
    this.#root = root;
    this.proofAddress = proofAddress;
    this.#headline.id = "headline";
    this.#section.setAttribute("aria-labelledby", "headline");
    this.#section.tabIndex = -1;
    this.#clock.setAttribute("aria-hidden", "true");
    Object.assign(this.#code, { name: "code", autocomplete: "off", spellcheck: false, maxLength: 64 });
    Object.assign(this.#link, { target: "_blank", rel: "noopener" });
    this.#status.setAttribute("role", "status");
    this.#alert.setAttribute("role", "alert");
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      act();
    });
    dress(root);
    root.replaceChildren(this.#section, this.#status, this.#alert);
  }

  /** The invite code that was typed. */
  get code() {
    return this.#code.value.trim();
  }

  show(view, words, { asksCode }) {
    const { headline, position, clock, details, notices, proof } = sentencesOf(view, words);
    const button = view.state === "ready" ? "join" : view.state === "trouble" && "again";
    this.#section.lang = words.locale;
    this.#section.dir = words.direction;
    this.#section.dataset.state = view.state;
    setText(this.#headline, headline);
    setText(this.#clock, clock);
    this.#showPosition(position);
    this.#progress.hidden = view.progress === null;
    this.#progress.value = view.progress ?? 0;
    this.#progress.setAttribute("aria-label", words.text("progress"));
    this.#details.className = this.#details.part = view.problem ? "details trouble" : "details";
    setParagraphs(this.#details, details);
    setParagraphs(this.#notice, notices);
    setText(this.#codeLabel, words.text("code"));
    this.#ask.hidden = !(asksCode && view.joins);
    if (!button && this.#root.activeElement === this.#button) this.#section.focus(); // stays where it was, though the button goes
    this.#form.hidden = !button;
    this.#button.disabled = view.isBusy;
    if (button) setText(this.#button, words.text(button));
    this.#showProof(proof, view, words);
  }

  #showPosition(parts) {
    const text = (parts ?? []).join("");
    if (this.#position.textContent !== text) this.#position.replaceChildren(...parts.map((part, i) => (i % 2 ? make("b", "", part) : part)));
    this.#position.hidden = !text;
  }

  #showProof(text, view, words) {
    setText(this.#proofText, text);
    this.#proof.hidden = !text;
    if (!text) return;
    setText(this.#link, words.text("see"));
    this.#link.href = this.proofAddress(view.proof.receipt);
  }

  /** Says something aloud; at once when it cannot wait. */
  say(text, isUrgent) {
    (isUrgent ? this.#alert : this.#status).textContent = text;
  }
}
