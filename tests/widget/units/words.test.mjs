import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { inWords } from "../../../widget/src/place.js";
import { sentencesOf, spokenOf } from "../../../widget/src/sentences.js";
import "./stage.mjs";

const { wordsIn, wordsOf } = await import("../../../widget/src/languages.js");

const FOLDER = new URL("../../../widget/src/languages/", import.meta.url);
const LANGUAGES = readdirSync(FOLDER).map((name) => name.slice(0, 2));
const read = (name) => JSON.parse(readFileSync(new URL(`../../../widget/src/${name}`, import.meta.url), "utf-8"));
const english = read("languages/en.json");
const words = wordsIn("en", english);
const placeholders = (text) => [...new Set(text.match(/{\w+}/g))].sort();

const PLACE = { position: 1234, etaMs: null, chance: null, entryNumber: 7, queueNumber: 700, progress: 0.5 };
const view = ({ place, ...values } = {}) => ({
  state: "waiting", place: { ...PLACE, ...place }, untilMs: 0, startsAtMs: 0, notice: null, problem: null, away: null, hasPlace: true,
  lasts: true, order: "draw", proof: null, inWords, ...values,
});
const detail = (place) => sentencesOf(view({ place }), words).details[0];
const eta = (low, high) => detail({ etaMs: [1_000 * low, 1_000 * high] });

test("the languages promised are there", () => assert.deepEqual(LANGUAGES.sort(), ["ar", "de", "en", "es", "fr", "ja"]));

for (const language of LANGUAGES)
  test(`${language} has every sentence, every plural form, and the same numbers in them`, async () => {
    const table = read(`languages/${language}.json`);
    for (const [key, expected] of Object.entries(english)) {
      const isPlural = typeof expected === "object";
      assert.ok(Object.hasOwn(table, key), key);
      assert.equal(typeof table[key], typeof expected, key);
      if (!isPlural) assert.deepEqual(placeholders(table[key]), placeholders(expected), key);
      else for (let n = 0; n < 200; n += 1) assert.ok(table[key][new Intl.PluralRules(language).select(n)], `${key} of ${n}`);
    }
    assert.deepEqual(Object.keys(table).filter((key) => !(key in english)), []);
  });

test("a wait is a range in round units", () => {
  assert.equal(eta(185, 290), "Your turn comes in about 3 to 5 minutes.");
  assert.equal(eta(185, 240), "Your turn comes in about 3 to 4 minutes.");
  assert.equal(eta(180, 180), "Your turn comes within about 3 minutes.");
  assert.equal(eta(20, 200), "Your turn comes within about 4 minutes.");
  assert.equal(eta(10, 59), "Your turn comes within about 1 minute.");
  assert.equal(eta(4_000, 7_000), "Your turn comes in about 66 to 117 minutes.");
  assert.equal(eta(4_000, 9_000), "Your turn comes in about 1 to 3 hours.");
});

test("a chance is in words, and never more exact than it is", () => {
  assert.equal(detail({ chance: 0.96 }), "The stock will very likely reach you.");
  assert.equal(detail({ chance: 0.04 }), "The stock will very likely not reach you.");
  assert.equal(detail({ chance: 0.68 }), "The chance that the stock reaches you is about 70%.");
});

test("numbers and plurals are the language's", async () => {
  const said = async (locale, n) => (await wordsOf(locale)).text("ahead", { n });
  assert.equal(await said("en", 1), "1 person ahead of you");
  assert.equal(await said("en-GB", 12_345), "12,345 people ahead of you");
  assert.equal(await said("de", 12_345), "12.345 Personen vor Ihnen");
  assert.equal(await said("fr", 1), "1 personne devant vous");
  assert.equal(await said("ja", 3), "3人が前に並んでいます");
  assert.deepEqual(await Promise.all([1, 2, 3, 11, 100].map((n) => said("ar-EG", n))), [
    "شخص واحد أمامك", "شخصان أمامك", "٣ أشخاص أمامك", "١١ شخصًا أمامك", "١٠٠ شخص أمامك",
  ]);
});

test("the page's language is spoken; English where there are no others", async () => {
  const locale = async (wish) => (await wordsOf(wish)).locale;
  assert.deepEqual(await Promise.all(["de-AT", "ja", "nl", "not a language!", "de_AT", "DE"].map(locale)), ["de-AT", "ja", "en", "en", "de", "DE"]);
  assert.equal((await wordsOf("DE")).text("join"), (await wordsOf("de")).text("join"));
});

test("words that the service does not have are English; those that are not to be had just now are no words", async (t) => {
  const fetched = globalThis.fetch;
  t.after(() => (globalThis.fetch = fetched));
  const missing = async () => new Response('{"code": "not_found"}', { status: 404 });
  globalThis.fetch = (address, ...rest) => (String(address).endsWith("en.json") ? fetched(address, ...rest) : missing());
  assert.equal((await wordsOf("de")).text("join"), "Join the line");
  for (const answer of [missing, async () => new Response('{"code": "busy"}', { status: 503, headers: { "Retry-After": "7" } }), async () => { throw new TypeError("Failed to fetch"); }]) {
    let tries = 0;
    globalThis.fetch = () => (tries += 1) && answer();
    await assert.rejects(wordsOf("en"), { code: "unreachable" });
    assert.equal(tries, 1);
  }
});

test("a countdown is digits, a day is words", () => {
  assert.equal(words.clock(5_000), "0:05");
  assert.equal(words.clock(64_001), "1:05");
  assert.equal(words.clock(3_665_000), "1:01:05");
  assert.equal(words.clock(90_000_000 + 3_665_000), "26:01:05");
});

test("the merchant's words stand as they are, the service's own are translated and not said twice", async () => {
  const notices = async (notice, locale = "en") => sentencesOf(view({ notice }), await wordsOf(locale)).notice;
  assert.deepEqual(await notices("Size 42 is nearly gone."), ["Size 42 is nearly gone."]);
  assert.deepEqual(await notices("busy"), ["busy"]);
  assert.deepEqual(await notices("Admissions are slower just now.", "de"), ["Der Einlass geht gerade langsamer."]);
  assert.deepEqual(await notices("Paused. Your place is kept; this page goes on by itself."), ["This page goes on by itself."]);
});

test("the service's own notices are the ones known here", () => {
  const source = readFileSync(new URL("../../../admission/serving.py", import.meta.url), "utf-8");
  const notices = [...source.matchAll(/^\w+_NOTICE = "(.*)"$/gm)].map(([, notice]) => notice);
  assert.deepEqual(notices.sort(), Object.keys(english).filter((key) => key.includes(" ")).sort());
});

test("a place is safe only where there is one", () => {
  const said = (placed) => sentencesOf(view({ away: { code: "unreachable" }, hasPlace: placed }), words).notice;
  assert.deepEqual(said(true), [english.unreachable, english.safe]);
  assert.deepEqual(said(false), [english.unreachable]);
});

test("a refusal without words of ours is told in the service's", () => {
  const said = (problem) => sentencesOf({ ...view(), state: "trouble", place: null, problem }, words);
  assert.deepEqual(said({ code: "code_used" }).details, [english.code_used]);
  assert.deepEqual(said({ code: "room_full", detail: "The room is full." }).details, ["The room is full."]);
  assert.deepEqual(said({ code: "code_used" }).position, []);
});

test("what is said aloud is whole sentences", () => {
  const place = { etaMs: [185_000, 290_000], chance: 0.99 };
  const placed = "1,234 people ahead of you. Your turn comes in about 3 to 5 minutes. The stock will very likely reach you.";
  assert.equal(spokenOf("state", view({ place }), words), `You are in line. ${placed} ${english.kept}`);
  assert.equal(spokenOf("place", view({ place }), words), `${placed} ${english.kept}`);
  assert.equal(spokenOf(30, view({ state: "joined", untilMs: 29_000 }), words), "You are in. The drop opens in 30 seconds.");
  for (const [ms, time] of [[29_400, "30 seconds"], [180_000, "3 minutes"], [7_200_000, "2 hours"]])
    assert.ok(spokenOf("state", view({ state: "joined", untilMs: ms }), words).startsWith(`You are in. The drop opens in ${time}. `), time);
  assert.equal(spokenOf("notice", view({ notice: "Soon." }), words), "Soon.");
});

test("an admission that ends says so", () => {
  const ending = view({ state: "admitted", untilMs: 59_000, place: null });
  assert.deepEqual([sentencesOf(ending, words).headline, sentencesOf(ending, words).clock], [english.ending, "0:59"]);
  assert.equal(spokenOf(60, ending, words), "Your turn ends in 60 seconds.");
  assert.equal(sentencesOf({ ...ending, untilMs: 0 }, words).headline, english.admitted);
  assert.equal(spokenOf("proof", view({ proof: { verified: true } }), words), english.followed);
});

test("before the draw nobody is told a place", () => {
  const place = { position: null, queueNumber: null, progress: null };
  const said = sentencesOf(view({ state: "joined", untilMs: 90_000, startsAtMs: Date.UTC(2026, 10, 23, 18), place }), words);
  assert.deepEqual([said.clock, said.position, said.details.slice(0, 2)], ["1:30", [], ["You are entry number 7.", english.drawn]]);
  assert.match(said.details[2], /^It opens on November 2\d, 2026 at \d/);
});

test("who may join is told how people are served", () => {
  const said = (values) => sentencesOf(view({ state: "ready", hasPlace: false, ...values }), words);
  assert.deepEqual([said({}).headline, said({}).button, said({}).details], [english.ready, english.join, [english.arrival]]);
  const early = said({ untilMs: 5_000, place: { queueNumber: null } });
  assert.deepEqual([early.headline, early.clock, early.details[0]], [english.soon, "0:05", english.drawn]);
});

test("a draw that was not checked is not called so", () => {
  const said = (proof) => sentencesOf(view({ proof }), words).proof;
  assert.equal(said({ verified: true, remembered: true }), english.checked);
  assert.equal(said({ verified: true, remembered: false }), english.followed);
  assert.equal(said({ verified: false, sentence: "The key does not follow." }), "The draw could not be checked: The key does not follow.");
  assert.equal(said(null), "");
});
