// The verifier that anybody can read, web/verify-draw.js: loaded once there is an entry in a draw.

import { unavailable } from "./api.js";

let tries = 0;
let loading = null;

/** The verifier. Rejects with `unavailable`; the next call tries again, by another address, as browsers remember what failed. */
export function verifier() {
  loading ??= import(new URL(`verify-draw.js${tries ? `?${tries}` : ""}`, import.meta.url)).catch(() => {
    tries += 1;
    loading = null;
    throw unavailable(0);
  });
  return loading;
}
