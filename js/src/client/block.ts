/** Blocks and lines: rows of one timeline as columns, as an answer holds them, and one field's rows as they are kept. */

import { isRecord } from "./catalogue";
import { FAILED, SisockError } from "./errors";
import { type Position, parsePosition } from "./position";

export type Value = number | string | boolean | null;

/** Rows of one timeline: `t` in UNIX seconds, ascending, and a column of the same length for each field that has values. */
export interface Block {
  readonly timeline: string;
  readonly t: readonly number[];
  readonly data: ReadonlyMap<string, readonly Value[]>;
  /** Before it nothing changes any more; null: all of it is final. */
  readonly finalizedUntil: number | null;
  /** [start, end) of the rows that these replace; null where they only follow. */
  readonly revises: readonly [number, number] | null;
  /** How many rows were thinned to how many; null where all are here. */
  readonly thinned: { readonly from: number; readonly to: number } | null;
  /** What these rows reach; null where the node keeps no positions, or while what lies before it is still to come. */
  readonly position: Position | null;
}

/** One field's rows. */
export interface Line {
  readonly t: readonly number[];
  readonly v: readonly Value[];
}

export const EMPTY: Line = { t: [], v: [] };

/** The blocks of a node's answer to get_data (contract A7); a SisockError where it is none. */
export function parseData(answer: unknown, timelineOf: (field: string) => string | undefined): Block[] {
  if (!isRecord(answer) || !isRecord(answer.data) || !isRecord(answer.timeline)) {
    throw new SisockError(FAILED, 'the node\'s answer to get_data is not {"data", "timeline"}');
  }
  const { data, timeline, downsampled, position } = answer;
  return Object.entries(timeline).flatMap(([name, spec]) => {
    if (!isRecord(spec) || !isNumbers(spec.t) || spec.t.length === 0) return [];
    const { t } = spec;
    const columns = Object.entries(data).flatMap(([field, v]): [string, Value[]][] => {
      if (timelineOf(field) !== name || !Array.isArray(v)) return [];
      // A field that has no value at any of these times is answered as empty.
      return v.length === t.length ? [[field, v]] : v.length === 0 ? [[field, t.map(() => null)]] : [];
    });
    const done = isRecord(downsampled) ? downsampled[name] : undefined;
    const thinned =
      isRecord(done) && typeof done.from === "number" && typeof done.to === "number"
        ? { from: done.from, to: done.to }
        : null;
    const reached = isRecord(position) ? parsePosition(position[name]) : null;
    const finalizedUntil = typeof spec.finalized_until === "number" ? spec.finalized_until : null;
    return [{ timeline: name, t, data: new Map(columns), finalizedUntil, revises: null, thinned, position: reached }];
  });
}

/** A field's rows in a block; null where it has no value at a row, empty where it has none at all. */
export function lineOf(block: Block, field: string): Line {
  const v = block.data.get(field);
  return v === undefined ? EMPTY : { t: block.t, v };
}

/** The line with a block's rows: those that it revises are replaced; where it revises none, only what is newer is taken. */
export function extended(line: Line, block: Block, field: string): Line {
  const more = lineOf(block, field);
  const [start, end] = block.revises ?? [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  const low = lowerBound(line.t, start);
  const high = Math.max(low, lowerBound(line.t, end));
  const newest = line.t.at(-1);
  let skip = 0;
  if (block.revises !== null) skip = lowerBound(more.t, start);
  else if (newest !== undefined) while (skip < more.t.length && more.t[skip]! <= newest) skip++;
  if (skip === more.t.length && low === high) return line;
  return {
    t: [...line.t.slice(0, low), ...more.t.slice(skip), ...line.t.slice(high)],
    v: [...line.v.slice(0, low), ...more.v.slice(skip), ...line.v.slice(high)],
  };
}

/** The line from a time on, with the one row before it, to which the first segment leads. */
export function since(line: Line, start: number): Line {
  const low = Math.max(0, lowerBound(line.t, start) - 1);
  return low === 0 ? line : { t: line.t.slice(low), v: line.v.slice(low) };
}

/** The newest row that holds a value. */
export function newest(line: Line): { t: number; value: Value } | null {
  for (let i = line.t.length - 1; i >= 0; i--) {
    const value = line.v[i];
    if (value !== null && value !== undefined) return { t: line.t[i]!, value };
  }
  return null;
}

/** First index whose element is not less than `x`. */
export function lowerBound(sorted: readonly number[], x: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < x) low = middle + 1;
    else high = middle;
  }
  return low;
}

function isNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && (value.length === 0 || typeof value[0] === "number");
}
