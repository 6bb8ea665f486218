/** Gaps: where a line must break because rows are missing. */

import type { Line } from "./block";

// A timer that slips is no gap; a row left out is.
const SLACK = 1.8;

/**
 * The distance in seconds between two rows beyond which something is missing between them; null where no distance says so.
 *
 * `interval` is the timeline's usual spacing, null if it has none. `bucket` is the length of a bucket of rows that were
 * thinned, 0 if all are there: two that were picked from neighbouring buckets are up to two of them apart.
 */
export function threshold(line: Line, interval: number | null, bucket: number): number | null {
  if (interval === null) return null;
  if (bucket > 0) return 2 * bucket + SLACK * interval;
  return SLACK * Math.max(interval, usual(line.t));
}

/** The line with a null in each gap, so that a plot breaks there. */
export function withGaps(line: Line, limit: number | null): Line {
  if (limit === null) return line;
  const t: number[] = [];
  const v = [];
  for (let i = 0; i < line.t.length; i++) {
    const before = line.t[i - 1];
    if (before !== undefined && line.t[i]! - before > limit) {
      t.push((before + line.t[i]!) / 2);
      v.push(null);
    }
    t.push(line.t[i]!);
    v.push(line.v[i]!);
  }
  return { t, v };
}

/** The spacing that nineteen of twenty rows keep: an uneven timeline has no gap at each of its longer steps. */
function usual(t: readonly number[]): number {
  if (t.length < 20) return 0;
  const steps = new Float64Array(t.length - 1);
  for (let i = 0; i < steps.length; i++) steps[i] = t[i + 1]! - t[i]!;
  steps.sort();
  return steps[Math.floor(0.95 * (steps.length - 1))]!;
}
