/** The golden files that Python writes (`python -m tests.golden`), and their values as the client has them. */

import type { Position } from "../src/client/position";
import type { Cell, Range, Rows } from "../src/client/rows";

const FILES = import.meta.glob("../../tests/golden/*.json", { eager: true, import: "default" });

export function golden(name: string): unknown {
  return FILES[`../../tests/golden/${name}`];
}

/** Wire forms with their bytes. */
export function wire(told: unknown): unknown {
  if (Array.isArray(told)) return told.map(wire);
  if (typeof told !== "object" || told === null) return told;
  if ("base64" in told) return Uint8Array.from(atob(told.base64 as string), (one) => one.charCodeAt(0));
  return Object.fromEntries(Object.entries(told).map(([name, inner]) => [name, wire(inner)]));
}

type Told = null | boolean | number | string | { readonly number: string } | { readonly integer: string };

export interface GoldenBlock {
  readonly t: readonly number[];
  readonly columns: Readonly<Record<string, readonly Told[]>>;
}

export interface GoldenLive {
  readonly timeline: string;
  readonly position: Position;
  readonly after: number;
  readonly block: GoldenBlock;
  readonly revises: Range | null;
  readonly finalized_until: number | null;
}

export function rows({ t, columns }: GoldenBlock): Rows {
  return { t, columns: new Map(Object.entries(columns).map(([name, told]) => [name, told.map(cell)])) };
}

function cell(told: Told): Cell {
  if (typeof told !== "object" || told === null) return told;
  if ("integer" in told) return BigInt(told.integer);
  return { nan: Number.NaN, inf: Number.POSITIVE_INFINITY, "-inf": Number.NEGATIVE_INFINITY }[told.number]!;
}

/** A live block as Python tells it, as it is here. */
export function liveBlock({ timeline, position, after, block, revises, finalized_until }: GoldenLive) {
  return { timeline, position, after, block: rows(block), revises, finalizedUntil: finalized_until };
}
