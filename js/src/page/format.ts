/** Numbers, times and ages as people read them. */

import type { Value } from "../client";

const THIN = "\u202f";
const PREFIXES = ["n", "µ", "m", "", "k", "M", "G", "T", "P"] as const;

// Units that people read with a prefix: 20.6 GB.
const PREFIXED = new Set(["B", "B/s", "bit/s", "Hz", "W", "Wh", "V", "A", "J", "Pa", "ohm", "Ω"]);

/** A value and its units; of the units that take prefixes large amounts have one. */
export function formatQuantity(value: Value | undefined, units: string | null): [value: string, units: string | null] {
  if (typeof value === "number" && units !== null && PREFIXED.has(units) && Math.abs(value) >= 1e5) {
    const power = powerOf(Math.abs(value));
    return [formatValue(Number((value / 1000 ** power).toPrecision(4))), PREFIXES[power + 3]! + units];
  }
  return [formatValue(value), units];
}

/** A value as it is read at a glance: whole numbers in groups of three, others with six significant digits. */
export function formatValue(value: Value | undefined): string {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "true" : "false";
  if (typeof value === "string") return value;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e15))
    return value.toExponential(4).replaceAll("-", "−").replace("e+", "e");
  // Beyond six digits before the point none is shown behind it.
  const exact = Number.isInteger(value) ? value : Number(value.toPrecision(Math.max(6, Math.ceil(Math.log10(size)))));
  const [whole, rest] = String(exact).replace("-", "−").split(".");
  const grouped = whole!.replace(/(?<=\d)(?=(\d{3})+$)/g, size >= 1e4 ? THIN : "");
  return rest === undefined ? grouped : `${grouped}.${rest}`;
}

/** Labels of an axis's ticks, all with the same prefix of thousands where they are large or small. */
export function formatTicks(ticks: readonly number[]): string[] {
  const size = Math.max(...ticks.map(Math.abs));
  if (size === 0 || (size >= 1e-2 && size < 1e5)) return ticks.map(plain);
  const power = powerOf(size);
  return ticks.map((tick) => (tick === 0 ? "0" : plain(tick / 1000 ** power) + THIN + PREFIXES[power + 3]!));
}

function powerOf(size: number): number {
  return Math.max(-3, Math.min(5, Math.floor(Math.log10(size) / 3)));
}

function plain(tick: number): string {
  return String(Number(tick.toPrecision(6))).replace("-", "−");
}

/** Time since then, in the one unit that fits. */
export function formatAge(seconds: number): string {
  if (seconds < -1.5) return `in ${duration(-seconds)}`;
  return seconds < 1.5 ? "now" : `${duration(seconds)} ago`;
}

const STEPS: readonly (readonly [number, string, string])[] = [
  [365.25 * 86400, "year", "years"],
  [86400, "day", "days"],
  [3600, "h", "h"],
  [60, "min", "min"],
  [1, "s", "s"],
];

function duration(seconds: number): string {
  for (const [size, one, many] of STEPS) {
    // Two of a unit before it is used: "90 min" tells more than "1 h".
    if (seconds >= 2 * size || size === 1) {
      const count = Math.round(seconds / size);
      return `${count} ${count === 1 ? one : many}`;
    }
  }
  return "0 s";
}

/** The spacing of a timeline. */
export function formatInterval(seconds: number | null): string {
  if (seconds === null) return "no fixed spacing";
  if (seconds >= 1) return `every ${plain(Number(seconds.toPrecision(3)))} s`;
  return `${plain(Number((1 / seconds).toPrecision(3)))} a second`;
}

/** A time of day with its date, to the millisecond where there are any; in UTC or in the browser's zone. */
export function formatTime(seconds: number, utc: boolean): string {
  const date = new Date(Math.round(seconds * 1000));
  if (Number.isNaN(date.getTime())) return "–";
  const local = utc ? date : new Date(date.getTime() - date.getTimezoneOffset() * 60_000);
  const [day, time] = local.toISOString().split("T") as [string, string];
  return `${day} ${time.replace("Z", "").replace(".000", "")}`;
}
