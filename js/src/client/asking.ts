/** Asking a node in Arrow: one call of get_data, whose rows are taken as they come. */

import type { CallOptions } from "./attempt";
import { isRecord } from "./catalogue";
import { FAILED, fromWire, SisockError } from "./errors";
import { range } from "./live";
import { type Position, parsePosition } from "./position";
import { type Range, type Rows, toMicros, toSeconds } from "./rows";
import { getData } from "./uris";

/** What an answer says of one timeline; times in microseconds. */
export interface Answered {
  /** Null where the node keeps no positions. */
  readonly position: Position | null;
  readonly finalizedUntil: number | null;
  readonly revises: readonly Range[];
  /**
   * How many rows there were before they were made fewer, about where they began, and the time of the last of them, which may
   * have no value of these fields.
   */
  readonly rows: number;
  readonly first: number | null;
  readonly last: number | null;
}

/** One question to a node: fields of one timeline in [start, end), in microseconds. */
export interface Question {
  readonly node: string;
  readonly timeline: string;
  readonly fields: readonly string[];
  readonly start: number;
  readonly end: number;
  readonly since?: Position;
  /** Whether only the last row is wanted. */
  readonly last?: boolean;
}

type Call = (
  procedure: string,
  args: readonly unknown[],
  kwargs: Readonly<Record<string, unknown>>,
  options: CallOptions,
) => Promise<unknown>;

// Times of the wire are above 0; what is at or below it counts from now.
const EARLIEST = 1;

/** Asks; rows go to `take` in order. TOO_MUCH after one call's worth of rows: what was taken before is whole. */
export async function askArrow(
  call: Call,
  question: Question,
  take: (rows: Rows) => void,
  signal: AbortSignal,
): Promise<Answered> {
  // Not everybody asks in Arrow, so what reads it is loaded by the first who does.
  const { Reader } = await import("./arrow");
  const reader = new Reader();
  let rows = 0;
  let end: number | null = null;
  let broken: SisockError | null = null;
  const feed = (octets: unknown): void => {
    if (broken !== null || signal.aborted) return;
    try {
      if (!(octets instanceof Uint8Array)) throw new SisockError(FAILED, "the node's answer in Arrow holds no bytes");
      for (const block of reader.feed(octets)) {
        if (block.t.length === 0) continue;
        rows += block.t.length;
        end = block.t.at(-1)!;
        take(block);
      }
    } catch (error) {
      broken = fromWire(error);
    }
  };
  const { timeline, since } = question;
  const more = question.last === true ? { max_points: 1, method: "last" } : {};
  const answer = await call(
    getData(question.node),
    [
      question.fields,
      toSeconds(Math.max(question.start, EARLIEST)),
      Number.isFinite(question.end) ? toSeconds(question.end) : null,
    ],
    { encoding: "arrow", ...more, ...(since === undefined ? {} : { since: { [timeline]: since } }) },
    { signal, onProgress: (message) => isRecord(message) && message.timeline === timeline && feed(message.arrow) },
  );
  if (!isRecord(answer) || !isRecord(answer.timeline)) {
    throw new SisockError(FAILED, "the node's answer is not what get_data answers in Arrow");
  }
  const of = (part: unknown): unknown => (isRecord(part) ? part[timeline] : undefined);
  if (of(answer.arrow) !== undefined) feed(of(answer.arrow));
  if (broken !== null) throw broken;
  const [line, done, revises] = [of(answer.timeline), of(answer.downsampled), of(answer.revises)];
  return {
    position: parsePosition(of(answer.position)),
    finalizedUntil: isRecord(line) && typeof line.finalized_until === "number" ? line.finalized_until : null,
    revises: Array.isArray(revises) ? revises.map(range) : [],
    rows: isRecord(done) && typeof done.from === "number" ? done.from : rows,
    first: isRecord(done) && typeof done.first === "number" ? toMicros(done.first) : null,
    last: isRecord(done) && typeof done.last === "number" ? toMicros(done.last) : end,
  };
}
