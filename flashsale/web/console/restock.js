// Units more, or fewer, of one SKU. The same change sent again, because nobody knows whether it happened, counts once.

import { Action, control } from "./action.js";
import { commandLine, dropCommand } from "./commands.js";
import { h, put, show, write } from "./dom.js";
import { count, counted, shellWord } from "./format.js";

const UNITS_MOST = 1_000_000;

function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What a change came to, by its answer. */
function told({ sku, allotment, draining }) {
  const rest = draining ? `; ${counted(draining, "unit goes", "units go")} as reservations end unpaid` : "";
  return `${sku} has ${counted(allotment, "unit")}${rest}.`;
}

export function stock(drop, context) {
  const action = new Action(drop.drop, context);
  const sku = h("select", { id: "stock-sku" }, drop.skus.map((one) => h("option", { value: one.sku }, one.name)));
  const units = h("input", { id: "stock-units", type: "number", inputmode: "numeric", min: 1, max: UNITS_MOST, step: 1, "aria-describedby": "stock-trouble" });
  const drain = h("input", { id: "stock-drain", type: "checkbox" });
  const add = h("button", { type: "submit", class: "plain" }, "Add");
  const withdraw = h("button", { type: "button", class: "plain" }, "Withdraw");
  const trouble = h("p", { id: "stock-trouble", class: "result", "data-level": "bad", hidden: true });
  const form = h(
    "form", { novalidate: true },
    h("div", { class: "two" }, h("label", { for: "stock-sku" }, "SKU"), h("label", { for: "stock-units" }, "Units"), sku, units),
    h("label", { class: "check", for: "stock-drain" }, drain, "withdraw reserved ones, too, as they end unpaid"),
    h("p", { class: "buttons" }, add, withdraw),
  );
  const command = commandLine("");
  let direction = "--add";
  let key = newKey();

  const number = () => Number(units.value);
  const valid = () => units.value.trim() !== "" && Number.isInteger(number()) && number() >= 1 && number() <= UNITS_MOST;
  const complain = (why) => {
    write(trouble, why);
    show(trouble, Boolean(why));
    put(units, "aria-invalid", why ? "true" : null);
  };
  const tell = () => {
    const drained = direction === "--withdraw" && drain.checked ? ["--drain"] : [];
    command.set(dropCommand("stock", drop.drop, shellWord(sku.value), direction, valid() ? String(number()) : "N", ...drained));
  };

  async function change(way, button) {
    if (way !== direction) key = newKey();
    direction = way;
    tell();
    if (!valid()) {
      complain(`A whole number from 1 to ${count(UNITS_MOST)}.`);
      units.focus();
      return;
    }
    const withdrawn = way === "--withdraw";
    const body = { sku: sku.value, delta: withdrawn ? -number() : number(), drain: withdrawn && drain.checked };
    const refused = await action.send("stock", body, { done: told, unchanged: "It had happened already; it counts once." }, button, { "Idempotency-Key": key });
    if (refused && !(refused.status >= 400 && refused.status < 500)) return; // it may have happened: the same again has the same key
    key = newKey();
    if (!refused) units.value = "";
  }

  form.addEventListener("input", () => {
    key = newKey();
    complain("");
    tell();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    change("--add", add);
  });
  withdraw.addEventListener("click", () => change("--withdraw", withdraw));
  tell();
  return { element: control("stock-control", "Units", null, [form, trouble], action, command), update: () => {} };
}
