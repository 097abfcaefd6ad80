// The product page: pictures, live stock, and what can be done once the waiting room has let somebody in.
import { drop, go, keep, kept } from "./shop-kept.js";
import { NoAnswer, ask, readReservation } from "./shop-service.js";
import { showPictures, showWaiting } from "./shop-stage.js";
import { money, setText, stock } from "./shop-words.js";

const element = (id) => document.getElementById(id);
const room = element("room");
const wares = [...document.querySelectorAll("input[name=sku]")];
const chosen = () => wares.find((ware) => ware.checked);
const WAITING = new Set(["joined", "drawing", "waiting", "called", "paused", "recovering"]);

const HELD_FOR_YOU = "What you reserve is held for you while you pay.";
const GONE = "None of this glaze is free just now. Take another, or stay here: what is not paid for comes back, and you see it at once.";

let admission = null; // { token, ofRoom }: whether the waiting room on this page let us in, or its page elsewhere
let busy = false;
let standing = null; // { sku, quantity }: found reserved by others, and asked for again as soon as it comes back

// ------------------------------------------------------------------------------------------------------------- the wares

function showStock(available, reserved) {
  for (const ware of wares) {
    Object.assign(ware.dataset, { available: available[ware.value] ?? 0, reserved: reserved[ware.value] ?? 0 });
    const units = { available: Number(ware.dataset.available), reserved: Number(ware.dataset.reserved) };
    const words = document.querySelector(`[data-stock="${ware.value}"]`);
    setText(words, stock(units));
    words.classList.toggle("none", units.available === 0);
  }
  showReserve();
  if (standing && admission && (available[standing.sku] ?? 0) >= standing.quantity) take();
}

function showChoice() {
  const ware = chosen();
  if (!ware) return;
  standing = null;
  setText(element("price"), money(ware.dataset.priceMinor));
  const limit = Number(ware.dataset.limit);
  const quantity = Math.min(limit, Number(element("quantity").value) || 1);
  element("quantity").replaceChildren(...Array.from({ length: limit }, (_, i) => new Option(i + 1, i + 1, false, i + 1 === quantity)));
  showReserve();
  showPictures(ware);
}

function showReserve() {
  const ware = chosen();
  if (!ware) return;
  const gone = ware.dataset.available === "0";
  setText(element("take-words"), gone && !busy ? GONE : HELD_FOR_YOU);
  const amount = money(ware.dataset.priceMinor * (Number(element("quantity").value) || 1));
  setText(element("reserve"), busy ? "Reserving …" : `Reserve for ${amount}`);
  element("reserve").disabled = busy;
}

// ------------------------------------------------------------------------------------------------------------- reserving

function showTake() {
  element("take").hidden = admission === null;
}

// Until its outcome is known a request keeps its key, over reloads too; a changed wish is another request.
function keyFor(wish) {
  const asked = kept().asked;
  if (asked?.wish === wish) return asked.key;
  const key = crypto.randomUUID();
  keep({ asked: { wish, key } });
  return key;
}

async function reserve() {
  const items = [{ sku: chosen().value, quantity: Number(element("quantity").value) }];
  const { status, document } = await ask("POST", `/v1/drops/${drop}/reservations`, {
    headers: { Authorization: `Bearer ${admission.token}`, "Idempotency-Key": keyFor(JSON.stringify(items)) },
    body: { items },
    onWait: () => setText(element("take-trouble"), "It is busy just now. We keep trying."),
  });
  keep({ asked: null });
  standing = document.code === "sold_out" && document.place_kept ? items[0] : null;
  if (status < 300) {
    keep({ reservation: document, extended: null, paying: null });
    go("checkout");
    return;
  }
  if (status === 401) admission = null;
  setText(element("take-trouble"), refusal(document));
  showTake();
}

function refusal({ code, detail, place_kept: placeKept }) {
  switch (code) {
    case "sold_out":
      if (placeKept) return "All of it is reserved just now. Your place is kept: stay here, and we ask again for you the moment one comes back.";
      return "Somebody was faster. Take another glaze, fewer of them, or try again: units come back when others do not pay.";
    case "limit_reached":
      return "That is more than one person may have of this drop.";
    case "token_expired":
    case "token_invalid":
      return "Your turn has run out. Your place is kept: you are let in again in a moment.";
    default:
      return detail ?? "That did not work. Try again.";
  }
}

function onReserve(event) {
  event.preventDefault();
  take();
}

async function take() {
  if (busy || !chosen()) return;
  busy = true;
  setText(element("take-trouble"), "");
  showReserve();
  try {
    await reserve();
  } catch (error) {
    if (!(error instanceof NoAnswer)) throw error;
    setText(element("take-trouble"), "There is no answer from the shop. Nothing is lost: try again, and you get the same reservation.");
  } finally {
    busy = false;
    showReserve();
  }
}

// ------------------------------------------------------------------------------------------------------------- what is held

const HELD = {
  reserved: ["Held for you", "Your lamp is waiting at the checkout.", "Go on to pay", "checkout"],
  confirmed: ["It is yours", "Your order is in.", "See your order", "order"],
};

async function showHeld() {
  const { reservation } = kept();
  if (!reservation) return;
  const { found } = await readReservation(reservation.reservation_id, reservation.receipt).catch(() => ({ found: reservation }));
  const [headline, words, label, page] = HELD[found?.state] ?? [];
  element("held").hidden = !headline;
  if (!headline) return;
  setText(element("held-headline"), headline);
  setText(element("held-words"), words);
  setText(element("held-link"), label);
  element("held-link").href = `/shop/${drop}/${page}`;
}

// ----------------------------------------------------------------------------------------------------- the waiting room

room.addEventListener("flash-sale-serving", ({ detail: { document } }) => showStock(document.available, document.reserved));

room.addEventListener("flash-sale-admitted", ({ detail }) => {
  admission = { token: detail.token, ofRoom: true };
  setText(element("take-trouble"), "");
  showTake();
});

room.addEventListener("flash-sale-state", ({ detail }) => {
  document.body.dataset.room = detail.state;
  if (detail.state !== "admitted" && admission?.ofRoom) {
    admission = null;
    showTake();
  }
  if (WAITING.has(detail.state)) showWaiting();
});

// The waiting page of the service sends people back with their token in the fragment; it must not stay in the address bar.
function takeFromFragment() {
  const token = new URLSearchParams(location.hash.slice(1)).get("flashsale_token");
  if (!token) return;
  history.replaceState(null, "", location.pathname);
  admission = { token, ofRoom: false };
  showTake();
}

element("take").addEventListener("submit", onReserve);
element("quantity").addEventListener("change", () => {
  standing = null;
  showReserve();
});
for (const ware of wares) ware.addEventListener("change", showChoice);
addEventListener("pageshow", showHeld); // also when somebody comes back by the back button

showStock(
  Object.fromEntries(wares.map((ware) => [ware.value, ware.dataset.available])),
  Object.fromEntries(wares.map((ware) => [ware.value, ware.dataset.reserved])),
);
showChoice();
takeFromFragment();
