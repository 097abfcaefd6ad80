// A view in words, by the parts of the card.

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const LIKELY = 0.95;
export const UNLIKELY = 0.05;
const MORE = { waiting: "kept", paused: "kept", admitted: "choose", removed: "ask" };

/** What each part of the card says: a text, paragraphs, or for the position the parts of a sentence. Nothing where it is empty. */
export function sentencesOf(view, words) {
  const { state, place, untilMs, proof } = view;
  const isAhead = place?.position && (state === "waiting" || state === "paused");
  const button = { ready: "join", trouble: "again" }[state];
  return {
    headline: words.text(state === "ready" && untilMs ? "soon" : state === "waiting" && !place.position ? "next" : state),
    clock: untilMs ? words.clock(untilMs) : "",
    position: isAhead ? words.parts("ahead", { n: place.position }) : [],
    details: detailsOf(view, words),
    notice: noticesOf(view, words),
    code: words.text("code"),
    button: button ? words.text(button) : "",
    proof: proof ? proofOf(proof, words) : "",
  };
}

/** What is said aloud of an announcement. */
export function spokenOf(news, view, words) {
  const { headline, position, details, notice } = sentencesOf(view, words);
  if (news === "notice") return notice.join(" ");
  if (typeof news === "number") return `${headline} ${words.unit(news, "second")}.`;
  const place = position.length ? [`${position.join("")}.`, ...details] : details;
  return (news === "place" ? place : [`${headline}.`, ...place, ...notice]).join(" ");
}

/** A refusal in the shopper's language; in the service's words where there are no others. */
export function sentenceOf({ code, detail }, words) {
  return words.has(code) ? words.text(code) : (detail ?? words.text("unreachable"));
}

function detailsOf({ state, problem, untilMs, startsAtMs, order, place }, words) {
  const { etaMs, chance, entryNumber, queueNumber } = place ?? {};
  const isToBeDrawn = order === "draw" && untilMs && queueNumber == null;
  const said = [];
  if (problem) said.push(sentenceOf(problem, words));
  if (state === "joined") said.push(words.text(isToBeDrawn ? "entry" : "number", { n: queueNumber ?? entryNumber }));
  if (state === "ready" || (state === "joined" && isToBeDrawn)) said.push(words.text(isToBeDrawn ? "drawn" : "arrival"));
  if (etaMs && state !== "called") said.push(waitText(etaMs, words));
  if (chance != null && state !== "called") said.push(chanceText(chance, words));
  if (untilMs) said.push(words.text("opens", { time: words.time(startsAtMs) }));
  if (MORE[state]) said.push(words.text(MORE[state]));
  return said;
}

function waitText([lowMs, highMs], words) {
  const [unit, unitMs] = highMs < 2 * HOUR_MS ? ["minute", MINUTE_MS] : ["hour", HOUR_MS];
  const low = Math.floor(lowMs / unitMs);
  const count = Math.ceil(highMs / unitMs);
  return words.text(low && low < count ? "range" : "up_to", { low, high: words.unit(count, unit) });
}

function chanceText(chance, words) {
  if (chance >= LIKELY) return words.text("likely");
  if (chance < UNLIKELY) return words.text("unlikely");
  return words.text("chance", { n: words.number(Math.round(10 * chance) / 10, { style: "percent" }) });
}

/** The service's own notices have a translation, by themselves; all others are the merchant's words. */
function noticesOf({ notice, away, hasPlace, lasts }, words) {
  const said = notice ? [notice.includes(" ") && words.has(notice) ? words.text(notice) : notice] : [];
  if (away) said.push(sentenceOf(away, words));
  if (away && hasPlace) said.push(words.text("safe"));
  if (hasPlace && !lasts) said.push(words.text("memory"));
  return said;
}

function proofOf({ verified, sentence }, words) {
  return verified ? words.text("checked") : words.text("unchecked", { why: sentence });
}
