import { describe, expect, it } from "vitest";
import type { Position } from "../src/client/position";
import type { Range } from "../src/client/rows";
import { type Action, Splice, type Unread } from "../src/client/splice";
import { type GoldenBlock, type GoldenLive, golden, liveBlock, rows } from "./golden";

type Told = Record<string, unknown> & { readonly do: string };

interface Step {
  readonly tell: string;
  readonly args: readonly never[];
  readonly actions: readonly Told[];
  readonly state: string;
  readonly position: Position | null;
}

interface Run {
  readonly fields: readonly string[];
  readonly start: number;
  readonly position: Position | null;
  readonly newest: number | null;
  readonly unread: Unread | null;
  readonly steps: readonly Step[];
}

const { bounds, runs } = golden("splice.json") as {
  readonly bounds: { readonly MAX_HELD: number; readonly MAX_HELD_VALUES: number };
  readonly runs: readonly Run[];
};

/** Tells a splice what a step says. */
const TELL: Readonly<Record<string, (splice: Splice, ...args: never[]) => Action[]>> = {
  subscribed: (splice) => splice.subscribed(),
  lost: (splice) => splice.lost(),
  paused: (splice) => splice.paused(),
  resumed: (splice) => splice.resumed(),
  silent: (splice) => splice.silent(),
  tail: (splice, position: Position, newest: number | null) => splice.tail(position, newest),
  begins: (splice, first: number) => splice.begins(first),
  page: (splice, block: GoldenBlock) => splice.page(rows(block)),
  pages_done: (splice) => splice.pagesDone(),
  changed: (splice, block: GoldenBlock, revises: Range[], position: Position) =>
    splice.changed(rows(block), revises, position),
  position_lost: (splice) => splice.positionLost(),
  too_much: (splice) => splice.tooMuch(),
  event: (splice, live: GoldenLive) => splice.event(liveBlock(live)),
};

/** An action as Python tells it, as it is here. */
function expected(told: Told): unknown {
  if (told.do === "ask_since") return { ...told, end: told.end ?? Number.POSITIVE_INFINITY };
  if (told.do !== "deliver") return told;
  const { finalized_until, block, ...rest } = told;
  return { ...rest, block: rows(block as GoldenBlock), finalizedUntil: finalized_until };
}

describe("the splice does what Python's does", () => {
  it.each(runs.map((run, i) => [i, run] as const))("run %i", (_, run) => {
    const held = { held: bounds.MAX_HELD, values: bounds.MAX_HELD_VALUES };
    const splice = new Splice(run.fields, run.start, run.position, run.newest, run.unread, held);
    for (const [at, step] of run.steps.entries()) {
      const actions = TELL[step.tell]!(splice, ...step.args);
      expect({ at, actions, state: splice.state, position: splice.position }).toEqual({
        at,
        actions: step.actions.map(expected),
        state: step.state,
        position: step.position,
      });
    }
  });
});

it("takes any number of rows that may have been delivered before", () => {
  const t = Array.from({ length: 200_000 }, (_, i) => 2 * i);
  const splice = new Splice(["x"], 0, { epoch: "e", seq: 1 }, t.at(-1)!);
  splice.subscribed();
  const [told] = splice.changed({ t, columns: new Map([["x", t]]) }, [], { epoch: "e", seq: 2 });
  expect(told?.do === "deliver" && told.revises.length).toBe(t.length);
});
