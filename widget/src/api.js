// Asks the service. Never with cookies; every answer that can be used is a JSON object.

const ANSWER_MS_MAX = 10_000;
const RETRY_AFTER_MS_MAX = 300_000;

/** There is no usable answer just now. `code` is "unreachable" or "busy"; `retryMs` what the service asked us to wait, or 0. */
export class Unavailable extends Error {
  constructor(code, retryMs = 0) {
    super(code);
    this.code = code;
    this.retryMs = Math.min(retryMs, RETRY_AFTER_MS_MAX);
  }
}

/** The service refuses; `code` and message are those of its problem document. */
export class Refusal extends Error {
  constructor({ code, detail }) {
    super(detail);
    this.code = code;
  }
}

/** The service's answer as `{status, …document}`. Throws Unavailable when there is none, or one that says to come back later. */
export async function ask(send, method, address, { body, authorization } = {}) {
  let answer, content;
  try {
    answer = await send(address, {
      method,
      credentials: "omit",
      headers: { ...(body && { "Content-Type": "application/json" }), ...(authorization && { Authorization: authorization }) },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    });
    content = await answer.json();
  } catch {
    throw new Unavailable("unreachable");
  }
  if (answer.status === 429 || answer.status >= 500) throw new Unavailable("busy", 1000 * answer.headers.get("Retry-After") || 0);
  return { status: answer.status, ...content };
}
