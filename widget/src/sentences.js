// A view in words, by the parts of the card.

const COUNTED = { ready: "soon", admitted: "ending" };
const MORE = { waiting: "kept", paused: "kept", admitted: "choose", removed: "ask" };

/** What each part of the card says: a text, paragraphs, or for the position the parts of a sentence. Nothing where it is empty. */
export function sentencesOf(view, words) {
  const { state, place, untilMs, proof } = view;
  const isAhead = place?.position && (state === "waiting" || state === "paused");
  const button = { ready: "join", trouble: "again" }[state];
  return {
    headline: words.text((untilMs && COUNTED[state]) || (state === "waiting" && !place.position ? "next" : state)),
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
  const { headline, position, details, notice, proof } = sentencesOf(view, words);
  if (news === "notice") return notice.join(" ");
  if (news === "proof") return proof;
  const started = view.untilMs ? `${headline} ${timeText(typeof news === "number" ? 1000 * news : view.untilMs, words)}.` : `${headline}.`;
  if (typeof news === "number") return started;
  const place = position.length ? [`${position.join("")}.`, ...details] : details;
  return (news === "place" ? place : [started, ...place, ...notice]).join(" ");
}

/** A time in the largest unit that it has two of: a headline that ends in "in" goes on with it. */
function timeText(ms, words) {
  const [unit, unitMs] = ms < 120_000 ? ["second", 1_000] : ms < 7_200_000 ? ["minute", 60_000] : ["hour", 3_600_000];
  return words.unit(Math.ceil(ms / unitMs), unit);
}

/** A refusal in the shopper's language; in the service's words where there are no others. */
export function sentenceOf({ code, detail }, words) {
  return words.has(code) ? words.text(code) : (detail ?? words.text("unreachable"));
}

function detailsOf({ state, problem, untilMs, startsAtMs, order, place, inWords }, words) {
  const { entryNumber, queueNumber } = place ?? {};
  const isToBeDrawn = order === "draw" && untilMs && queueNumber == null;
  const said = [];
  if (problem) said.push(sentenceOf(problem, words));
  if (state === "joined") said.push(words.text(isToBeDrawn ? "entry" : "number", { n: queueNumber ?? entryNumber }));
  if (state === "ready" || (state === "joined" && isToBeDrawn)) said.push(words.text(isToBeDrawn ? "drawn" : "arrival"));
  if (place && state !== "called") said.push(...(inWords?.(place, words) ?? []));
  if (untilMs && startsAtMs) said.push(words.text("opens", { time: words.time(startsAtMs) }));
  if (MORE[state]) said.push(words.text(MORE[state]));
  return said;
}

/** The service's own notices have a translation, by themselves; all others are the merchant's words. */
function noticesOf({ notice, away, hasPlace, lasts }, words) {
  const said = notice ? [notice.includes(" ") && words.has(notice) ? words.text(notice) : notice] : [];
  if (away) said.push(sentenceOf(away, words));
  if (away && hasPlace) said.push(words.text("safe"));
  if (hasPlace && !lasts) said.push(words.text("memory"));
  return said;
}

/** Only with the commitment of before the drop is it told that its secret was not exchanged. */
function proofOf({ verified, remembered, sentence }, words) {
  return verified ? words.text(remembered ? "checked" : "followed") : words.text("unchecked", { why: sentence });
}
