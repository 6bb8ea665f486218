/** Whether a node that samples has fallen silent: its own process knows why, and says so in its log and to the doctor. */

import type { Catalogue, Sample } from "../client";

// Seconds without a row that are nothing to tell of, and those after which a node is an archive.
const PATIENCE = 15;
const ARCHIVE = 86400;

/** Since when no row has come, in UNIX seconds: `opened` for a node without any; null if nothing is wrong. */
export function silentSince(
  catalogue: Catalogue,
  newest: ReadonlyMap<string, Sample>,
  opened: number,
  now: number,
): number | null {
  const intervals = [...catalogue.timelines.values()].flatMap(({ interval }) => interval ?? []);
  // Rows without a rhythm come when they come.
  if (intervals.length === 0 || catalogue.fields.size === 0) return null;
  const moving = [...newest.values()].filter(({ final }) => !final);
  // To what is finished no row will come.
  if (newest.size > 0 && moving.length === 0) return null;
  const last = newest.size === 0 ? opened : Math.max(...moving.map(({ t }) => t));
  const age = now - last;
  return age > Math.max(PATIENCE, 10 * Math.min(...intervals)) && age < ARCHIVE ? last : null;
}
