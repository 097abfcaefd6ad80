// What one place can be told, from the serving document alone: position, waiting time, chance, and when to look again.
// No dependencies; for browsers and Node. The same arithmetic as admission/outlook.py, held to it by shared vectors.

const LINE_STRIDE = 1_000_000_000;
const CHANCE_MIN_FOR_ETA = 0.5;
const SPREAD_PLACES = 0.6;
const ROOM_SPREAD = 0.1;
const LEAST_SPREAD_MS = 600;
const UNDRAWN_QUANTILES = 10;
const POLL_JITTER = 0.3;
const MOVING = new Set(["scheduled", "waiting", "open"]);

/**
 * The outlook of a place; with null of an entry before the draw, which may get any place of the line `entryLine`.
 * @returns {{position: number|null, eta_ms: [number, number]|null, chance: number|null}} `eta_ms`: P10 and P90 of the wait
 *   until the place is called; `chance`: probability that the stock reaches it; null where nothing honest can be said.
 */
export function outlook(document, place, entryLine = 0) {
  const line = place === null ? entryLine : Math.floor(place / LINE_STRIDE);
  const lines = waitingIn(document);
  if (line >= lines.length) return { position: null, eta_ms: null, chance: null };
  if (place === null) return undrawn(document, lines, line);
  const number = place % LINE_STRIDE;
  const servingNumber = document.groups ? document.groups[line].serving_number : document.serving_number;
  const position = Math.max(0, number - servingNumber);
  const before = passedBefore(lines, line, position);
  const odds = chanceAfter(document, before);
  const eta = isHopeless(odds) ? null : etaMs(document, before, number < servingNumber);
  return { position, eta_ms: eta, chance: odds };
}

/** Milliseconds until the next look: clamp(floor, ceiling, wait / divisor), give or take 30 %. `random()` is in 0..1. */
export function nextPollMs(document, waitMs, random = Math.random) {
  const { floor_ms: floor, ceiling_ms: ceiling, divisor } = document.poll;
  return Math.min(ceiling, Math.max(floor, waitMs / divisor)) * (1 - POLL_JITTER + 2 * POLL_JITTER * random());
}

/** Probability that those before a place leave a unit, by the normal approximation; null when it is unknown. */
function chanceAfter(document, before) {
  if (document.sold_out || document.state === "closed") return 0;
  const reach = document.reach;
  if (!reach || document.state === "recovering") return null;
  const places = before + reach.undecided;
  const margin = reach.units - 0.5 - places * reach.mean;
  const taking = reach.units < 0.5 ? 0 : places; // what those ahead take differently leaves nothing either
  const variance = reach.units_spread ** 2 + taking * reach.spread ** 2 + (taking * reach.uncertainty) ** 2;
  if (variance <= 0) return margin >= 0 ? 1 : 0;
  return normal(margin / Math.sqrt(variance));
}

/** Places passed in all lines before the one at `position` of `line`: lines with somebody waiting move by their shares. */
function passedBefore(lines, line, position) {
  const left = lines.map(([waiting]) => waiting);
  left[line] = position;
  let passed = 0;
  while (left[line] > 0) {
    const spans = lines.map(([, share], i) => (left[i] > 0 && share > 0 ? left[i] / share : Infinity));
    const span = Math.min(...spans);
    if (span === Infinity) return passed + left[line];
    lines.forEach(([, share], i) => {
      if (left[i] <= 0 || share <= 0) return;
      passed += span * share;
      left[i] = spans[i] <= span ? 0 : left[i] - span * share;
    });
  }
  return passed;
}

/** The normal distribution function (Zelen and Severo 1964, in Abramowitz and Stegun 26.2.17; error below 7.5e-8). */
function normal(z) {
  const t = 1 / (1 + 0.2316419 * Math.abs(z));
  const series = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  const tail = (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * series;
  return z >= 0 ? 1 - tail : tail;
}

function waitingIn(document) {
  if (!document.groups) return [[Math.max(0, document.joined - document.serving_number), 1]];
  return document.groups.map((line) => [Math.max(0, line.joined - line.serving_number), line.share_permille]);
}

function isHopeless(odds) {
  return odds !== null && odds < CHANCE_MIN_FOR_ETA;
}

function etaMs(document, before, called) {
  const pace = document.pace;
  if (!MOVING.has(document.state) || !pace) return null;
  if (called) return [0, 0];
  if (pace.low_per_min <= 0 || pace.high_per_min <= 0 || pace.free_per_min <= 0) return null;
  const openingMs = Math.max(0, document.opens_at_ms - document.now_ms);
  const places = before + 1;
  const atOnce = Math.min(places, pace.free);
  const then = places - atOnce;
  const spread = SPREAD_PLACES * Math.sqrt(then);
  const headMs = (atOnce * 60_000) / pace.free_per_min;
  const lowMs = headMs * (1 - ROOM_SPREAD) + (Math.max(0, then - spread) * 60_000) / pace.high_per_min;
  const heldMs = places > pace.held_after ? pace.held_ms : 0;
  const highMs = headMs * (1 + ROOM_SPREAD) + ((then + spread) * 60_000) / pace.low_per_min + heldMs;
  return [openingMs + Math.floor(Math.max(0, lowMs - LEAST_SPREAD_MS)), openingMs + Math.floor(highMs + LEAST_SPREAD_MS)];
}

/** The outlook of somebody whose lot has not been drawn: P10 and P90 over all places there are, and the mean chance. */
function undrawn(document, lines, line) {
  const people = lines[line][0];
  const before = (part) => passedBefore(lines, line, Math.floor(people * part));
  const quantiles = Array.from({ length: UNDRAWN_QUANTILES }, (_, i) => (i + 0.5) / UNDRAWN_QUANTILES);
  const known = quantiles.map((part) => chanceAfter(document, before(part))).filter((odds) => odds !== null);
  const chance = known.length ? known.reduce((sum, odds) => sum + odds, 0) / known.length : null;
  const first = etaMs(document, before(0.1), false);
  const last = etaMs(document, before(0.9), false);
  const eta = first === null || last === null || isHopeless(chance) ? null : [first[0], last[1]];
  return { position: null, eta_ms: eta, chance };
}
