// Checks a draw in the browser: does my queue number follow from a draw that nobody could bend? docs/fairness.md explains each step.
//
//   import { verifyDraw } from "./verify-draw.js";
//   const verdict = await verifyDraw({ receipt, fairness, proof, jwks, commitment });
//   verdict.queue_number; verdict.passed; verdict.steps.forEach(({ name, passed, sentence }) => …);
//
// The same steps and sentences as `flashsale verify-draw` (admission/fairness.py); tests hold the two together. One file, nothing but
// WebCrypto, which browsers have on https pages and on localhost; it runs under Node as well.

const ROUNDS = 90; // SHUFFLE_ROUND_COUNT of the Ethereum consensus specifications
const ENTRIES_MAX = 1_000_000_000;
const RECEIPT_TYPE = "flashsale-receipt+merkle";
const RECEIPT_LENGTH_MAX = 4096;
const SIGNATURE_BYTES = 64;
const PATH_LENGTH_MAX = 64;
const TICKET_DIGEST_BYTES = 16;
const LOST_ENTRY = "A".repeat(43); // secret hash of an entry that a loss had swallowed before the draw
const LINES_MAX = 8;
const ANSWER_MS_MAX = 10_000;

const text = new TextEncoder();

/** A step has failed; it is the last one. */
class Refuted extends Error {}

/** What is wrong with a receipt, or that this browser cannot tell. */
class NotGenuine extends Error {}
class CannotCheck extends Error {}

/**
 * Whether a receipt's place in line follows from the draw. Stops at the first step that fails.
 *
 * `passed` of a step is true, false, or null where this browser cannot check it; `passed` of all is true only when every step is.
 * `fairness`, `proof` and `jwks` are the parsed documents, `proof` null when there is none; `commitment` is the one written down before.
 * Throws a TypeError when a document is none.
 */
export async function verifyDraw({ receipt, fairness, proof = null, jwks, commitment = null }) {
  requireShapes(fairness, proof, jwks, commitment);
  const steps = [];
  let queue_number = null;
  try {
    queue_number = await queueNumberOf(steps, receipt, fairness, proof, jwks, commitment);
  } catch (error) {
    if (!(error instanceof Refuted)) throw error;
  }
  return { queue_number, passed: steps.every((step) => step.passed === true), steps };
}

/** What a file's text is: "receipt", "fairness", "proof" or "jwks", with what `verifyDraw` takes for it; null for anything else. */
export function recognised(content) {
  const trimmed = content.trim();
  if (/^[\w-]+\.[\w-]+\.[\w-]+$/.test(trimmed)) return { part: "receipt", value: trimmed };
  let value;
  try {
    value = JSON.parse(trimmed);
  } catch {
    return null;
  }
  if (typeof value?.receipt === "string") return { part: "receipt", value: value.receipt };
  if (isFairness(value)) return { part: "fairness", value };
  if (isProof(value)) return { part: "proof", value };
  return Array.isArray(value?.keys) ? { part: "jwks", value } : null;
}

/** What to ask the service for, so that a receipt can be checked: {group, entry_number}; null where nothing was drawn for it (yet). */
export function proofWanted(receipt, fairness) {
  const { payload } = partsOf(receipt.split("."));
  const line = fairness.lines[payload.line ?? 0];
  if (payload.late || fairness.order === "arrival" || fairness.secret == null || line === undefined) return null;
  return { group: line.group, entry_number: payload.entry_number };
}

/**
 * `verifyDraw` with everything asked for at a service, `origin` being where it is, but the receipt, which is not sent, and the
 * `commitment` written down before the draw: only with one is it proven that the secret was not exchanged.
 * Throws when the draw has not been made yet, or what it was made from cannot be had or read just now; no answer is waited for
 * longer than ten seconds.
 */
export async function verifyPlace(origin, drop, receipt, commitment = null) {
  const document = async (address) => {
    const answer = await fetch(origin + address, { credentials: "omit", signal: AbortSignal.timeout(ANSWER_MS_MAX) });
    if (answer.status === 429 || answer.status >= 500) throw new Error(`${address} was answered ${answer.status}.`);
    return answer.ok ? answer.json() : null;
  };
  const address = `/v1/drops/${encodeURIComponent(drop)}/fairness`;
  const [fairness, jwks] = await Promise.all([document(address), document("/.well-known/jwks.json")]);
  if (!isFairness(fairness)) throw new TypeError("The fairness document cannot be read.");
  if (fairness.order === "draw" && fairness.secret == null) throw new Error("The draw has not been made yet.");
  const wanted = proofWanted(receipt, fairness);
  const group = wanted?.group ? `?group=${encodeURIComponent(wanted.group)}` : "";
  const proof = wanted && (await document(`${address}/proofs/${wanted.entry_number}${group}`));
  return verifyDraw({ receipt, fairness, proof, jwks, commitment });
}

/** The place in line of entry number `entry` of `entries` in the draw with this key: compute_shuffled_index of the specifications. */
export async function queueNumber(entry, entries, keyHex) {
  if (!isHash(keyHex)) throw new RangeError("The key of a draw is 64 hex digits.");
  if (!isCount(entries, ENTRIES_MAX) || !isCount(entry, entries - 1))
    throw new RangeError(`There is no number ${entry} in a draw of ${entries}.`);
  const key = fromHex(keyHex);
  const seeds = Array.from({ length: ROUNDS }, (_, round) => joined(key, Uint8Array.of(round)));
  const pivots = await Promise.all(seeds.map((seed) => pivotOf(seed, entries)));
  let number = entry;
  for (let round = 0; round < ROUNDS; round += 1) {
    const flip = (pivots[round] - number + entries) % entries;
    const position = Math.max(number, flip);
    const source = await sha256(joined(seeds[round], littleEndian(Math.floor(position / 256))));
    const at = position % 256;
    if ((source[at >> 3] >> (at & 7)) & 1) number = flip;
  }
  return number;
}

async function pivotOf(seed, entries) {
  const first = new DataView((await sha256(seed)).buffer).getBigUint64(0, true);
  return Number(first % BigInt(entries));
}

function littleEndian(number) {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, number, true);
  return bytes;
}

// ------------------------------------------------------------------------------------------------------------------ the steps

function check(steps, name, passed, good, bad) {
  steps.push({ name, passed, sentence: passed ? good : bad });
  if (!passed) throw new Refuted();
}

async function queueNumberOf(steps, receipt, fairness, proof, jwks, commitment) {
  const payload = await genuine(steps, receipt, jwks);
  const line = lineOf(steps, payload, fairness);
  const number = payload.entry_number;
  if (fairness.order === "arrival") {
    const good = `This drop serves people in order of arrival and draws nothing: your queue number is ${number}.`;
    steps.push({ name: "queue_number", passed: true, sentence: good });
    return number;
  }
  if (payload.late) {
    checkLate(steps, number, line);
    return number;
  }
  const secret = await committed(steps, fairness, commitment);
  const root = await entered(steps, payload, fairness, line, proof);
  const beacon = fairness.beacon ? fromHex(fairness.beacon.value) : new Uint8Array();
  const key = toHex(await sha256(joined(secret, root, bigEndian(proof.entries), beacon)));
  check(
    steps,
    "key",
    key === line.key,
    `The key follows from the secret, the root, the number of entries and the beacon. ${beaconWords(fairness.beacon)}`,
    "The key does not follow from the secret, the root, the number of entries and the beacon: the order was not drawn with it.",
  );
  const found = await queueNumber(number, proof.entries, key);
  const good = `Your queue number is ${found}: entry number ${number} of ${proof.entries}, shuffled by the key.`;
  steps.push({ name: "queue_number", passed: true, sentence: good });
  return found;
}

async function genuine(steps, receipt, jwks) {
  try {
    const payload = await readReceipt(receipt, jwks);
    steps.push({ name: "receipt", passed: true, sentence: "The receipt is genuine: a key of the service has signed it." });
    return payload;
  } catch (error) {
    if (error instanceof CannotCheck) {
      const sentence = "This browser cannot check Ed25519 signatures, so whether the receipt is genuine stays open; the rest is checked.";
      steps.push({ name: "receipt", passed: null, sentence });
      return error.payload;
    }
    if (!(error instanceof NotGenuine)) throw error;
    steps.push({ name: "receipt", passed: false, sentence: `The receipt is not genuine: ${error.message}.` });
    throw new Refuted();
  }
}

function lineOf(steps, payload, fairness) {
  const line = fairness.lines[payload.line ?? 0];
  check(
    steps,
    "drop",
    payload.drop === fairness.drop && line !== undefined,
    `Receipt and fairness document are of the same drop: ${fairness.drop}.`,
    payload.drop !== fairness.drop
      ? `The receipt is of the drop ${payload.drop} and the fairness document of ${fairness.drop}.`
      : "The receipt is of a line that the fairness document does not have.",
  );
  return line;
}

function checkLate(steps, number, line) {
  check(
    steps,
    "queue_number",
    line.entries == null || number >= line.entries,
    `You joined after the opening, behind everybody in the draw, in order of arrival: your queue number is ${number}.`,
    `The receipt says that you joined after the opening, but its number ${number} is one of the ${line.entries} that were drawn.`,
  );
}

async function committed(steps, fairness, remembered) {
  const refuted = (sentence) => check(steps, "commitment", false, "", sentence);
  if (remembered != null && remembered.toLowerCase() !== fairness.commitment)
    refuted("The commitment is not the one you remember: it was exchanged after you had seen it.");
  if (fairness.secret == null)
    refuted("The draw has not been made yet. Its secret is shown afterwards, and then everything can be checked.");
  const secret = fromHex(fairness.secret);
  check(
    steps,
    "commitment",
    toHex(await sha256(secret)) === fairness.commitment,
    remembered
      ? "The secret is the one committed to before the drop: its SHA-256 is the commitment you remember."
      : "The secret's SHA-256 is the commitment shown; that both were not exchanged, only one written down before the drop proves.",
    "The secret is not the one committed to before the drop: its SHA-256 is not the commitment.",
  );
  return secret;
}

async function entered(steps, payload, fairness, line, proof) {
  const number = payload.entry_number;
  const trouble = await troubleOf(payload, fairness, line, proof);
  check(steps, "proof", trouble === null, yours(payload), trouble);
  const leaf = await leafHash(fromBase64url(proof.secret_hash));
  const root = await rootFromPath(leaf, number, proof.entries, proof.path.map(fromHex));
  check(
    steps,
    "entry",
    root !== null && toHex(root) === line.root,
    "Your entry is under the root: you were in the draw.",
    "Your entry is not under the root: the draw was made from other entries than people joined with.",
  );
  check(
    steps,
    "entries",
    proof.entries === line.entries,
    `Proof and fairness document count the same entries: ${line.entries}.`,
    `The proof counts ${proof.entries} entries and the fairness document ${line.entries}.`,
  );
  return root;
}

async function troubleOf(payload, fairness, line, proof) {
  const number = payload.entry_number;
  if (proof == null) return `The proof of your entry is missing: the service gives it for the entry number ${number}.`;
  if (proof.drop !== fairness.drop || proof.group !== line.group) return "The proof is of another drop or another line than your receipt.";
  if (proof.entry_number !== number) return `The proof is of the entry number ${proof.entry_number}, and your receipt is of ${number}.`;
  return troubleOfSecret(payload, proof);
}

async function troubleOfSecret({ entry_number: number, ticket, secret_hash }, proof) {
  if (proof.secret_hash === LOST_ENTRY)
    return `The service had lost your entry when it made the draw: the entry number ${number} is drawn, but proves nobody's secret.`;
  if (ticket) {
    if ((await ticketOf(proof.drop, proof.secret_hash)) !== ticket)
      return `The proof is of somebody else's place: the draw has another ticket at entry number ${number} than the one your device shares.`;
  } else if (proof.secret_hash !== secret_hash)
    return `The proof is of somebody else's secret: the draw has another entry at your entry number ${number}.`;
  return null;
}

function yours({ ticket, entry_number }) {
  return ticket
    ? `The proof is of the place your device shares: entry number ${entry_number}, and the ticket it was joined with.`
    : `The proof is of your entry: it has your entry number ${entry_number} and your secret's hash.`;
}

/** The ticket that a secret hash joins a drop with: SHA-256 over the parts, each after its length in bytes. */
async function ticketOf(drop, secretHash) {
  const parts = ["ticket", drop, secretHash].map((part) => text.encode(part));
  const digest = await sha256(joined(...parts.flatMap((part) => [text.encode(`${part.length}:`), part])));
  return `${drop}.t${toBase64url(digest.subarray(0, TICKET_DIGEST_BYTES))}`;
}

function beaconWords(beacon) {
  if (beacon == null || beacon.value === "") return beacon?.why ? `There was no beacon: ${beacon.why}` : "There was no beacon.";
  if (beacon.kind === "drand") return `The beacon is round ${beacon.round} of drand; any drand client tells whether that is genuine.`;
  return "The beacon was brought by people, in a file.";
}

// ---------------------------------------------------------------------------------------------------------------- the receipt

/** The payload of a genuine receipt (admission/receipts.py tells the format). Throws NotGenuine, or CannotCheck with the payload. */
async function readReceipt(receipt, jwks) {
  const parts = typeof receipt === "string" ? receipt.split(".") : [];
  if (parts.length !== 3 || receipt.length > RECEIPT_LENGTH_MAX) throw new NotGenuine("a receipt has three parts joined by dots");
  const { header, payload, proof } = partsOf(parts);
  const key = jwks.keys.findLast((one) => one.kid === header.kid && isReceiptKey(one));
  if (key === undefined || header.typ !== RECEIPT_TYPE)
    throw new NotGenuine("the receipt names a key that is not one of the service's receipt keys");
  const path = proof.subarray(4, -SIGNATURE_BYTES);
  if (proof.length < 4 + SIGNATURE_BYTES || path.length % 32) throw new NotGenuine("the receipt's proof has the wrong length");
  const siblings = Array.from({ length: path.length / 32 }, (_, i) => path.subarray(32 * i, 32 * i + 32));
  const [index, count] = [proof[0] * 256 + proof[1], proof[2] * 256 + proof[3]];
  const root = await rootFromPath(await leafHash(text.encode(parts[1])), index, count, siblings);
  if (root === null) throw new NotGenuine("the receipt's path does not fit its place in the tree");
  const signed = joined(text.encode("flashsale-receipt-root\0"), await sha256(text.encode(parts[0])), root);
  const genuine = await isSigned(key, proof.subarray(-SIGNATURE_BYTES), signed);
  if (genuine === null) throw Object.assign(new CannotCheck(), { payload });
  if (!genuine) throw new NotGenuine("the signature does not match: the receipt was changed or is not from this service");
  return payload;
}

function partsOf(parts) {
  try {
    const utf8 = new TextDecoder("utf-8", { fatal: true });
    const [header, payload] = parts.slice(0, 2).map((part) => JSON.parse(utf8.decode(fromBase64url(part))));
    const known =
      [header.alg, header.kid, header.typ, payload.drop, payload.secret_hash].every((one) => typeof one === "string") &&
      Number.isSafeInteger(payload.entry_number) && typeof payload.late === "boolean" && Number.isSafeInteger(payload.at_ms) &&
      Number.isSafeInteger(payload.line ?? 0) && typeof (payload.ticket ?? "") === "string";
    if (!known) throw new SyntaxError();
    return { header, payload, proof: fromBase64url(parts[2]) };
  } catch {
    throw new NotGenuine("a part of the receipt cannot be read");
  }
}

function isReceiptKey(key) {
  return key.kty === "OKP" && key.crv === "Ed25519" && (key.purpose ?? "receipt") === "receipt";
}

/** Whether the signature is the key's; null when this browser knows no Ed25519. */
async function isSigned(key, signature, data) {
  let imported;
  try {
    imported = await crypto.subtle.importKey("raw", fromBase64url(key.x), { name: "Ed25519" }, false, ["verify"]);
  } catch (error) {
    if (error.name === "NotSupportedError") return null;
    throw new TypeError("The key set cannot be read.");
  }
  return crypto.subtle.verify({ name: "Ed25519" }, imported, signature, data);
}

// ------------------------------------------------------------------------------------------------- Merkle trees as in RFC 9162

function leafHash(data) {
  return sha256(joined(Uint8Array.of(0), data));
}

function nodeHash(left, right) {
  return sha256(joined(Uint8Array.of(1), left, right));
}

/** The root that a path leads to, or null when it has the wrong length for leaf `index` of `count`. */
async function rootFromPath(leaf, index, count, path) {
  if (index < 0 || index >= count) return null;
  const rest = path.values();
  let node = leaf;
  let last = count - 1;
  while (last > 0) {
    if (index % 2 || index < last) {
      const { value: sibling, done } = rest.next();
      if (done) return null;
      node = index % 2 ? await nodeHash(sibling, node) : await nodeHash(node, sibling);
    }
    index = Math.floor(index / 2);
    last = Math.floor(last / 2);
  }
  return rest.next().done ? node : null;
}

// ------------------------------------------------------------------------------------------------------------- bytes and shapes

async function sha256(data) {
  if (!globalThis.crypto?.subtle) throw new Error("This page cannot compute SHA-256: open it over https, or on localhost.");
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data));
}

function joined(...parts) {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function bigEndian(number) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(number));
  return bytes;
}

function fromHex(hex) {
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The bytes of base64url without padding; every value has exactly one spelling. */
function fromBase64url(part) {
  if (!/^[A-Za-z0-9_-]*$/.test(part)) throw new SyntaxError("not base64url");
  const raw = atob(part.replaceAll("-", "+").replaceAll("_", "/"));
  const bytes = Uint8Array.from(raw, (character) => character.charCodeAt(0));
  if (toBase64url(bytes) !== part) throw new SyntaxError("not canonical base64url");
  return bytes;
}

function toBase64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function isHash(value) {
  return typeof value === "string" && /^[0-9a-f]{64}$/.test(value);
}

function isCount(value, most) {
  return Number.isSafeInteger(value) && value >= 0 && value <= most;
}

const orNull = (test) => (value) => value == null || test(value);

function requireShapes(fairness, proof, jwks, commitment) {
  if (!isFairness(fairness)) throw new TypeError("The fairness document cannot be read.");
  if (proof != null && !isProof(proof)) throw new TypeError("The proof cannot be read.");
  if (!Array.isArray(jwks?.keys) || !jwks.keys.every((key) => key !== null && typeof key === "object"))
    throw new TypeError("The key set cannot be read.");
  if (commitment != null && !isHash(commitment.toLowerCase())) throw new TypeError("The commitment is 64 hex digits.");
}

function isFairness(one) {
  return (
    typeof one?.drop === "string" && ["draw", "arrival"].includes(one.order) && orNull(isHash)(one.commitment) &&
    orNull(isHash)(one.secret) && orNull(isBeacon)(one.beacon) &&
    Array.isArray(one.lines) && one.lines.length >= 1 && one.lines.length <= LINES_MAX && one.lines.every(isLine)
  );
}

function isBeacon(one) {
  return ["none", "drand", "file"].includes(one.kind) && typeof one.value === "string" && /^([0-9a-f]{2}){0,64}$/.test(one.value);
}

function isLine(one) {
  const isEntries = (count) => isCount(count, ENTRIES_MAX);
  return typeof one?.group === "string" && orNull(isHash)(one.root) && orNull(isHash)(one.key) && orNull(isEntries)(one.entries);
}

function isProof(one) {
  return (
    typeof one?.drop === "string" && typeof one.group === "string" &&
    isCount(one.entry_number, ENTRIES_MAX) && isCount(one.entries, ENTRIES_MAX) &&
    typeof one.secret_hash === "string" && /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/.test(one.secret_hash) &&
    Array.isArray(one.path) && one.path.length <= PATH_LENGTH_MAX && one.path.every(isHash)
  );
}
