// The order page: stays until the order is in the order book.
import { drop, keep, kept, reservationId } from "./shop-kept.js";
import { NoAnswer, readDrop, readReservation } from "./shop-service.js";
import { itemRows, money, setText } from "./shop-words.js";

const element = (id) => document.getElementById(id);
const NO_ANSWER = "There is no answer from the shop just now. Your order is safe; this page keeps looking.";
const LOOK_MS = 900;
const LOOK_MS_MAX = 6_000;
const SAID = {
  confirmed: ["Paid", "Your order is being written into the order book …"],
  paid: ["It is yours", "Your order is paid and in the order book. You may close this page."],
  reserved: ["Not paid yet", "Your reservation waits at the checkout."],
  refund_due: ["The money goes back", "The payment could not be kept: everything was sold. It goes back by itself."],
  refunded: ["The money has gone back", "The payment was returned."],
  cancelled: ["Cancelled", "The order was taken back. The money goes back by itself."],
  expired: ["The reservation has ended", "Nothing was paid."],
  released: ["Given back", "Nothing was paid."],
  missing: ["There is no order here", "It may have been made in another browser."],
};
const SETTLED = new Set(["paid", "refunded", "cancelled", "expired", "released", "missing", "reserved"]);

// One word for how far it has come: the order's once it is in the order book, the reservation's until then.
function stateOf(found) {
  if (found === null) return "missing";
  return found.order?.recorded && found.order.state !== "pending" ? found.order.state : found.state;
}

function show({ found, said }, sale) {
  const state = stateOf(found);
  const [headline, words] = SAID[state] ?? SAID.missing;
  setText(element("headline"), headline);
  setText(element("words"), said ?? words);
  document.title = headline;
  element("certificate").hidden = found === null;
  if (found === null) return state;
  element("items").replaceChildren(...itemRows(found.items, sale.wares, (sku) => sale.wares[sku]?.media));
  setText(element("amount"), money(found.amount_minor));
  setText(element("reference"), found.reservation_id);
  setText(element("reserved-at"), new Date(found.reserved_at_ms).toLocaleTimeString());
  element("reserved-at").dateTime = new Date(found.reserved_at_ms).toISOString();
  element("step-paid").classList.toggle("done", ["confirmed", "paid", "refund_due", "refunded"].includes(state));
  element("step-recorded").classList.toggle("done", found.order?.recorded === true && state === "paid");
  return state;
}

async function follow() {
  const id = reservationId();
  const options = { onWait: () => setText(element("words"), NO_ANSWER) };
  let sale = null;
  for (let waitMs = LOOK_MS; ; waitMs = Math.min(LOOK_MS_MAX, waitMs * 1.4)) {
    try {
      sale ??= await readDrop(drop, options);
      const read = id ? await readReservation(id, kept().reservation?.receipt, options) : { found: null };
      const state = show(read, sale);
      if (read.found) keep({ reservation: { ...kept().reservation, ...read.found } });
      if (SETTLED.has(state)) return;
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      options.onWait();
    }
    await new Promise((resume) => setTimeout(resume, waitMs * (0.8 + 0.4 * Math.random())));
  }
}

follow();
