// The checkout: how long the reservation holds, more time, giving it back, and the test bank.
import { drop, go, keep, kept, reservationId } from "./shop-kept.js";
import { NoAnswer, ask, dropClock, readDrop, readReservation } from "./shop-service.js";
import { clock, itemRows, money, roughly, setText, spoken } from "./shop-words.js";

const element = (id) => document.getElementById(id);
const BANKS = { paid: {}, slow: { delay_ms: 4_000 }, failed: { outcome: "failed" } };
const BANK_MS_MAX = 15_000;
const TOLD_AT_S = [60, 30];
const ALARM_AT_S = 10;
const LOOK_MS = 1_500;
const SHOW_MS = 250;
const SLEPT_MS = 5_000;
const NO_ANSWER = "There is no answer from the shop just now. We keep trying; your reservation is not touched.";

let reservation = null;
let sale = null; // the drop
let now = null; // its clock
let wholeMs = 0; // of the reservation, for the bar
let busy = "";
let said = Infinity; // the last threshold that was spoken, in seconds
let shownAt = Date.now(); // by our own clock, which goes on in sleep
let slept = false; // what is shown may be old: the machine, or the page, was elsewhere
let nextLook = null; // the timer

// ------------------------------------------------------------------------------------------------------------- showing

const OVER = {
  released: ["Given back", "Thank you: somebody in the line gets it now."],
  expired: ["The time is up", "Your reservation has ended, and the lamp is on sale again. Nothing was paid."],
  refund_due: ["Paid too late", "The payment came after the reservation had ended, and everything was sold. The money goes back by itself."],
  cancelled: ["Cancelled", "The order was taken back. The money goes back by itself."],
  missing: ["There is no reservation here", "It may have ended, or it was made in another browser."],
};

function showOver(state, said) {
  const [headline, words] = OVER[state] ?? OVER.missing;
  element("loading").hidden = element("open").hidden = true;
  element("over").hidden = false;
  setText(element("over-headline"), headline);
  setText(element("over-words"), said ?? words);
  setText(element("headline"), "Checkout");
  document.title = headline;
}

function showOpen() {
  element("loading").hidden = true;
  element("open").hidden = false;
  element("items").replaceChildren(...itemRows(reservation.items, sale.wares, (sku) => sale.wares[sku]?.media));
  setText(element("amount"), money(reservation.amount_minor));
  showTime();
}

function showTime() {
  if (reservation?.state !== "reserved") return;
  const leftMs = reservation.expires_at_ms - now();
  const left = clock(leftMs);
  setText(element("countdown"), left);
  setText(element("until"), roughly(leftMs));
  document.title = `${left} · Checkout`;
  element("track").style.setProperty("--left", Math.max(0, Math.min(1, leftMs / wholeMs)));
  element("open").classList.toggle("hurry", leftMs <= ALARM_AT_S * 1000);
  announce(Math.ceil(leftMs / 1000));
  const paying = busy === "pay" || (kept().paying ?? 0) > now();
  element("extend").hidden = !sale.extension_ms || kept().extended === reservation.reservation_id || leftMs <= 0;
  for (const id of ["extend", "give-back", "give-back-now", "pay"]) element(id).disabled = busy !== "" || paying || leftMs <= 0;
  setText(element("pay"), paying ? "Paying …" : `Pay ${money(reservation.amount_minor)}`);
}

function announce(seconds) {
  const threshold = [...TOLD_AT_S, ALARM_AT_S].filter((at) => seconds <= at).at(-1);
  if (threshold === undefined || threshold >= said || seconds <= 0) return;
  said = threshold;
  setText(element(threshold === ALARM_AT_S ? "alarm" : "said"), `${spoken(seconds)} left to pay.`);
}

function say(words, trouble = "") {
  setText(element("progress"), words);
  setText(element("trouble"), trouble);
}

// ------------------------------------------------------------------------------------------------------------- looking

// The reservation as it is now, and the page that fits it.
async function look(options) {
  const { found, said: why } = await readReservation(reservationId(), kept().reservation?.receipt, options);
  if (found === null) return missing(why);
  if (found.state === "confirmed") {
    keep({ reservation: { ...kept().reservation, ...found }, paying: null });
    go("order", { replace: true });
    return;
  }
  if (found.state !== "reserved") return settle(found.state);
  reservation = found;
  now.isAtLeast(found.reserved_at_ms);
  keep({ reservation: { ...kept().reservation, ...found } });
  wholeMs = Math.max(wholeMs, found.expires_at_ms - now());
  showOpen();
}

function settle(state) {
  reservation = null;
  keep({ reservation: null, paying: null });
  showOver(state);
}

// Its receipt is kept: what brings nothing back now may do so later.
function missing(why) {
  reservation = null;
  showOver("missing", why);
}

// Looks again while the end, or a bank's answer, is to be waited for, and after sleep; otherwise nothing happens by itself.
async function watch() {
  nextLook = null;
  const over = reservation && reservation.expires_at_ms <= now();
  const asked = kept().paying ?? 0;
  if (!busy && reservation && (over || asked || slept)) {
    if (asked && asked < now()) {
      keep({ paying: null });
      say("", "The bank has not answered. Nothing was paid as far as we know; you may try again, and you pay once.");
    } else if (asked) say("Waiting for the bank …");
    await lookNow({ onWait: () => say("", NO_ANSWER) }).catch(() => say("", NO_ANSWER));
  }
  nextLook = setTimeout(watch, LOOK_MS * (0.8 + 0.4 * Math.random()));
}

async function lookNow(options) {
  const wasAway = slept;
  slept = false;
  try {
    if (wasAway) await now.catchUp(options);
    await look(options);
  } catch (error) {
    slept ||= wasAway;
    throw error;
  }
  if (element("trouble").textContent === NO_ANSWER) say("");
}

function wake() {
  slept = true;
  if (nextLook === null) return; // it looks already, and will look again
  clearTimeout(nextLook);
  watch();
}

function tick() {
  const awayMs = Date.now() - shownAt;
  shownAt = Date.now();
  if (awayMs > SLEPT_MS) wake();
  showTime();
}

// ------------------------------------------------------------------------------------------------------------- doing

async function doing(name, action) {
  if (busy || !reservation) return;
  busy = name;
  say(name === "pay" ? "Asking the bank …" : "");
  showTime();
  try {
    await action();
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error;
    say("", NO_ANSWER);
  } finally {
    busy = "";
    if (reservation) showTime();
  }
}

async function pay() {
  const behaviour = BANKS[new FormData(element("payment")).get("bank")];
  keep({ paying: now() + BANK_MS_MAX });
  const { status, document } = await ask("POST", "/v1/test-provider/payments", {
    body: { reservation_id: reservation.reservation_id, behaviour },
    timeoutMs: BANK_MS_MAX,
    keepalive: true, // a reload must not stop it on its way
    onWait: () => say("The bank is busy. We keep trying; you pay once."),
  });
  keep({ paying: null });
  if (status >= 300) return say("", document.detail ?? "The bank refused. Nothing was paid.");
  await look();
  if (reservation === null) return;
  if (behaviour.outcome === "failed") say("", "The bank declined the payment. Nothing was paid, and your reservation still holds: try again.");
  else say("", "The bank says it paid, and we have not heard of it yet. We keep looking.");
}

async function extend() {
  const id = reservation.reservation_id;
  const { status, document } = await ask("POST", `/v1/reservations/${id}/extend`, { headers: { "Idempotency-Key": `more-time-${id}` } });
  if (status >= 300 && document.code !== "already_extended") return say("", document.detail);
  keep({ extended: id });
  said = Infinity;
  setText(element("alarm"), "");
  wholeMs = 0;
  await look();
  setText(element("said"), status < 300 ? "You have more time." : document.detail);
}

async function giveBack() {
  const { status, document } = await ask("DELETE", `/v1/reservations/${reservation.reservation_id}`);
  if (status < 300) return settle("released");
  say("", document.detail);
  await look();
}

function askWhetherSure(asking) {
  element("give-back").hidden = asking;
  element("sure").hidden = !asking;
  element(asking ? "keep" : "give-back").focus(); // the button that was pressed has gone
}

element("payment").addEventListener("submit", (event) => {
  event.preventDefault();
  doing("pay", pay);
});
element("extend").addEventListener("click", () => doing("extend", extend));
element("give-back").addEventListener("click", () => askWhetherSure(true));
element("keep").addEventListener("click", () => askWhetherSure(false));
element("give-back-now").addEventListener("click", () => doing("give back", giveBack));

document.addEventListener("visibilitychange", () => document.hidden || wake());
addEventListener("pageshow", ({ persisted }) => persisted && wake());

// Begins, and begins again after a pause while nothing answers.
async function begin() {
  if (!reservationId()) return showOver("missing");
  const options = { onWait: () => setText(element("loading-words"), NO_ANSWER) };
  try {
    [sale, now] = await Promise.all([readDrop(drop, options), dropClock(drop, options)]);
    await look(options);
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error;
    setTimeout(begin, 5_000 * (0.7 + 0.6 * Math.random()));
    return;
  }
  setInterval(tick, SHOW_MS);
  watch();
}

begin();
