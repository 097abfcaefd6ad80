// The service's answers, and what they mean in a sentence. The session is a cookie that no script can read.

const TIMEOUT_MS = 10_000;
const JUMP_MS = 2_000; // by more than this a clock was set, and is not merely late

/** A request that was not done, in words for people. */
export class Refusal extends Error {
  /** @param {number} status 0 when there was no answer @param {string} code the problem's, or "offline" or "unreachable" */
  constructor(status, code, words, retryAfterS = null) {
    super(words);
    this.status = status;
    this.code = code;
    this.retryAfterS = retryAfterS;
  }
}

let skewMs = null;
let exact = false;

/** What the service's clock says, as far as is known. */
export function serviceNow() {
  return Date.now() + (skewMs ?? 0);
}

/** Sets the clock by a moment the service has just named. The nearest to its true time is the one that took least to get here. */
export function setClock(nowMs) {
  const seen = nowMs - Date.now();
  skewMs = !exact || Math.abs(seen - skewMs) > JUMP_MS ? seen : Math.max(skewMs, seen);
  exact = true;
}

/** Reads JSON. What takes its time has a longer limit, and words for when even that is over. @throws {Refusal} */
export function read(path, { timeoutMs = TIMEOUT_MS, late = "" } = {}) {
  return ask("GET", path, { timeoutMs, late });
}

/** Sends JSON. @throws {Refusal} */
export function send(path, body = undefined, { method = "POST", headers = {} } = {}) {
  return ask(method, path, { body, headers });
}

/** Why a stream of events is not given; null when it is. @throws {Refusal} when nobody answers */
export async function refusalOfStream(path) {
  const enough = new AbortController();
  const late = setTimeout(() => enough.abort(), TIMEOUT_MS);
  try {
    const answer = await fetched(path, { signal: enough.signal });
    return answer.ok ? null : await refusalOf(answer);
  } finally {
    clearTimeout(late);
    enough.abort();
  }
}

async function ask(method, path, { body = undefined, headers = {}, timeoutMs = TIMEOUT_MS, late = "" }) {
  const given = { method, headers, signal: AbortSignal.timeout(timeoutMs) };
  if (body !== undefined) Object.assign(given, { body: JSON.stringify(body), headers: { "Content-Type": "application/json", ...headers } });
  const answer = await fetched(path, given, late);
  noteDate(answer);
  if (answer.ok) return answer.status === 204 ? null : answer.json().catch(() => null);
  throw await refusalOf(answer);
}

async function fetched(path, given, late = "") {
  try {
    return await fetch(path, { ...given, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    throw late && error.name === "TimeoutError" ? new Refusal(0, "late", late) : unreachable();
  }
}

function noteDate(answer) {
  const at = Date.parse(answer.headers.get("Date") ?? "");
  if (!exact && at) skewMs = at + 500 - Date.now(); // the header has whole seconds
}

function unreachable() {
  return navigator.onLine
    ? new Refusal(0, "unreachable", "The service does not answer. Is it running, and is this address still the right one?")
    : new Refusal(0, "offline", "This browser is offline.");
}

async function refusalOf(answer) {
  const told = await answer.json().catch(() => ({}));
  const code = typeof told.code === "string" ? told.code : `http_${answer.status}`;
  const retryAfterS = Number(answer.headers.get("Retry-After")) || null;
  return new Refusal(answer.status, code, wordsOf(answer, told, code, retryAfterS), retryAfterS);
}

function wordsOf(answer, told, code, retryAfterS) {
  const detail = told.detail || told.title || `The service answered ${answer.status}.`;
  if (answer.status === 401) return "You are not signed in any more: the key has expired or was revoked, or the session is over.";
  if (code === "unknown") return `${detail} It may have happened; the numbers will tell. Doing it again is harmless.`;
  if (answer.status === 429) return `${detail} Try again in ${retryAfterS ?? 1} s.`;
  if (answer.status >= 500) {
    const request = answer.headers.get("X-Request-Id");
    return request ? `${detail} (request ${request})` : detail;
  }
  return detail;
}
