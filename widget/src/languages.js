// Words and numbers in the shopper's language. English is built in and stands in for whatever another language does not have.

import english from "./languages/en.json" with { type: "json" };

const KNOWN = ["en", "de", "es", "fr", "ja", "ar"];
const RIGHT_TO_LEFT = new Set(["ar"]);
const loadBeside = async (name) => (await fetch(new URL(name, import.meta.url), { credentials: "omit" })).json();

/** The locale to speak, of the first wish that is a language tag: itself where its language is known, else English. */
export function localeFor(wishes) {
  for (const wish of wishes) {
    try {
      const { baseName, language } = new Intl.Locale(wish);
      return KNOWN.includes(language) ? baseName : "en";
    } catch {} // no language tag
  }
  return "en";
}

/** The words of a locale; English ones when its file is not to be had. */
export async function wordsOf(locale, load = loadBeside) {
  const { language } = new Intl.Locale(locale);
  if (language === "en") return new Words(locale);
  try {
    return new Words(locale, await load(`languages/${language}.json`));
  } catch {
    return new Words("en");
  }
}

export class Words {
  #table;
  #plurals;

  constructor(locale = "en", table = english) {
    this.locale = locale;
    this.direction = RIGHT_TO_LEFT.has(new Intl.Locale(locale).language) ? "rtl" : "ltr";
    this.#table = { ...english, ...table };
    this.#plurals = new Intl.PluralRules(locale);
  }

  has(key) {
    return Object.hasOwn(this.#table, key);
  }

  /** The sentence of a key, cut at its numbers: every second part is one. */
  parts(key, values = {}) {
    const forms = this.#table[key];
    const sentence = typeof forms === "string" ? forms : (forms[this.#plurals.select(values.n)] ?? forms.other);
    return sentence.split(/{(\w+)}/).map((part, i) => (i % 2 ? this.#value(values[part]) : part));
  }

  /** The sentence of a key. Numbers among `values` are written as the language does. */
  text(key, values) {
    return this.parts(key, values).join("");
  }

  #value(value) {
    return typeof value === "number" ? this.number(value) : value;
  }

  number(number, options) {
    return new Intl.NumberFormat(this.locale, options).format(number);
  }

  /** A number with its unit in words: 5 minutes. */
  unit(number, unit) {
    return this.number(number, { style: "unit", unit, unitDisplay: "long" });
  }

  /** A countdown in digits: 4:05, 1:04:05. */
  clock(ms) {
    const all = Math.ceil(ms / 1000);
    const parts = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60];
    return (parts[0] ? parts : parts.slice(1)).map((part, i) => this.number(part, { minimumIntegerDigits: i ? 2 : 1, useGrouping: false })).join(":");
  }

  /** A day and a time, where the shopper is. */
  time(ms) {
    return new Intl.DateTimeFormat(this.locale, { dateStyle: "long", timeStyle: "short" }).format(ms);
  }
}
