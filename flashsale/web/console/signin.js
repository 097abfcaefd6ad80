// Signing in. The key is sent once, to be exchanged for a cookie that no script can read; the page keeps it nowhere.

import { Refusal, send } from "./api.js";
import { commandLine } from "./commands.js";
import { h, put, show, write } from "./dom.js";

const KEY = /^fs_live_[A-Za-z0-9]{12}_[A-Za-z0-9_-]{43}$/;

/** The key of an address `…#key=…`, which is taken out of the address and the history at once; and the drop it names. */
export function takeKey() {
  if (!location.hash.startsWith("#key=")) return null;
  const given = new URLSearchParams(location.hash.slice(1));
  const drop = given.get("drop");
  history.replaceState(null, "", `${location.pathname}${location.search}${drop ? `#/${encodeURIComponent(drop)}` : "#/"}`);
  return given.get("key");
}

/** Exchanges a key for a session. @throws {Refusal} with words about the key */
export async function signIn(key) {
  if (!KEY.test(key)) throw new Refusal(0, "not_a_key", "That is not an API key: one begins with fs_live_ and has 64 characters.");
  try {
    return await send("/console/session", { key });
  } catch (refusal) {
    if (refusal.status === 401) throw new Refusal(401, refusal.code, "The service does not know this key, or it has expired or was revoked.");
    if (refusal.status === 403) throw new Refusal(403, refusal.code, "This key has not the scope “merchant”, which the console needs.");
    throw refusal;
  }
}

/** The form. `done(session)` is called when somebody has signed in; `why` is said first, if anything. */
export function signInView(done, why = "") {
  const trouble = h("p", { id: "key-trouble", class: "trouble", role: "alert" }, why);
  const input = h("input", {
    id: "key", name: "key", type: "password", required: true, autocomplete: "current-password", spellcheck: "false", autocapitalize: "none",
    placeholder: "fs_live_…", "aria-describedby": "key-trouble key-help",
  });
  const shown = h("button", { type: "button", class: "plain", "aria-pressed": "false", onclick: () => toggle(input, shown) }, "Show");
  const button = h("button", { type: "submit" }, "Sign in");
  const form = h(
    "form", { novalidate: true },
    h("input", { type: "text", name: "username", value: "console", autocomplete: "username", hidden: true }), // for password managers
    h("label", { for: "key" }, "API key"),
    h("div", { class: "field" }, input, shown),
    trouble,
    h("p", { class: "buttons" }, button),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(input, button, trouble, done);
  });
  show(trouble, Boolean(why));
  const help = h(
    "div", { id: "key-help", class: "quiet" },
    h("p", {}, "The key needs the scope “merchant”. It is exchanged for a session of eight hours; this page does not keep it."),
    h("p", {}, "No key yet? Make one where the service runs:"),
    commandLine("flashsale key create --scope merchant --label console").element,
  );
  const element = h("section", { class: "card alone", "aria-labelledby": "title" }, h("h1", { id: "title", tabindex: "-1" }, "Sign in"), form, help);
  return { title: "Sign in", element, focus: input, leave: () => { input.value = ""; } };
}

function toggle(input, button) {
  const hidden = input.type === "password";
  input.type = hidden ? "text" : "password";
  put(button, "aria-pressed", String(hidden));
}

async function submit(input, button, trouble, done) {
  const key = input.value.trim();
  show(trouble, false);
  button.disabled = true;
  try {
    const session = await signIn(key);
    input.value = "";
    done(session);
  } catch (refusal) {
    write(trouble, refusal.message);
    show(trouble, true);
    put(input, "aria-invalid", "true");
    button.disabled = false;
    input.focus();
  }
}
