import { describe, expect, it } from "vitest";
import type { Block } from "../src/client/block";
import { SisockError } from "../src/client/errors";
import { type Caller, PollingSource } from "../src/client/source";

type Row = Readonly<Record<string, number | string | null>>;

/** A node in memory that answers as the contract says: `a` and `b` on `t`, `c` on `u`. */
class Node implements Caller {
  readonly rows = { t: new Map<number, Row>(), u: new Map<number, Row>() };
  readonly calls: (readonly unknown[])[] = [];
  old = false;
  limit = Number.POSITIVE_INFINITY;
  /** Of the timelines that have one. */
  position = {};

  async connected(): Promise<void> {}

  async call(
    procedure: string,
    args: readonly unknown[] = [],
    kwargs: Readonly<Record<string, unknown>> = {},
  ): Promise<unknown> {
    const on = (timeline: string) => ({ timeline, type: "number", units: null, description: null });
    if (procedure.endsWith(".get_fields")) {
      return [
        { a: on("t"), b: on("t"), c: on("u") },
        { t: { interval: 1, field: ["a", "b"] }, u: { interval: null, field: ["c"] } },
      ];
    }
    this.calls.push([...args, kwargs]);
    if (this.old && Object.keys(kwargs).length > 0) {
      throw new SisockError("wamp.error.runtime_error", "get_data() got an unexpected keyword argument 'max_points'");
    }
    const [fields, start, end] = args as [string[], number, number | null];
    const data: Record<string, unknown[]> = Object.fromEntries(fields.map((name) => [name, []]));
    const timeline: Record<string, unknown> = {};
    for (const [name, rows] of Object.entries(this.rows)) {
      const mine = fields.filter((field) => (name === "t") === (field !== "c"));
      const from = start > 0 ? start : 1000 + start;
      let t = [...rows.keys()].filter((at) => at >= from && (end === null || end === 0 || at < end));
      t = t.filter((at) => mine.some((field) => rows.get(at)?.[field] != null)).sort((x, y) => x - y);
      if (kwargs.method === "last") t = t.slice(-1);
      if (t.length > this.limit) return false;
      if (t.length === 0) continue;
      timeline[name] = { t, finalized_until: null };
      for (const field of mine) {
        const values = t.map((at) => rows.get(at)?.[field] ?? null);
        if (values.some((value) => value !== null)) data[field] = values;
      }
    }
    return { data, timeline, position: this.position };
  }
}

async function source(node: Node): Promise<PollingSource> {
  const made = new PollingSource(node, "n");
  await made.catalogue();
  return made;
}

describe("reading", () => {
  it("asks fields of one timeline together where rows are few, and shows their nulls", async () => {
    const node = new Node();
    node.rows.t.set(10, { a: 1, b: null }).set(11, { a: 2, b: 5 });
    const read = await (await source(node)).read(["a", "b", "c", "unknown"], { start: 5, end: 20 }, 100);
    expect(read.get("a")?.line).toEqual({ t: [10, 11], v: [1, 2] });
    expect(read.get("b")?.line).toEqual({ t: [10, 11], v: [null, 5] });
    expect(read.get("c")?.line).toEqual({ t: [], v: [] });
    expect(read.get("unknown")?.line).toEqual({ t: [], v: [] });
    expect(node.calls.map(([fields]) => fields)).toEqual([["a", "b"], ["c"]]);
    expect(node.calls[0]).toEqual([["a", "b"], 5, 20, { max_points: 100, method: "minmax" }]);
  });

  it("asks them one by one where rows are many", async () => {
    const node = new Node();
    await (await source(node)).read(["a", "b"], { start: 1, end: 1e6 }, 100);
    expect(node.calls.map(([fields]) => fields)).toEqual([["a"], ["b"]]);
  });

  it("says it when one answer cannot hold it", async () => {
    const node = new Node();
    node.rows.t.set(10, { a: 1 }).set(11, { a: 1 });
    node.limit = 1;
    await expect((await source(node)).read(["a"], { start: 1, end: null }, 9)).rejects.toThrow("choose a shorter time");
  });

  it("speaks with a node of the old kind in its own words", async () => {
    const node = new Node();
    node.old = true;
    node.rows.t.set(10, { a: 1 });
    const made = await source(node);
    for (const _ of [1, 2]) {
      const read = await made.read(["a"], { start: 5, end: 25 }, 10);
      expect(read.get("a")?.line).toEqual({ t: [10], v: [1] });
    }
    // Refused once, and then known to be old.
    expect(node.calls.map((call) => call.length)).toEqual([4, 5, 5]);
    expect(node.calls.at(-1)).toEqual([["a"], 5, 25, 2, {}]);
  });
});

describe("the newest values", () => {
  it("are found however far back they are", async () => {
    const node = new Node();
    node.rows.t.set(100, { a: 1, b: 7 }).set(990, { a: 2, b: null });
    node.rows.u.set(3, { c: 3 });
    const newest = await (await source(node)).newest(["a", "b", "c"]);
    expect(Object.fromEntries(newest)).toEqual({
      a: { t: 990, value: 2, final: false },
      b: { t: 100, value: 7, final: false },
      c: { t: 3, value: 3, final: false },
    });
  });
});

describe("the newest value of a finished timeline", () => {
  it("is known to be the last", async () => {
    const node = new Node();
    node.rows.t.set(10, { a: 1 });
    node.position = { t: { epoch: "e", seq: 1 } };
    expect((await (await source(node)).newest(["a"])).get("a")).toEqual({ t: 10, value: 1, final: true });
  });
});

describe("following", () => {
  it("hands on what comes, from the newest that is known, and tells of problems", async () => {
    const node = new Node();
    node.rows.t.set(10, { a: 1 }).set(11, { a: 2 });
    const made = await source(node);
    const told = await new Promise<(Block | SisockError | null)[]>((resolve) => {
      const all: (Block | SisockError | null)[] = [];
      const stop = made.follow(
        "t",
        ["a"],
        { since: 11, maxPoints: 10 },
        {
          block: (block) => all.push(block),
          problem: (problem) => {
            all.push(problem);
            stop();
            resolve(all);
          },
        },
      );
    });
    expect(told).toMatchObject([{ t: [11], revises: [11, Number.POSITIVE_INFINITY] }, null]);
    expect(node.calls).toHaveLength(1);
  });
});
