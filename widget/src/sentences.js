// A view in words.

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const LIKELY = 0.95;
const UNLIKELY = 0.05;
const DETAIL = {
  admitted: "choose", recovering: "kept", paused: "kept", removed: "taken", moved: "elsewhere", waiting: "reload",
};

/** All that stands on the card: {headline, position: parts|null, clock, details: […], notices: […], proof}. */
export function sentencesOf(view, words) {
  return {
    headline: words.text(headlineKey(view)),
    position: view.position && ["waiting", "paused"].includes(view.state) ? words.parts("ahead", { n: view.position }) : null,
    clock: view.untilMs === null ? "" : words.clock(view.untilMs),
    details: detailsOf(view, words),
    notices: noticesOf(view, words),
    proof: view.proof ? proofOf(view.proof, words) : "",
  };
}

/** What is said aloud of an announcement. */
export function spokenOf({ topic, seconds }, view, words) {
  const { headline, position, details, notices } = sentencesOf(view, words);
  if (topic === "countdown") return words.text("in", { headline, time: words.unit(seconds, "second") });
  if (topic === "notice") return notices.join(" ");
  const place = position ? `${position.join("")}.` : "";
  const all = topic === "state" ? [`${headline}.`, place, ...details, ...notices] : [place, ...details];
  return all.filter(Boolean).join(" ");
}

/** A refusal in the shopper's language; in the service's words where there are no others. */
export function sentenceOf({ code, detail }, words) {
  return words.has(code) ? words.text(code) : (detail ?? words.text("unreachable"));
}

function headlineKey({ state, untilMs, position }) {
  if (state === "ready" && untilMs !== null) return "soon";
  return state === "waiting" && position === 0 ? "next" : state;
}

function detailsOf(view, words) {
  const { state, problem, untilMs, opensAtMs, order, entryNumber, queueNumber } = view;
  if (problem) return [sentenceOf(problem, words)];
  const said = [];
  if (state === "joined")
    said.push(queueNumber === null ? words.text("entry", { n: entryNumber }) : words.text("number", { n: queueNumber }));
  if (state === "ready" && order) said.push(words.text(order !== "draw" || untilMs === null ? "arrival" : "drawn"));
  if (state !== "paused") said.push(waitText(view, words));
  said.push(chanceText(view, words));
  if (untilMs !== null) said.push(words.text("opens", { time: words.time(opensAtMs) }));
  if (DETAIL[state]) said.push(words.text(DETAIL[state]));
  return said.filter(Boolean);
}

function waitText({ etaMs, state }, words) {
  if (!etaMs || state === "called") return "";
  const [lowMs, highMs] = etaMs;
  if (highMs < MINUTE_MS) return words.text("at_once");
  const [unit, unitMs] = highMs < 2 * HOUR_MS ? ["minute", MINUTE_MS] : ["hour", HOUR_MS];
  const low = Math.floor(lowMs / unitMs);
  const count = Math.ceil(highMs / unitMs);
  const high = words.unit(count, unit);
  if (low === 0) return words.text("up_to", { high });
  return words.text(low === count ? "about" : "range", { low, high });
}

function chanceText({ chance, state }, words) {
  if (chance === null || state === "called") return "";
  if (chance >= LIKELY) return words.text("likely");
  if (chance < UNLIKELY) return words.text("unlikely");
  return words.text("chance", { n: words.number(Math.round(10 * chance) / 10, { style: "percent" }) });
}

function noticesOf({ notice, away, placed, lasts }, words) {
  const isStandard = notice?.includes(" ") && words.has(notice); // said by the service itself; all else are the merchant's words
  const said = [isStandard ? words.text(notice) : notice];
  if (away) said.push(sentenceOf(away, words), placed ? words.text("safe") : "");
  if (placed && !lasts) said.push(words.text("memory"));
  return said.filter(Boolean);
}

function proofOf({ verified, sentence }, words) {
  return verified ? words.text("checked") : words.text("unchecked", { why: sentence ?? words.text("no_documents") });
}
