// The merchant's hand on a drop: every control says what it came to, and what to type for the same in a terminal.

import { Action, control } from "./action.js";
import { commandLine, dropCommand, messageCommand } from "./commands.js";
import { h, put, show, write } from "./dom.js";
import { count } from "./format.js";
import { stock } from "./restock.js";

const NUMBER_MOST = 1_000_000;
const MESSAGE_LENGTH_MAX = 200;

/** Two buttons, one there and one back. Both can always be pressed: what they came to is said. The way back stands out when it is open. */
function pair(drop, context, { id, title, choices, stateOf, chosenOf }) {
  const action = new Action(drop, context);
  const state = h("span", { class: "quiet" });
  const command = commandLine(choices[0].command);
  const buttons = choices.map((choice) => h("button", { type: "button", class: "plain", onclick: ({ currentTarget }) => action.send(choice.word, choice.body, choice, currentTarget) }, choice.label));
  const element = control(id, title, state, h("p", { class: "buttons" }, buttons), action, command);
  const update = (live) => {
    write(state, stateOf(live));
    const next = chosenOf(live);
    put(buttons[1], "data-next", next === 1);
    command.set(choices[next].command);
  };
  return { element, update };
}

function admissions(drop, context) {
  return pair(drop, context, {
    id: "pause",
    title: "The drop",
    choices: [
      { label: "Pause", word: "pause", command: dropCommand("pause", drop), done: "Paused. Nobody is let in or can reserve until you resume.", unchanged: "It is paused already." },
      { label: "Resume", word: "resume", command: dropCommand("resume", drop), done: "Resumed. The line goes on where it stopped.", unchanged: "It was not paused." },
    ],
    stateOf: (live) => live.state,
    chosenOf: (live) => (live.state === "paused" ? 1 : 0),
  });
}

function joining(drop, context) {
  return pair(drop, context, {
    id: "joining",
    title: "Joining",
    choices: [
      { label: "Close", word: "joining", body: { open: false }, command: dropCommand("joining", drop, "closed"), done: "Nobody new can join. Whoever has a place keeps it.", unchanged: "Joining is closed already." },
      { label: "Open", word: "joining", body: { open: true }, command: dropCommand("joining", drop, "open"), done: "Anybody can join again.", unchanged: "Joining is open already." },
    ],
    stateOf: (live) => live.joining ?? "",
    chosenOf: (live) => (live.joining === "closed" ? 1 : 0),
  });
}

/** A whole number that is so now, and can be set. What somebody is typing is left alone. */
function amount(drop, context, { id, title, label, member, word, button: words, sentence, stateOf }) {
  const action = new Action(drop, context);
  const input = h("input", { id, type: "number", inputmode: "numeric", min: 1, max: NUMBER_MOST, step: 1, required: true, "aria-describedby": `${id}-trouble` });
  const button = h("button", { type: "submit", class: "plain" }, words);
  const state = h("span", { class: "quiet" });
  const trouble = h("p", { id: `${id}-trouble`, class: "result", "data-level": "bad", hidden: true });
  const form = h("form", { novalidate: true, class: "line" }, h("label", { for: id }, label), input, button);
  const command = commandLine(dropCommand(word, drop, "N"));
  let now = null;
  let typed = false;
  const told = () => command.set(dropCommand(word, drop, valid(input.value) ? String(Number(input.value)) : "N"));
  input.addEventListener("input", () => {
    typed = input.value !== String(now);
    complain("");
    told();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!valid(input.value)) {
      complain(`A whole number from 1 to ${count(NUMBER_MOST)}.`);
      input.focus();
      return;
    }
    const value = Number(input.value);
    if (!(await action.send(word, { [member]: value }, sentence(value), button))) typed = false;
  });
  const complain = (why) => {
    write(trouble, why);
    show(trouble, Boolean(why));
    put(input, "aria-invalid", why ? "true" : null);
  };
  const update = (live) => {
    const changed = live[member] !== now;
    now = live[member];
    write(state, stateOf(live));
    if (!typed && changed && now !== null && document.activeElement !== input) {
      input.value = String(now);
      told();
    }
  };
  return { element: control(id, title, state, [form, trouble], action, command), update };
}

function valid(text) {
  const value = Number(text);
  return text.trim() !== "" && Number.isInteger(value) && value >= 1 && value <= NUMBER_MOST;
}

function rate(drop, context) {
  return amount(drop, context, {
    id: "rate", title: "Rate", label: "Shoppers a minute", member: "rate_per_min", word: "rate", button: "Set rate",
    sentence: (value) => ({ done: `Admits ${count(value)} a minute from now on.`, unchanged: `It admits ${count(value)} a minute already.` }),
    stateOf: (live) => `${count(live.rate_per_min)} a minute`,
  });
}

function capacity(drop, context) {
  return amount(drop, context, {
    id: "capacity", title: "Capacity", label: "Shoppers inside at once", member: "capacity", word: "capacity", button: "Set capacity",
    sentence: (value) => ({ done: `Has room for ${count(value)} at once. Nobody who is inside is sent away.`, unchanged: `It has room for ${count(value)} already.` }),
    stateOf: (live) => `${count(live.capacity)} at once`,
  });
}

function message(drop, context) {
  const action = new Action(drop, context);
  const now = h("p", { class: "quote" });
  const left = h("span", { class: "quiet", id: "message-left" });
  const input = h("textarea", { id: "message", rows: 2, maxlength: MESSAGE_LENGTH_MAX, "aria-describedby": "message-left" });
  const tell = h("button", { type: "submit", class: "plain" }, "Tell them");
  const clear = h("button", { type: "button", class: "plain" }, "Take it back");
  const command = commandLine(messageCommand(drop, ""));
  const form = h("form", { novalidate: true }, h("div", { class: "head" }, h("label", { for: "message" }, "Read by all in line within one poll"), left), input, h("p", { class: "buttons" }, tell, clear));
  const told = () => {
    const text = input.value.trim();
    command.set(messageCommand(drop, text || "What they read"));
    write(left, `${MESSAGE_LENGTH_MAX - input.value.length}`);
    put(left, "aria-label", `${MESSAGE_LENGTH_MAX - input.value.length} characters left`);
  };
  input.addEventListener("input", told);
  told();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = input.value.replaceAll(/\s+/g, " ").trim();
    if (!text) {
      action.say("Nothing was written. To take the last message back, use the other button.", "bad");
      input.focus();
      return;
    }
    const refused = await action.send("message", { message: text }, { done: "The waiting are told.", unchanged: "They are told just that already." }, tell);
    if (!refused) {
      input.value = "";
      told();
    }
  });
  clear.addEventListener("click", async () => {
    command.set(messageCommand(drop, ""));
    await action.send("message", { message: "" }, { done: "The message is taken back.", unchanged: "There was no message." }, clear);
  });
  const update = (live) => {
    write(now, live.notice ? `“${live.notice}”` : "");
    show(now, Boolean(live.notice));
  };
  return { element: control("message-control", "Message", null, [now, form], action, command), update };
}

/** Closing is for good, so its drop's id has to be typed, as in the terminal. */
function close(drop, context, closed) {
  const action = new Action(drop, context);
  const input = h("input", { id: "confirm", autocomplete: "off", autocapitalize: "none", spellcheck: "false", "aria-describedby": "confirm-trouble" });
  const trouble = h("p", { id: "confirm-trouble", class: "trouble", role: "alert", hidden: true });
  const yes = h("button", { type: "submit", class: "danger" }, "Close for good");
  const no = h("button", { type: "button", class: "plain", onclick: () => dialog.close() }, "Keep it");
  const form = h(
    "form", { novalidate: true },
    h("h2", { id: "close-title" }, `Close ${drop}?`),
    h("p", {}, "It cannot be opened again. Nobody else is let in; what is reserved can still be paid."),
    h("label", { for: "confirm" }, "Type ", h("b", {}, drop), " to go on"),
    input, trouble, action.result,
    h("p", { class: "buttons" }, yes, no),
    commandLine(dropCommand("close", drop)).element,
  );
  const dialog = h("dialog", { "aria-labelledby": "close-title" }, form);
  const open = h("button", { type: "button", class: "plain danger", "aria-haspopup": "dialog", onclick: () => { input.value = ""; complain(""); action.say("", ""); dialog.showModal(); input.focus(); } }, "Close for good …");
  const complain = (why) => {
    write(trouble, why);
    show(trouble, Boolean(why));
    put(input, "aria-invalid", why ? "true" : null);
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (input.value.trim() !== drop) {
      complain("That is not its id; nothing was changed.");
      input.focus();
      return;
    }
    if (!(await action.send("close", { confirm: drop }, { done: `${drop} is closed.`, unchanged: `${drop} was closed already.` }, yes))) {
      dialog.close();
      closed();
    }
  });
  const element = h("section", { class: "control", "aria-labelledby": "end-title" }, h("div", { class: "head" }, h("h3", { id: "end-title" }, "End"), h("span", { class: "quiet" }, "asks for the drop's id")), h("p", { class: "buttons" }, open), commandLine(dropCommand("close", drop)).element, dialog);
  return { element, update: () => {} };
}

/** All controls of a drop. `closed()` is called when it was closed here. */
export function controls(about, context, closed) {
  const drop = about.drop;
  const all = [admissions(drop, context), rate(drop, context), capacity(drop, context), message(drop, context), joining(drop, context), stock(about, context), close(drop, context, closed)];
  const element = h("section", { class: "card steer", "aria-labelledby": "steer-title" }, h("h2", { id: "steer-title" }, "Steer"), h("div", { class: "controls" }, all.map((one) => one.element)));
  return { element, update: (live) => all.forEach((one) => one.update(live)) };
}
