// What this browser keeps about one drop. The waiting room's element keeps its own things in the same place; nobody touches the other's.

export const drop = document.body.dataset.drop;
const name = `flashsale:${drop}`;
let memory = {}; // where storage is blocked: lasts as long as the page

export function kept() {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? {};
  } catch {
    return memory;
  }
}

export function keep(values) {
  const all = { ...kept(), ...values };
  memory = all;
  try {
    localStorage.setItem(name, JSON.stringify(all));
  } catch { /* memory has it */ }
}

function lasts() {
  try {
    return localStorage.getItem(name) !== null;
  } catch {
    return false;
  }
}

// To another page of this drop. What cannot be kept goes along in the fragment, which no server sees.
export function go(page, { replace = false } = {}) {
  const id = kept().reservation?.reservation_id;
  const address = `/shop/${drop}${page && `/${page}`}${id && !lasts() ? `#reservation=${id}` : ""}`;
  if (replace) location.replace(address);
  else location.assign(address);
}

// The id of the reservation this browser made last, if any.
export function reservationId() {
  return new URLSearchParams(location.hash.slice(1)).get("reservation") ?? kept().reservation?.reservation_id ?? null;
}
