// Numbers, times and money for people. Pure.

const whole = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const shortClock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const dayOfYear = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

/** Stands where a number cannot be had. */
export const NONE = "—";

/** 12,345; a dash for null. */
export function count(value) {
  return value === null || value === undefined ? NONE : whole.format(value);
}

/** "1 order", "2 orders". */
export function counted(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** 42 %; a share that is not all or nothing never looks as if it were. */
export function percent(part, of) {
  if (!of || part === null) return NONE;
  const exact = (100 * part) / of;
  return `${exact > 0 && exact < 1 ? "<1" : exact > 99 && exact < 100 ? ">99" : Math.round(exact)}\u00a0%`;
}

/** An amount in the currency's smallest unit, for people. */
export function money(minor, currency) {
  try {
    const format = new Intl.NumberFormat("en", { style: "currency", currency });
    return format.format(minor / 10 ** format.resolvedOptions().maximumFractionDigits);
  } catch {
    return `${count(minor)} ${currency}`;
  }
}

/** A length of time in at most two units: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min, 3 d 4 h. */
export function span(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms <= 0) return "0 s";
  if (ms < 950) return `${Math.max(0.1, ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const parts = seconds < 3600 ? [[Math.floor(seconds / 60), "min"], [seconds % 60, "s"]] : longParts(Math.floor(seconds / 60));
  return parts.filter(([value]) => value).map(([value, unit]) => `${value} ${unit}`).join(" ");
}

function longParts(minutes) {
  if (minutes < 24 * 60) return [[Math.floor(minutes / 60), "h"], [minutes % 60, "min"]];
  return [[Math.floor(minutes / 1440), "d"], [Math.floor((minutes % 1440) / 60), "h"]];
}

/** A countdown that changes every second: 4:09, 1:04:09, then days and hours. */
export function countdown(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  if (seconds >= 86_400) return span(seconds * 1000);
  const two = (value) => String(value).padStart(2, "0");
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

/** 11:40:03, in the reader's time zone. */
export function time(ms) {
  return clock.format(ms);
}

/** 11:40 */
export function shortTime(ms) {
  return shortClock.format(ms);
}

/** 11:40:03 today, else with the day. */
export function moment(ms, nowMs) {
  const [date, today] = [new Date(ms), new Date(nowMs)];
  if (date.toDateString() === today.toDateString()) return time(ms);
  return `${(date.getFullYear() === today.getFullYear() ? day : dayOfYear).format(date)}, ${time(ms)}`;
}

/** A moment in no time zone but UTC, for whoever compares with a log. */
export function utc(ms) {
  return `${new Date(ms).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** A word of a shell: quoted when it has to be. */
export function shellWord(text) {
  return /^[A-Za-z0-9_./:=@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
