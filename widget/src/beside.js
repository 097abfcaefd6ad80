// Files beside this one, loaded when they are needed: what a place is told, and the verifier that anybody can read.

import { ANSWER_MS_MAX, unavailable } from "./api.js";
import { retryMs } from "./room.js";

const loading = {};
const tries = {};

/**
 * The module of that name. Rejects with `unavailable` when it does not come within the time that every answer has; it is asked for
 * anew when the time for another try has come, by another address, as browsers remember what failed.
 */
export const beside = (name) => (loading[name] ??= load(name, tries[name] ?? 0));

async function load(name, tried) {
  const late = new Promise((_, reject) => setTimeout(reject, ANSWER_MS_MAX));
  try {
    return await Promise.race([import(new URL(tried ? `${name}?${tried}` : name, import.meta.url)), late]);
  } catch {
    const againMs = retryMs(tried, 0);
    tries[name] = tried + 1;
    setTimeout(() => (loading[name] = null), againMs);
    throw unavailable(againMs);
  }
}
