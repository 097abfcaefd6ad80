import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { Words, localeFor, wordsOf } from "../../../widget/src/languages.js";
import { sentencesOf, spokenOf } from "../../../widget/src/sentences.js";

const FOLDER = new URL("../../../widget/src/languages/", import.meta.url);
const LANGUAGES = readdirSync(FOLDER).map((name) => name.slice(0, 2));
const read = async (name) => JSON.parse(readFileSync(new URL(`../../../widget/src/${name}`, import.meta.url), "utf-8"));
const english = await read("languages/en.json");
const words = new Words();
const placeholders = (text) => [...new Set(text.match(/{\w+}/g))].sort();

const view = (values) => ({
  state: "waiting", position: 1234, etaMs: null, chance: null, untilMs: null, opensAtMs: null, notice: null, problem: null, away: null,
  placed: true, lasts: true, order: "draw", entryNumber: 7, queueNumber: 700, proof: null, ...values,
});
const detail = (values) => sentencesOf(view(values), words).details[0];
const eta = (low, high) => detail({ etaMs: [1_000 * low, 1_000 * high] });

test("the languages promised are there", () => assert.deepEqual(LANGUAGES.sort(), ["ar", "de", "en", "es", "fr", "ja"]));

for (const language of LANGUAGES)
  test(`${language} has every sentence, every plural form, and the same numbers in them`, async () => {
    const table = await read(`languages/${language}.json`);
    for (const [key, expected] of Object.entries(english)) {
      if (expected === "") continue;
      const isPlural = typeof expected === "object";
      assert.ok(Object.hasOwn(table, key), key);
      assert.equal(typeof table[key], typeof expected, key);
      if (!isPlural) assert.deepEqual(placeholders(table[key]), placeholders(expected), key);
      else assert.deepEqual(new Set(Object.keys(table[key])), new Set(new Intl.PluralRules(language).resolvedOptions().pluralCategories.filter((form) => form in table[key] || form !== "many")), key);
    }
    assert.deepEqual(Object.keys(table).filter((key) => !(key in english)), []);
  });

test("a wait is a range in round units", () => {
  assert.equal(eta(185, 290), "About 3 to 5 minutes.");
  assert.equal(eta(185, 240), "About 3 to 4 minutes.");
  assert.equal(eta(180, 180), "About 3 minutes.");
  assert.equal(eta(20, 200), "Up to 4 minutes.");
  assert.equal(eta(10, 59), "Less than a minute.");
  assert.equal(eta(4_000, 7_000), "About 66 to 117 minutes.");
  assert.equal(eta(4_000, 9_000), "About 1 to 3 hours.");
});

test("a chance is in words, and never more exact than it is", () => {
  assert.equal(detail({ chance: 0.96 }), "The stock will very likely reach you.");
  assert.equal(detail({ chance: 0.04 }), "The stock will very likely not reach you.");
  assert.equal(detail({ chance: 0.68 }), "The chance that the stock reaches you is about 70%.");
});

test("numbers and plurals are the language's", async () => {
  const said = async (locale, n) => (await wordsOf(locale, read)).text("ahead", { n });
  assert.equal(await said("en", 1), "1 person ahead of you");
  assert.equal(await said("en-GB", 12_345), "12,345 people ahead of you");
  assert.equal(await said("de", 12_345), "12.345 Personen vor Ihnen");
  assert.equal(await said("fr", 1), "1 personne devant vous");
  assert.equal(await said("ja", 3), "前に3人います");
  assert.deepEqual(await Promise.all([1, 2, 3, 11, 100].map((n) => said("ar-EG", n))), [
    "شخص واحد أمامك", "شخصان أمامك", "٣ أشخاص أمامك", "١١ شخصًا أمامك", "١٠٠ شخص أمامك",
  ]);
});

test("the page's language is spoken; English where there are no others", async () => {
  assert.equal(localeFor(["de-AT", "fr"]), "de-AT");
  assert.equal(localeFor(["nl", "fr"]), "en");
  assert.equal(localeFor([undefined, "ja"]), "ja");
  assert.equal(localeFor(["not a language!", ""]), "en");
  assert.equal((await wordsOf("ar", read)).direction, "rtl");
  const missing = await wordsOf("de", () => Promise.reject(new TypeError("Failed to fetch")));
  assert.deepEqual([missing.locale, missing.text("join")], ["en", "Join the line"]);
});

test("a countdown is digits, a day is words", () => {
  assert.equal(words.clock(5_000), "0:05");
  assert.equal(words.clock(64_001), "1:05");
  assert.equal(words.clock(3_665_000), "1:01:05");
  assert.equal(words.clock(90_000_000 + 3_665_000), "26:01:05");
});

test("the merchant's words stand as they are, the service's own are translated and not said twice", async () => {
  const notices = async (notice, locale = "en") => sentencesOf(view({ notice }), await wordsOf(locale, read)).notices;
  assert.deepEqual(await notices("Size 42 is nearly gone."), ["Size 42 is nearly gone."]);
  assert.deepEqual(await notices("busy"), ["busy"]);
  assert.deepEqual(await notices("Admissions are slower just now.", "de"), ["Der Einlass geht gerade langsamer."]);
  assert.deepEqual(await notices("Paused. Your place is kept; this page goes on by itself."), []);
});

test("the service's own notices are the ones known here", () => {
  const source = readFileSync(new URL("../../../admission/serving.py", import.meta.url), "utf-8");
  const notices = [...source.matchAll(/^\w+_NOTICE = "(.*)"$/gm)].map(([, notice]) => notice);
  assert.deepEqual(notices.sort(), Object.keys(english).filter((key) => key.includes(" ")).sort());
});

test("a place is safe only where there is one", () => {
  const said = (placed) => sentencesOf(view({ away: { code: "unreachable" }, placed }), words).notices;
  assert.deepEqual(said(true), ["The service does not answer just now. We keep trying.", "Your place is safe."]);
  assert.deepEqual(said(false), ["The service does not answer just now. We keep trying."]);
});

test("a refusal without words of ours is told in the service's", () => {
  const said = (problem) => sentencesOf(view({ state: "trouble", problem }), words);
  assert.deepEqual(said({ code: "code_used" }).details, [english.code_used]);
  assert.deepEqual(said({ code: "room_full", detail: "The room is full." }).details, ["The room is full."]);
  assert.equal(said({ code: "code_used" }).position, null);
});

test("what is said aloud is whole sentences", () => {
  assert.equal(spokenOf({ topic: "state" }, view({ etaMs: [185_000, 290_000] }), words).split(". ").slice(0, 3).join(". "),
    "You are in line. 1,234 people ahead of you. About 3 to 5 minutes");
  assert.equal(spokenOf({ topic: "countdown", seconds: 30 }, view({ state: "joined", untilMs: 29_000, opensAtMs: 0 }), words),
    "You are in. The drop opens in 30 seconds.");
  assert.equal(spokenOf({ topic: "notice" }, view({ notice: "Soon." }), words), "Soon.");
});

test("a draw that was not checked is not called so", () => {
  const said = (proof) => sentencesOf(view({ proof }), words).proof;
  assert.equal(said({ verified: true }), english.checked);
  assert.equal(said({ verified: false, sentence: "The key does not follow." }), "The draw could not be checked: The key does not follow.");
  assert.equal(said({ verified: false }), "The draw could not be checked: its documents could not be fetched.");
  assert.equal(said(null), "");
});
