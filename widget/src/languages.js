// Words and numbers in the shopper's language, from a small file beside this one.

import { ask, unavailable } from "./api.js";

const KNOWN = ["en", "de", "es", "fr", "ja", "ar"];

/** The words of a locale, English ones where there are no others. Rejects with `unavailable` when they are not to be had just now. */
export async function wordsOf(locale) {
  const language = locale.slice(0, 2).toLowerCase();
  if (!KNOWN.includes(language)) return wordsOf("en");
  const { status, ...table } = await ask("GET", new URL(`languages/${language}.json`, import.meta.url));
  if (status !== 200) {
    if (language === "en") throw unavailable(0);
    return wordsOf("en");
  }
  try {
    return wordsIn(locale, table);
  } catch {
    return wordsIn(language, table); // what follows the language is no language tag
  }
}

/**
 * `text(key, values)` is a sentence, `parts` the same cut at its values, every second part being one; a number `n` decides the
 * plural form. `number`, `unit` (5 minutes), `clock` (1:04:05) and `time` (a day and a time where the shopper is) write as the
 * language does. Throws a RangeError when the locale is no language tag.
 */
export function wordsIn(locale, table) {
  const plurals = new Intl.PluralRules(locale);
  const number = (value, options) => new Intl.NumberFormat(locale, options).format(value);

  function parts(key, values = {}) {
    const forms = table[key];
    const sentence = forms.other ? (forms[plurals.select(values.n)] ?? forms.other) : forms;
    const written = (value) => (typeof value === "number" ? number(value) : value);
    return sentence.split(/{(\w+)}/).map((part, i) => (i % 2 ? written(values[part]) : part));
  }

  function clock(ms) {
    const all = Math.ceil(ms / 1000);
    const [hours, ...rest] = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60];
    return (hours ? [hours, ...rest] : rest).map((part, i) => (i ? String(part).padStart(2, 0) : part)).join(":");
  }

  return {
    locale,
    has: (key) => key in table,
    parts,
    text: (key, values) => parts(key, values).join(""),
    number,
    unit: (value, unit) => number(value, { style: "unit", unit, unitDisplay: "long" }),
    clock,
    time: (ms) => new Intl.DateTimeFormat(locale, { dateStyle: "long", timeStyle: "short" }).format(ms),
  };
}
