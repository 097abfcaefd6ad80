// What was seen of a drop in the last quarter of an hour, kept by this page alone. Pure but for `kept` and `keep`.

export const HISTORY_MS = 15 * 60_000;
export const SAMPLES_MAX = 1_000;

/** Longer without a sample is time that was not seen: nothing is drawn there. */
export const GAP_MS = 5_000;

/** One second of a drop, of all that is drawn over time. */
export function sampleOf(live) {
  const units = totals(live.skus ?? []);
  return {
    t: live.now_ms,
    admitted: live.admitted_total ?? null,
    rate: live.rate_per_min ?? null,
    waiting: live.waiting ?? null,
    inside: live.inside ?? null,
    reserved: units.reserved,
    sold: units.sold,
    allotment: units.allotment,
  };
}

/** Units of all SKUs together; null for what is not known of one of them. */
export function totals(skus) {
  const sum = (name) => (skus.some((sku) => sku[name] === null) ? null : skus.reduce((all, sku) => all + sku[name], 0));
  return { allotment: sum("allotment"), available: sum("available"), reserved: sum("reserved"), sold: sum("sold"), draining: sum("draining") };
}

/** Samples in order of time; bounded in number and in age. */
export class History {
  samples = [];

  constructor(samples = []) {
    for (const sample of samples) this.add(sample);
  }

  /** Remembers a sample. One that is not later than the last is of another clock or came twice, and is left out. */
  add(sample) {
    const last = this.samples.at(-1);
    if (last && sample.t <= last.t) {
      if (last.t - sample.t < 60_000) return;
      this.samples.length = 0; // the service's clock was set back
    }
    this.samples.push(sample);
    const oldest = sample.t - HISTORY_MS;
    let gone = Math.max(0, this.samples.length - SAMPLES_MAX);
    while (this.samples[gone].t < oldest) gone += 1;
    if (gone) this.samples.splice(0, gone);
  }

  /** From when to when a chart reaches: as much as was seen, in whole steps, ending now. */
  reach(nowMs, steps = [2 * 60_000, 5 * 60_000, HISTORY_MS]) {
    const seen = nowMs - (this.samples[0]?.t ?? nowMs);
    return { from: nowMs - (steps.find((step) => step >= seen) ?? steps.at(-1)), to: nowMs };
  }

  /** Points [ms, value] of one member, null in between where nothing was seen. */
  line(member, from) {
    const points = [];
    let before = null;
    for (const sample of this.samples) {
      if (sample.t >= from) {
        if (before && sample.t - before.t > GAP_MS) points.push([before.t, null]);
        points.push([sample.t, sample[member]]);
      }
      before = sample;
    }
    return points;
  }

  /** How much a total grew in the last minute, by what was seen of it without a gap; null when that is too little. */
  lastMinute(member) {
    const last = this.samples.at(-1);
    let first = last;
    for (let at = this.samples.length - 2; at >= 0; at -= 1) {
      const sample = this.samples[at];
      if (first.t - sample.t > GAP_MS || last.t - sample.t > 60_000 || sample[member] === null) break;
      first = sample;
    }
    if (!last || last.t - first.t < GAP_MS) return null;
    return Math.round(Math.max(0, last[member] - first[member]) * (60_000 / (last.t - first.t)));
  }

  /** How many a minute a total grew by, in columns of `widthMs`: [from, to, per minute, of the time was seen]. */
  perMinute(member, from, widthMs) {
    const columns = new Map();
    for (let at = 1; at < this.samples.length; at += 1) {
      const [before, after] = [this.samples[at - 1], this.samples[at]];
      const ms = after.t - before.t;
      if (after.t < from || ms > GAP_MS || before[member] === null || after[member] === null) continue;
      const start = Math.floor((after.t - 1) / widthMs) * widthMs;
      const column = columns.get(start) ?? { grown: 0, ms: 0 };
      column.grown += Math.max(0, after[member] - before[member]);
      column.ms += ms;
      columns.set(start, column);
    }
    return [...columns].filter(([, { ms }]) => ms >= widthMs / 3).map(([start, { grown, ms }]) => [start, start + widthMs, (grown * 60_000) / ms]);
  }
}

const PREFIX = "flashsale-console:";

/** What this tab saw of a drop before it was loaded anew. */
export function kept(drop) {
  try {
    return new History(JSON.parse(sessionStorage.getItem(PREFIX + drop) ?? "[]"));
  } catch {
    return new History();
  }
}

/** Keeps it for this tab. */
export function keep(drop, history) {
  try {
    sessionStorage.setItem(PREFIX + drop, JSON.stringify(history.samples));
  } catch {
    // Storage is blocked or full: the charts begin anew after a reload.
  }
}

/** Forgets everything, when somebody signs out. */
export function forget() {
  try {
    for (const name of Object.keys(sessionStorage)) if (name.startsWith(PREFIX)) sessionStorage.removeItem(name);
  } catch {
    // Nothing can have been kept.
  }
}
