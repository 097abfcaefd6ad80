// Asks the service. Never with cookies; every answer that can be used is a JSON object.

export const ANSWER_MS_MAX = 10_000;
const RETRY_AFTER_MS_MAX = 300_000;

/** The error of an answer that is not to be had just now. `retryMs`: what the service asked us to wait, or 0. */
export const unavailable = (retryMs) => Object.assign(new Error("unreachable"), { code: "unreachable", retryMs: Math.min(retryMs, RETRY_AFTER_MS_MAX) });

/** The answer as `{status, …document}`. Throws `unavailable` when there is none, or one that says to come back later. */
export async function ask(method, address, { body, authorization } = {}) {
  let answer, content;
  try {
    answer = await fetch(address, {
      method,
      credentials: "omit",
      headers: { ...(body && { "Content-Type": "application/json" }), ...(authorization && { Authorization: authorization }) },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    });
    content = await answer.json();
  } catch {
    throw unavailable(0);
  }
  if (answer.status === 429 || answer.status >= 500) throw unavailable(1000 * answer.headers.get("Retry-After") || 0);
  return { ...content, status: answer.status };
}
