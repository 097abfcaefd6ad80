// The console: who is signed in, and which of its views is shown. The address's fragment says which: #/ or #/<drop>.

import { read, Refusal, send, serviceNow } from "./api.js";
import { announce, h, write } from "./dom.js";
import { dropView } from "./drop.js";
import { dropsView } from "./drops.js";
import { moment, shortTime } from "./format.js";
import { forget } from "./history.js";
import { signIn, signInView, takeKey } from "./signin.js";

const main = document.getElementById("main");
const where = document.getElementById("where");
const who = document.getElementById("who");
const RETRY_MS = 3_000;
const NO_ANSWER = "No answer";

let session = null;
let view = null;
let sessionTimer = null;
let retryTimer = null;

/** What views may ask of the console. */
const context = {
  /** Words for what went wrong. A session that is over ends here, whoever noticed. */
  failed(error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 401 && session !== null) askToSignIn(error.message);
    return error.message;
  },
  title(words) {
    document.title = `${words} · Console`;
  },
};

function put(next) {
  clearTimeout(retryTimer);
  view?.leave();
  view = next;
  main.replaceChildren(next.element);
  context.title(next.title);
}

function dropOfAddress() {
  try {
    return decodeURIComponent(location.hash.replace(/^#\/?/, ""));
  } catch {
    return "";
  }
}

/** Shows what the address names. Whoever came by a link or a button starts at its heading. */
function route({ focus = true } = {}) {
  if (session === null) return;
  const drop = dropOfAddress();
  put(drop ? dropView(drop, context) : dropsView(context));
  const here = h("span", { "aria-current": "page" }, drop || "Drops");
  where.replaceChildren(...(drop ? [h("a", { href: "#/" }, "Drops"), here] : [here]));
  scrollTo(0, 0);
  if (focus) view.element.querySelector("h1")?.focus({ preventScroll: true });
}

function signedIn(made, options) {
  if (!made.scopes.includes("merchant")) {
    send("/console/session", undefined, { method: "DELETE" }).catch(() => null);
    askToSignIn(`This key has the scope “${made.scopes.join("”, “")}”. The console needs “merchant”.`);
    return;
  }
  session = made;
  who.replaceChildren(
    h("span", { class: "tenant", title: `The session ends at ${moment(made.expires_at_ms, serviceNow())}` }, made.tenant, h("span", { class: "until" }, ` until ${shortTime(made.expires_at_ms)}`)),
    h("button", { type: "button", class: "plain small", onclick: signOut }, "Sign out"),
  );
  clearTimeout(sessionTimer);
  sessionTimer = setTimeout(() => askToSignIn("The session is over. Sign in again."), Math.max(0, made.expires_at_ms - serviceNow()));
  route(options);
}

function askToSignIn(words) {
  session = null;
  clearTimeout(sessionTimer);
  who.replaceChildren();
  where.replaceChildren();
  put(signInView(signedIn, words));
  forget(); // whoever signs in next may be somebody else
  view.focus.focus();
}

async function signOut() {
  try {
    await send("/console/session", undefined, { method: "DELETE" });
  } catch (refusal) {
    if (refusal.status !== 401) {
      announce(`You are not signed out: ${refusal.message}`);
      return;
    }
  }
  askToSignIn("");
  announce("You are signed out.");
}

async function exchange(key) {
  try {
    signedIn(await signIn(key));
  } catch (refusal) {
    askToSignIn(refusal.message);
  }
}

/** Finds out who is signed in; goes on trying while nobody answers. */
async function start() {
  clearTimeout(retryTimer);
  try {
    signedIn(await read("/console/session"), { focus: false });
  } catch (refusal) {
    if (refusal.status === 401) askToSignIn("");
    else waitForService(refusal.message);
  }
}

function waitForService(words) {
  if (view?.title !== NO_ANSWER) put(noAnswerView());
  write(view.element.querySelector("[role=status]"), words);
  retryTimer = setTimeout(start, RETRY_MS);
}

function noAnswerView() {
  const element = h(
    "section", { class: "card alone", "aria-labelledby": "title" },
    h("h1", { id: "title", tabindex: "-1" }, "The service does not answer"),
    h("p", { role: "status" }),
    h("p", { class: "quiet" }, "This page tries again every few seconds."),
    h("button", { type: "button", onclick: start }, "Try now"),
  );
  return { title: NO_ANSWER, element, leave: () => {} };
}

function arrive(otherwise) {
  const key = takeKey();
  if (key === null) otherwise();
  else exchange(key);
}

addEventListener("hashchange", () => arrive(route));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment names the view
  main.focus();
});
arrive(start);
