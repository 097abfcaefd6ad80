// What to type to do the same in a terminal: a console people learn the command line from.

import { announce, h, icon, put } from "./dom.js";
import { shellWord } from "./format.js";

const SHOWN_MS = 1_600;

/** `flashsale drop <word> <drop> …` */
export function dropCommand(word, drop, ...more) {
  return ["flashsale drop", word, ...(drop ? [shellWord(drop)] : []), ...more].join(" ");
}

/** A message as a command; one that looks like an option is kept from being one. */
export function messageCommand(drop, text) {
  if (!text) return dropCommand("message", drop, "--clear");
  return dropCommand("message", drop, ...(text.startsWith("-") ? ["--"] : []), shellWord(text));
}

/** A line with a command and a button that copies it; `set(text)` changes it. */
export function commandLine(text) {
  const code = h("code", {}, text);
  const button = h("button", { type: "button", class: "copy", onclick: () => copy(code, button) }, icon("copy"));
  const element = h("p", { class: "command" }, h("span", { class: "prompt", "aria-hidden": "true" }, "$"), code, button);
  const set = (words) => {
    if (code.textContent !== words) code.textContent = words;
    put(button, "aria-label", `Copy the command ${words}`);
    put(button, "title", "Copy");
  };
  set(text);
  return { element, set };
}

async function copy(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // Only pages from https or from this machine may write to the clipboard.
    getSelection().selectAllChildren(code);
    announce("The browser does not let this page copy. The command is selected: copy it with Ctrl+C.");
    return;
  }
  announce("Copied.");
  button.replaceChildren(icon("done"));
  setTimeout(() => button.replaceChildren(icon("copy")), SHOWN_MS);
}
