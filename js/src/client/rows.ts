/** Rows of one timeline as they travel: `t` in whole microseconds, ascending, and a column of the same length a field. */

import { type Block, lowerBound, type Value } from "./block";
import type { Position } from "./position";

/** A value as it was sent: an integer beyond 2^53 is a bigint. */
export type Cell = Value | bigint;

export interface Rows {
  readonly t: readonly number[];
  readonly columns: ReadonlyMap<string, readonly Cell[]>;
}

/** A half-open range of time [start, end) in microseconds. */
export type Range = readonly [start: number, end: number];

export const NO_ROWS: Rows = { t: [], columns: new Map() };

const MICROS = 1_000_000;

/** Whole microseconds of a time in seconds. */
export function toMicros(seconds: number): number {
  return Math.round(seconds * MICROS);
}

/** Seconds of a time in microseconds. */
export function toSeconds(micros: number): number {
  return micros / MICROS;
}

/** The rows from index `low` to `high`. */
export function slice(rows: Rows, low: number, high: number): Rows {
  if (low === 0 && high >= rows.t.length) return rows;
  return {
    t: rows.t.slice(low, high),
    columns: new Map([...rows.columns].map(([name, column]) => [name, column.slice(low, high)])),
  };
}

/** The rows in [start, end). */
export function between(rows: Rows, start: number, end: number): Rows {
  const low = lowerBound(rows.t, start);
  return slice(rows, low, Math.max(low, lowerBound(rows.t, end)));
}

/** The rows in which any of these fields has a value, with their columns alone. */
export function only(rows: Rows, fields: readonly string[]): Rows {
  const columns = fields.flatMap((name): [string, readonly Cell[]][] => {
    const column = rows.columns.get(name);
    return column === undefined ? [] : [[name, column]];
  });
  const there = rows.t.map((_, i) => columns.some(([, column]) => column[i] !== null));
  if (there.every(Boolean)) return { t: rows.t, columns: new Map(columns) };
  const kept = <T>(values: readonly T[]): T[] => values.filter((_, i) => there[i]);
  return { t: kept(rows.t), columns: new Map(columns.map(([name, column]) => [name, kept(column)])) };
}

/** Several rows that follow each other in time as one; a field that one of them lacks is null there. */
export function concat(parts: readonly Rows[]): Rows {
  const some = parts.filter(({ t }) => t.length > 0);
  if (some.length < 2) return some[0] ?? NO_ROWS;
  const names = new Set(some.flatMap(({ columns }) => [...columns.keys()]));
  return {
    t: some.flatMap(({ t }) => t),
    columns: new Map(
      [...names].map((name) => [name, some.flatMap(({ t, columns }) => columns.get(name) ?? t.map(() => null))]),
    ),
  };
}

/**
 * The blocks that say the same: one for each range in which rows are replaced, and one of the rows that only follow. Values
 * are as a list has them: null for a number that is none, and for an integer beyond 2^53.
 */
export function toBlocks(
  timeline: string,
  fields: readonly string[],
  rows: Rows,
  revises: readonly Range[],
  position: Position | null,
  finalizedUntil: number | null,
): Block[] {
  const made: Block[] = [];
  const make = (part: Rows, range: Range | null): void => {
    const data = fields.map((name): [string, Value[]] => [
      name,
      part.columns.get(name)?.map(plain) ?? part.t.map(() => null),
    ]);
    made.push({
      timeline,
      t: part.t.map(toSeconds),
      data: new Map(data),
      finalizedUntil,
      revises: range === null ? null : [toSeconds(range[0]), toSeconds(range[1])],
      thinned: null,
      position,
    });
  };
  const ranges = joined(revises);
  let at = 0;
  const rest: Rows[] = [];
  for (const [start, end] of ranges) {
    const [low, high] = [lowerBound(rows.t, start), lowerBound(rows.t, end)];
    rest.push(slice(rows, at, low));
    make(slice(rows, low, high), [start, end]);
    at = Math.max(at, high);
  }
  rest.push(slice(rows, at, rows.t.length));
  const following = concat(rest);
  if (following.t.length > 0) make(following, null);
  return made;
}

function joined(ranges: readonly Range[]): Range[] {
  const made: [number, number][] = [];
  for (const [start, end] of [...ranges].sort((one, other) => one[0] - other[0])) {
    const last = made.at(-1);
    if (last !== undefined && start <= last[1]) last[1] = Math.max(last[1], end);
    else made.push([start, end]);
  }
  return made;
}

function plain(cell: Cell): Value {
  return typeof cell === "bigint" || (typeof cell === "number" && !Number.isFinite(cell)) ? null : cell;
}
