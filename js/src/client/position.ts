/** Positions: how far a timeline has come, as nodes number it. */

import { isRecord } from "./catalogue";

/** `seq` blocks since `epoch`, one life of a history, began. */
export interface Position {
  readonly epoch: string;
  readonly seq: number;
}

/** The position that a node named; null for what is none. */
export function parsePosition(wire: unknown): Position | null {
  if (!isRecord(wire) || typeof wire.epoch !== "string" || !Number.isSafeInteger(wire.seq)) return null;
  const seq = wire.seq as number;
  return seq < 0 ? null : { epoch: wire.epoch, seq };
}

/** The one of several positions behind which nothing is missing to any; null where there is none. */
export function earliest(positions: readonly (Position | null | undefined)[]): Position | null {
  const known = positions.filter((position) => position != null);
  const [first] = known;
  if (first === undefined || known.length < positions.length) return null;
  if (known.some(({ epoch }) => epoch !== first.epoch)) return null;
  return { epoch: first.epoch, seq: Math.min(...known.map(({ seq }) => seq)) };
}
