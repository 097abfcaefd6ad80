// How the shop says numbers.

const currency = document.body.dataset.currency || "EUR";
const price = new Intl.NumberFormat(undefined, { style: "currency", currency });
const whole = new Intl.NumberFormat(undefined, { style: "currency", currency, maximumFractionDigits: 0 });
const count = new Intl.NumberFormat();

// An amount in the smallest unit of the drop's currency; without decimals where they say nothing.
export function money(minor) {
  const unit = 10 ** price.resolvedOptions().maximumFractionDigits;
  return (minor % unit ? price : whole).format(minor / unit);
}

export const number = (value) => count.format(value);

// A countdown: 1:05, 0:09.
export function clock(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

// The same for whoever listens.
export function spoken(seconds) {
  const unit = seconds >= 60 && seconds % 60 === 0 ? "minute" : "second";
  const value = unit === "minute" ? seconds / 60 : seconds;
  return new Intl.NumberFormat(undefined, { style: "unit", unit, unitDisplay: "long" }).format(value);
}

// The same for whoever reads with the ears and comes upon it: no second passes in it.
export function roughly(ms) {
  const minutes = Math.floor(ms / 60_000);
  return minutes > 0 ? `more than ${spoken(minutes * 60)}` : "less than a minute";
}

export function stock({ available, reserved }) {
  if (available > 0) return `${number(available)} left`;
  return reserved > 0 ? "all reserved just now" : "sold out";
}

// Only changes are written, so that nothing is announced twice.
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// What was reserved, as a list with pictures. `wares` are the drop's SKUs by name; one that has gone from it is called by its id.
export function itemRows(items, wares, pictureOf) {
  return items.map(({ sku, quantity }) => {
    const row = document.createElement("li");
    const picture = pictureOf(sku);
    if (picture) row.append(Object.assign(document.createElement("img"), { src: picture, alt: "", width: 66, height: 78 }));
    const name = document.createElement("span");
    name.textContent = quantity > 1 ? `${number(quantity)} × ${wares[sku]?.name ?? sku}` : (wares[sku]?.name ?? sku);
    row.append(name);
    return row;
  });
}
