// The card in the page: made once; only what has changed is written, so that nothing is read out twice.

import { sentencesOf } from "./sentences.js";
import rules from "./styles.css";

const make = (tag, name, ...children) => {
  const element = document.createElement(tag);
  element.className = name;
  element.part = name;
  element.append(...children);
  return element;
};

/** Gives an element a text, or nodes, and hides it when there is nothing in it. */
const fill = (element, content, nodes = [content]) => {
  const text = String(content);
  if (element.said === text) return;
  element.said = text;
  element.replaceChildren(...nodes);
  element.hidden = !text;
};

const fillWithParagraphs = (element, texts) => fill(element, texts, texts.map((text) => make("p", "", text)));

/** A card in a shadow root; `act` is called when its button is pressed. `show` shows a view, `say` speaks, `code` is what was typed. */
export function cardIn(root, act) {
  const headline = make("h2", "headline");
  const clock = make("p", "position clock");
  const position = make("p", "position");
  const progress = make("progress", "progress");
  const details = make("div", "details");
  const notice = make("div", "notice");
  const codeText = make("span", "");
  const code = make("input", "code");
  const label = make("label", "", codeText, code);
  const button = make("button", "button");
  const form = make("form", "", label, button);
  const proofText = make("span", "");
  const link = make("a", "secondary");
  const proof = make("p", "proof", proofText, " ", link);
  const status = make("p", "spoken");
  const alert = make("p", "spoken");
  const section = make("section", "card", headline, clock, position, progress, details, notice, form, proof, status, alert);
  let isBusy = false;
  const sheet = new CSSStyleSheet(); // constructed, which a strict content security policy lets pass

  sheet.replaceSync(rules);
  root.adoptedStyleSheets = [sheet];
  root.append(section);
  clock.setAttribute("aria-hidden", true); // older browsers know no ariaHidden, and no role
  status.setAttribute("role", "status");
  alert.setAttribute("role", "alert");
  headline.tabIndex = -1;
  link.target = "_blank";
  button.onclick = (event) => {
    event.preventDefault(); // a click, and no form that is sent: a sandbox may allow no forms
    if (!isBusy) act();
  };

  function show(view, words, asksCode, proofAddress) {
    const said = sentencesOf(view, words);
    const { place } = view;
    const hadFocus = form.contains(root.activeElement);
    section.lang = words.locale;
    section.dir = words.locale.startsWith("ar") ? "rtl" : "ltr";
    fill(headline, said.headline);
    fill(clock, said.clock);
    fill(position, said.position, said.position.map((part, i) => (i % 2 ? make("b", "", part) : part)));
    progress.hidden = place?.queueNumber == null;
    progress.value = place?.progress ?? 0;
    progress.setAttribute("aria-label", words.text("progress"));
    fillWithParagraphs(details, said.details);
    details.part = details.className = view.problem ? "details trouble" : "details";
    fillWithParagraphs(notice, said.notice);
    fill(codeText, said.code);
    label.hidden = !asksCode;
    form.hidden = !said.button;
    ({ isBusy } = view);
    button.setAttribute("aria-disabled", isBusy); // and not disabled, which loses the focus
    fill(button, said.button);
    fill(proofText, said.proof);
    fill(link, words.text("see"));
    proof.hidden = !said.proof;
    link.href = proofAddress;
    if (hadFocus && form.hidden) headline.focus();
  }

  return {
    show,
    say: (text, isUrgent) => ((isUrgent ? alert : status).textContent = text),
    code: () => code.value.trim(),
  };
}
