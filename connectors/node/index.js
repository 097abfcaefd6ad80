/**
 * Verifies admission tokens at the shop's door: Express, edge workers, anything with WebCrypto and fetch.
 *
 * A token is a JWT signed with Ed25519. Following RFC 8725, the algorithm belongs to the key and is never taken from the token, the type
 * is explicit, `kid` only picks one of the keys already known, and nothing a token points to is fetched.
 */

import { base64url, compactVerify, importJWK } from "jose";
import { PAGE, SCRIPT } from "./entrance.js";

const TOKEN_TYPE = "flashsale-admission+jwt";
const TOKEN_LENGTH_MAX = 4096;
const TOKEN_FORM = /^[\w-]+\.[\w-]+\.[\w-]+$/;
/** Names of the one algorithm there is, the old and the new one (RFC 9864). */
const ALGORITHMS = ["EdDSA", "Ed25519"];
const KEYS_MAX = 32;
const KID_LENGTH_MAX = 128;
const LIFE_MAX_S = 600;
const CLOCKS_APART_S = 30;
const VERIFIED_TOKENS_MAX = 4096;

const DOCUMENT_BYTES_MAX = 262_144;
const KEYS_FRESH_MS = 300_000;
const KEYS_RETRY_MS = 60_000;
const EPOCH_FRESH_MS = 15_000;
const EPOCH_RETRY_MS = 5_000;
const FIRST_RETRY_MS = 2_000;
const FRESH_MIN_MS = 1_000;
const FRESH_MAX_MS = 86_400_000;
const DROPS_MAX = 256;

const COOKIE = "flashsale_admission";
const ENTRANCE = "/flashsale/enter";
const RETURN_LENGTH_MAX = 2000;
const RETRY_AFTER_S = 5;
const PAGE_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const DETAILS = {
  token_missing: "An admission token is needed here; the waiting room gives one.",
  token_invalid: "The admission token is not genuine.",
  token_expired: "The admission token has expired; the waiting room gives another.",
  token_early: "The admission token is not in force yet.",
  wrong_issuer: "The admission token was issued by another service.",
  wrong_audience: "The admission token is meant for another shop.",
  wrong_drop: "The admission token is for another drop.",
  old_epoch: "The admission token is from before the drop was put together again; the waiting room gives another.",
  keys_unavailable: "Admission tokens cannot be verified just now. Try again in a moment.",
};

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Workers of some platforms must not wait for a request that another request has started. */
const SHARES_REQUESTS = globalThis.navigator?.userAgent !== "Cloudflare-Workers";

const refused = (code) => ({ admission: null, refusal: { code, detail: DETAILS[code] } });

function decoded(text) {
  const bytes = base64url.decode(text);
  if (base64url.encode(bytes) !== text) throw new TypeError("not canonical base64url");
  return bytes;
}

/**
 * The members of a JSON object in its shortest spelling, which is how the service writes it. Whatever does not come back the same is
 * refused: a member said twice, of which another reader may take the other one, or a number with a fraction.
 */
function members(bytes) {
  const text = utf8.decode(bytes);
  const value = JSON.parse(text);
  if (value === null || typeof value !== "object" || Array.isArray(value) || JSON.stringify(value) !== text) {
    throw new TypeError("not JSON as the service writes it");
  }
  return value;
}

/** The token taken apart, or null when it does not even look like one of the service's. Nothing in it is believed yet. */
function unseal(token) {
  if (token.length > TOKEN_LENGTH_MAX || !TOKEN_FORM.test(token)) return null;
  try {
    const [header, payload, signature] = token.split(".").map(decoded);
    const { alg, kid, typ, ...others } = members(header);
    if (!ALGORITHMS.includes(alg) || typ !== TOKEN_TYPE || "crit" in others || typeof kid !== "string" || !signature.length) return null;
    return { kid, token, payload };
  } catch {
    return null;
  }
}

const isWhole = (value) => Number.isSafeInteger(value) && value >= 0;

function wellFormed(claims) {
  return (
    [claims.iss, claims.aud, claims.sub, claims.drop, claims.jti].every((value) => typeof value === "string") &&
    [claims.epoch, claims.iat, claims.nbf, claims.exp].every(isWhole)
  );
}

/** The keys for admission tokens of a JWK set, by `kid`. Others in the set are passed over. */
async function readKeys(document) {
  const entries = document?.keys;
  if (!Array.isArray(entries) || entries.length > KEYS_MAX) {
    throw new TypeError(`not a JWK set of at most ${KEYS_MAX} keys: {"keys": [...]}`);
  }
  const keys = new Map();
  for (const { kty, crv, kid, x, alg, use, purpose } of entries.filter((entry) => entry && typeof entry === "object")) {
    const fits =
      kty === "OKP" && crv === "Ed25519" && (alg === undefined || ALGORITHMS.includes(alg)) && (use ?? "sig") === "sig";
    if (!fits || (purpose ?? "admission") !== "admission") continue;
    if (typeof kid !== "string" || kid.length < 1 || kid.length > KID_LENGTH_MAX || typeof x !== "string") continue;
    try {
      keys.set(kid, { x, key: await importJWK({ kty, crv, x }, ALGORITHMS[0]) });
    } catch {
      // A key that cannot be used is as if it were not there.
    }
  }
  return keys;
}

/** One public document of the service, kept. When the service is away, the last good one stays in use. */
class CachedDocument {
  value = null;
  #load;
  #retryMs;
  #staleAt = -Infinity;
  #retryAt = -Infinity;
  #flight = null;

  constructor(load, retryMs) {
    this.#load = load;
    this.#retryMs = retryMs;
  }

  get stale() {
    return performance.now() >= this.#staleAt;
  }

  /** Asks for it anew; null when the last request was too recent. Whoever wants it shares the one request. */
  renew() {
    if (this.#flight && SHARES_REQUESTS) return this.#flight;
    const first = this.value === null && !SHARES_REQUESTS;
    if (performance.now() < this.#retryAt && !first) return null;
    // Set before anything is awaited: a crowd makes one request.
    this.#retryAt = performance.now() + FIRST_RETRY_MS;
    this.#flight = this.#fetch().finally(() => {
      this.#flight = null;
    });
    return this.#flight;
  }

  async #fetch() {
    try {
      const { value, freshMs } = await this.#load();
      this.value = value;
      this.#staleAt = performance.now() + Math.min(Math.max(freshMs, FRESH_MIN_MS), FRESH_MAX_MS);
    } catch {
      // Without an answer, what is there stays in use.
    }
    this.#retryAt = performance.now() + (this.value === null ? FIRST_RETRY_MS : this.#retryMs);
  }
}

/** Tells good admission tokens from all others. One is enough for a process. */
export class AdmissionVerifier {
  #issuer;
  #audience;
  #minEpoch;
  #servingUrl;
  #timeoutMs;
  #now;
  #request;
  #keys;
  #epochs = new Map();
  #genuine = new Map();

  constructor({
    jwksUrl = "",
    jwks = null,
    issuer = "flashsale",
    audience = "storefront",
    drop = null,
    minEpoch = 0,
    servingUrl = "",
    timeoutMs = 2000,
    now = Date.now,
    fetch: request = (...args) => globalThis.fetch(...args),
  }) {
    if (Boolean(jwksUrl) === Boolean(jwks)) {
      throw new TypeError("AdmissionVerifier takes jwksUrl, the address of the service's keys, or jwks, the keys themselves");
    }
    if (jwks && !Array.isArray(jwks.keys)) throw new TypeError('jwks is a JWK set: {"keys": [...]}');
    if (servingUrl && !servingUrl.includes("{drop}")) {
      throw new TypeError("servingUrl names the drop as {drop}, for example https://queue.shop.example/v1/drops/{drop}/serving");
    }
    this.drop = drop;
    this.#issuer = issuer;
    this.#audience = audience;
    this.#minEpoch = minEpoch;
    this.#servingUrl = servingUrl;
    this.#timeoutMs = timeoutMs;
    this.#now = now;
    this.#request = request;
    const load = jwks
      ? async () => ({ value: await readKeys(jwks), freshMs: Infinity })
      : async () => {
          const { document, freshMs } = await this.#get(jwksUrl);
          const value = await readKeys(document);
          if (value.size === 0) throw new TypeError("the set holds no key for admission tokens");
          return { value, freshMs: freshMs ?? KEYS_FRESH_MS };
        };
    this.#keys = new CachedDocument(load, KEYS_RETRY_MS);
  }

  /**
   * What a token permits, or why it permits nothing.
   *
   * `waitUntil` is an edge worker's: it keeps the worker until keys have been renewed that are only used from the next request on.
   */
  async verify(token, { waitUntil } = {}) {
    if (!token) return refused("token_missing");
    const sealed = unseal(token);
    if (!sealed) return refused("token_invalid");
    await this.#atHand(this.#keys, !this.#keys.value?.has(sealed.kid), waitUntil);
    if (!this.#keys.value) return refused("keys_unavailable");
    const claims = await this.#claims(sealed);
    const code = claims ? this.#fault(claims) : "token_invalid";
    if (code) return refused(code);
    if (claims.epoch < (await this.#epoch(claims.drop, waitUntil))) return refused("old_epoch");
    return {
      admission: {
        subject: claims.sub,
        drop: claims.drop,
        epoch: claims.epoch,
        tokenId: claims.jti,
        issuedAtMs: claims.iat * 1000,
        expiresAtMs: claims.exp * 1000,
      },
      refusal: null,
    };
  }

  /** The claims of a genuine token; null of any other. Those seen before are remembered. */
  async #claims({ token, kid, payload }) {
    const known = this.#keys.value.get(kid);
    if (!known) return null;
    const before = this.#genuine.get(token);
    if (before?.x === known.x) return before.claims;
    try {
      await compactVerify(token, known.key, { algorithms: ALGORITHMS });
      const claims = members(payload);
      if (!wellFormed(claims)) return null;
      this.#genuine.set(token, { x: known.x, claims });
      if (this.#genuine.size > VERIFIED_TOKENS_MAX) this.#genuine.delete(this.#genuine.keys().next().value);
      return claims;
    } catch {
      return null;
    }
  }

  /** What is wrong with genuine claims, here and now; null when nothing is. */
  #fault({ iss, aud, drop, iat, nbf, exp }) {
    const nowS = this.#now() / 1000;
    if (exp <= iat || exp - iat > LIFE_MAX_S) return "token_invalid";
    if (iss !== this.#issuer) return "wrong_issuer";
    if (aud !== this.#audience) return "wrong_audience";
    if (nbf > nowS + CLOCKS_APART_S) return "token_early";
    if (exp <= nowS - CLOCKS_APART_S) return "token_expired";
    return this.drop !== null && drop !== this.drop ? "wrong_drop" : null;
  }

  /** Only ever asked for drops of genuine tokens, so nobody can fill the table. */
  async #epoch(drop, waitUntil) {
    if (!this.#servingUrl) return this.#minEpoch;
    let document = this.#epochs.get(drop);
    if (!document) {
      const url = this.#servingUrl.replaceAll("{drop}", encodeURIComponent(drop));
      document = new CachedDocument(() => this.#loadEpoch(url), EPOCH_RETRY_MS);
      if (this.#epochs.size >= DROPS_MAX) this.#epochs.clear();
      this.#epochs.set(drop, document);
    }
    await this.#atHand(document, document.value === null, waitUntil);
    return Math.max(this.#minEpoch, document.value ?? 0);
  }

  async #loadEpoch(url) {
    const { document } = await this.#get(url);
    if (!Number.isSafeInteger(document?.epoch)) throw new TypeError("not a serving document");
    return { value: document.epoch, freshMs: EPOCH_FRESH_MS };
  }

  /** Waits for a document that is needed; one that is only stale is renewed behind the caller's back. */
  async #atHand(document, needed, waitUntil) {
    if (!needed && !document.stale) return;
    const flight = document.renew();
    if (needed) await flight;
    else if (flight) waitUntil?.(flight);
  }

  /** A JSON document: following nowhere, bounded in time and size. */
  async #get(url) {
    const answer = await this.#request(url, { redirect: "manual", signal: AbortSignal.timeout(this.#timeoutMs) });
    if (answer.status !== 200) throw new TypeError(`the answer is ${answer.status}`);
    let text = "";
    let bytes = 0;
    const decoder = new TextDecoder();
    const reader = answer.body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      bytes += part.value.byteLength;
      if (bytes > DOCUMENT_BYTES_MAX) {
        await reader.cancel();
        throw new TypeError(`the answer has more than ${DOCUMENT_BYTES_MAX} bytes`);
      }
      text += decoder.decode(part.value, { stream: true });
    }
    const maxAge = /(?:^|[\s,])max-age=(\d{1,9})(?=$|[\s,])/i.exec(answer.headers.get("cache-control") ?? "");
    return { document: JSON.parse(text + decoder.decode()), freshMs: maxAge ? Number(maxAge[1]) * 1000 : null };
  }
}

/** The first value of a cookie in a Cookie header; empty when there is none. */
function cookieValue(header, name) {
  for (const pair of header.split(";")) {
    const [key, ...value] = pair.trim().split("=");
    if (key === name) return value.join("=");
  }
  return "";
}

/** A path with its dots and double slashes resolved. */
function resolved(path) {
  const kept = [];
  for (const segment of path.split("/")) {
    if (segment === "..") kept.pop();
    else if (segment && segment !== ".") kept.push(segment);
  }
  return `/${kept.join("/")}`;
}

function decodedPath(path) {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

/**
 * The path and the query of a request's target, the way frameworks read them: without the scheme and host of the absolute form, cut at the
 * first "#", with a backslash for a slash.
 */
function targetOf(target) {
  const [path, ...query] = target.split("#", 1)[0].split("?");
  const local = path.replaceAll("\\", "/").replace(/^[^/]*:\/\/[^/]*/, "");
  return { path: local || "/", search: query.length ? `?${query.join("?")}` : "" };
}

function page(body, type) {
  const headers = {
    "Content-Type": `${type}; charset=utf-8`,
    "Cache-Control": "no-cache",
    "Content-Security-Policy": PAGE_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
  };
  return { status: 200, headers, body };
}

/** Keeps a shop's door: what is asked for is let through, led to the waiting page, or refused. */
export class Door {
  #verifier;
  #waitingPage;
  #origin;
  #paths;
  #cookie;
  #entrance;
  #pages = new Map();

  constructor({ verifier, waitingPage = "", origin = "", paths = ["/"], cookie = COOKIE, entrance = ENTRANCE }) {
    if (!/^[\w-]{1,64}$/.test(cookie)) throw new TypeError("the cookie's name has 1 to 64 letters, digits, '_' and '-'");
    if (waitingPage && !/^https?:\/\//.test(waitingPage)) {
      throw new TypeError("waitingPage is an address like https://queue.shop.example/drops/launch");
    }
    if (![...paths, entrance || "/"].every((path) => path.startsWith("/"))) throw new TypeError("paths and the entrance begin with '/'");
    this.#verifier = verifier;
    this.#waitingPage = waitingPage;
    this.#origin = origin;
    this.#paths = paths.map((path) => path.toLowerCase().replace(/\/+$/, ""));
    this.#cookie = cookie;
    this.#entrance = entrance;
    if (entrance) {
      const own = PAGE.replace('src="enter.js"', `src="${entrance}.js"`).replace(`data-cookie="${COOKIE}"`, `data-cookie="${cookie}"`);
      this.#pages.set(entrance, page(own, "text/html")).set(`${entrance}.js`, page(SCRIPT, "text/javascript"));
    }
  }

  /**
   * For the Fetch API: `{admission, response}`. With a response, that is the answer; without one the request may go on, and `admission`
   * is whose it is (null outside of the paths that are kept).
   */
  async verify(request, { waitUntil } = {}) {
    const { pathname, search, origin } = new URL(request.url);
    const asked = { method: request.method, path: pathname, search, origin, header: (name) => request.headers.get(name) ?? "" };
    const { admission, answer } = await this.#judge(asked, waitUntil);
    if (!answer) return { admission, response: null };
    const body = request.method === "HEAD" ? null : answer.body;
    return { admission, response: new Response(body, { status: answer.status, headers: answer.headers }) };
  }

  /** Middleware for Express, Connect and node:http. Behind it, `request.flashsale` is the shopper's admission. */
  express() {
    return async (request, response, next) => {
      try {
        const scheme = request.protocol ?? (request.socket.encrypted ? "https" : "http");
        const { admission, answer } = await this.#judge({
          method: request.method,
          ...targetOf(request.originalUrl ?? request.url),
          origin: `${scheme}://${request.headers.host ?? "localhost"}`,
          header: (name) => request.headers[name] ?? "",
        });
        if (!answer) {
          request.flashsale = admission;
          next();
          return;
        }
        response.statusCode = answer.status;
        for (const [name, value] of Object.entries(answer.headers)) response.setHeader(name, value);
        response.end(request.method === "HEAD" ? undefined : answer.body);
      } catch (error) {
        next(error);
      }
    };
  }

  async #judge(asked, waitUntil) {
    const reading = asked.method === "GET" || asked.method === "HEAD";
    const own = reading && this.#pages.get(asked.path);
    if (own) return { admission: null, answer: own };
    if (!this.#covers(decodedPath(asked.path))) return { admission: null, answer: null };
    const { admission, refusal } = await this.#verifier.verify(this.#token(asked), { waitUntil });
    return { admission, answer: refusal && this.#refuse(asked, refusal, reading) };
  }

  /**
   * In any spelling that a framework may take for a path that is kept: to Express, small and capital letters are the same; to whoever makes
   * a URL of the target, what follows two slashes is a host.
   */
  #covers(path) {
    const written = path.toLowerCase();
    const spellings = [written, resolved(written), resolved(written.replace(/^\/\/+[^/]*/, ""))];
    return spellings.some((spelt) => this.#paths.some((prefix) => spelt === prefix || spelt.startsWith(`${prefix}/`)));
  }

  #token({ header }) {
    // The cookie first: a shop may have bearers of its own, for other purposes.
    const [, bearer = ""] = /^bearer +(.+)$/i.exec(header("authorization")) ?? [];
    return cookieValue(header("cookie"), this.#cookie) || bearer.trim();
  }

  #refuse(asked, refusal, reading) {
    const { code, detail } = refusal;
    const away = code === "keys_unavailable";
    const leads = this.#waitingPage && !away;
    const mode = asked.header("sec-fetch-mode");
    if (leads && reading && (mode ? mode === "navigate" : asked.header("accept").includes("text/html"))) {
      return { status: 303, headers: { Location: this.#wayIn(asked), "Cache-Control": "no-store" }, body: "" };
    }
    const status = away ? 503 : 403;
    const problem = { type: `urn:flashsale:problem:${code}`, title: "Not let in", status, detail, code };
    const headers = { "Content-Type": "application/problem+json", "Cache-Control": "no-store" };
    if (away) headers["Retry-After"] = String(RETRY_AFTER_S);
    return { status, headers, body: JSON.stringify(leads ? { ...problem, waiting_page: this.#waitingPage } : problem) };
  }

  /** The waiting page with the address to come back to. */
  #wayIn({ path, search, origin }) {
    const home = this.#origin || origin;
    let back = home + (this.#entrance ? `${this.#entrance}?to=${encodeURIComponent(path + search)}` : path + search);
    if (back.length > RETURN_LENGTH_MAX) back = home + (this.#entrance || "/");
    return `${this.#waitingPage}${this.#waitingPage.includes("?") ? "&" : "?"}return=${encodeURIComponent(back)}`;
  }
}
