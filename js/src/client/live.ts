/** Live blocks: what a timeline took in, as one event on the wire. `docs/following.md` tells the form. */

import type { Value } from "./block";
import { isRecord } from "./catalogue";
import { FAILED, SisockError } from "./errors";
import { type Position, parsePosition } from "./position";
import { type Cell, type Range, type Rows, toMicros } from "./rows";

/** What the blocks `after + 1` to `position.seq` of a timeline brought. */
export interface LiveBlock {
  readonly timeline: string;
  readonly position: Position;
  readonly after: number;
  readonly block: Rows;
  /** Seconds; null where the node says nothing of it. */
  readonly finalizedUntil: number | null;
  /** In this range its rows replace all that was there; null where they only follow. */
  readonly revises: Range | null;
}

/** The block of an event; a SisockError says what is wrong with it. */
export function parseLive(event: unknown): LiveBlock {
  if (!isRecord(event) || !isRecord(event.data)) throw refused("a live event is a dict with data");
  const { timeline, after, t } = event;
  const position = parsePosition(event);
  if (typeof timeline !== "string" || !Number.isSafeInteger(after) || position === null) {
    throw refused("a live event names its timeline, its position and the seq that it follows");
  }
  const micros = (t instanceof Uint8Array ? floats(t) : list(t ?? [], "t").map(number)).map(toMicros);
  if (micros.some((one, i) => i > 0 && one <= micros[i - 1]!)) throw refused("the times of a live event ascend");
  const columns = new Map(Object.entries(event.data).map(([name, wire]) => [name, column(wire, name)]));
  for (const [name, { length }] of columns) {
    if (length !== micros.length) throw refused(`${name} has ${length} values for ${micros.length} times`);
  }
  return {
    timeline,
    position,
    after: after as number,
    block: { t: micros, columns },
    finalizedUntil: event.finalized_until == null ? null : number(event.finalized_until),
    revises: event.revises == null ? null : range(event.revises),
  };
}

/** [start, end) in microseconds of a range in seconds. */
export function range(wire: unknown): Range {
  const ends = list(wire, "revises");
  if (ends.length !== 2) throw refused("revises is [start, end] in seconds");
  return [toMicros(number(ends[0])), toMicros(number(ends[1]))];
}

/** A 64-bit integer as a number where that holds it. */
export function whole(integer: bigint): number | bigint {
  const rounded = Number(integer);
  return Math.abs(rounded) < 2 ** 53 || (BigInt(rounded) === integer && Math.abs(rounded) === 2 ** 53)
    ? rounded
    : integer;
}

function column(wire: unknown, name: string): Cell[] {
  if (Array.isArray(wire)) return wire.map(value);
  if (!isRecord(wire)) throw refused(`${name} is no column`);
  const { values, valid } = wire;
  if (!(values instanceof Uint8Array)) throw refused(`${name} takes bytes`);
  let cells: Cell[];
  if (wire.type === "f8") cells = floats(values);
  else if (wire.type === "i8") cells = Array.from(new BigInt64Array(copied(values, 8)), whole);
  else if (wire.type === "b1") cells = Array.from(values, Boolean);
  else throw refused(`${name} has the form ${String(wire.type)}; there are f8, i8, b1`);
  if (valid == null) return cells;
  if (!(valid instanceof Uint8Array) || valid.length !== cells.length) {
    throw refused(`${name} says of other rows than its own whether they are there`);
  }
  return cells.map((cell, i) => (valid[i] === 0 ? null : cell));
}

function value(one: unknown): Value | bigint {
  if (one === null || ["number", "string", "boolean", "bigint"].includes(typeof one)) return one as Value | bigint;
  throw refused("a field takes numbers, booleans, strings or null");
}

function floats(octets: Uint8Array): number[] {
  return Array.from(new Float64Array(copied(octets, 8)));
}

/** The bytes at a place of their own, where typed arrays can begin. */
function copied(octets: Uint8Array, size: number): ArrayBuffer {
  if (octets.length % size !== 0) throw refused(`a column of numbers takes ${size} bytes a row`);
  return new Uint8Array(octets).buffer;
}

function list(wire: unknown, name: string): unknown[] {
  if (!Array.isArray(wire)) throw refused(`${name} is a list`);
  return wire;
}

function number(wire: unknown): number {
  if (typeof wire === "bigint") return Number(wire);
  if (typeof wire !== "number" || !Number.isFinite(wire)) throw refused("a time is a number of seconds");
  return wire;
}

function refused(message: string): SisockError {
  return new SisockError(FAILED, message);
}
