// The service's interface. Everything that changes something carries a key of its own, so it may be repeated until it is answered.

const ATTEMPT_MS = 8_000;
const PATIENCE_MS = 45_000;
const isLater = (status) => status === 408 || status === 429 || status >= 500;

export class NoAnswer extends Error {}

const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));

async function once(method, path, { body, headers, keepalive = false, timeoutMs = ATTEMPT_MS }) {
  const answer = await fetch(path, {
    method,
    credentials: "omit",
    headers: { ...(body && { "Content-Type": "application/json" }), ...headers },
    body: body && JSON.stringify(body),
    keepalive,
    signal: AbortSignal.timeout(timeoutMs),
  });
  const document = await answer.json();
  return { status: answer.status, retryMs: 1000 * (Number(answer.headers.get("Retry-After")) || 1), document };
}

// Asks until there is an answer that is not "later": { status, document }. `onWait` is told of each wait. Throws NoAnswer at last.
export async function ask(method, path, options = {}) {
  const until = performance.now() + PATIENCE_MS;
  for (;;) {
    const answer = await once(method, path, options).catch(() => null);
    if (answer && !isLater(answer.status)) return answer;
    const waitMs = (answer?.retryMs ?? 1500) * (0.7 + 0.6 * Math.random()); // a crowd must not come back together
    if (performance.now() + waitMs > until) throw new NoAnswer("The shop does not answer.");
    options.onWait?.();
    await pause(waitMs);
  }
}

// The drop's clock in ms, whatever ours says: the serving document's time, carried on by a clock nobody sets. A document may be a
// second old, and that clock may stand while the machine sleeps: `now.isAtLeast(ms)` moves it on when something is known to have
// happened, `now.catchUp()` by asking again.
export async function dropClock(drop, options) {
  let ahead = -Infinity;
  const now = () => performance.now() + ahead;
  now.isAtLeast = (ms) => {
    ahead = Math.max(ahead, ms - performance.now());
  };
  now.catchUp = async (catching) => {
    const { document } = await ask("GET", `/v1/drops/${drop}/serving`, catching);
    now.isAtLeast(document.now_ms);
  };
  await now.catchUp(options);
  return now;
}

export async function readDrop(drop, options) {
  const { document } = await ask("GET", `/v1/drops/${drop}`, options);
  return { ...document, wares: Object.fromEntries((document.skus ?? []).map((sku) => [sku.sku, sku])) };
}

// The reservation as it is now: { found, said }. One that a loss has swallowed is brought back by its receipt. Where there is none,
// `found` is null, and `said` is why the receipt brought nothing back, if that was answered. Throws NoAnswer when nobody can tell.
export async function readReservation(id, receipt, options) {
  const path = `/v1/reservations/${id}`;
  const { status, document } = await ask("GET", path, options);
  if (status === 200) return { found: document };
  if (status !== 404) throw new NoAnswer(document.detail);
  if (!receipt) return { found: null };
  const restored = await ask("POST", `${path}/restore`, { ...options, body: { receipt } });
  if (restored.status === 200) return { found: restored.document };
  return { found: null, said: restored.status === 404 ? undefined : restored.document.detail };
}
