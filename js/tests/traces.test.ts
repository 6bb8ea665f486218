import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Block, Catalogue, Follow, Follower, Reading, Source, Stop } from "../src/client";
import { SisockError } from "../src/client/errors";
import { Traces } from "../src/page/traces";

vi.mock("autobahn-browser", () => ({ default: {} }));

const catalogue: Catalogue = {
  fields: new Map([["x", { name: "x", description: null, timeline: "t", type: "number", units: null }]]),
  timelines: new Map([["t", { name: "t", interval: 1, fields: ["x"] }]]),
} as unknown as Catalogue;

/** A node whose rows are what it was given; it counts what it is asked. */
class Node implements Source {
  reads = 0;
  busy = false;
  line: Reading["line"] = { t: [], v: [] };
  thinned: Reading["thinned"] = null;
  readonly followed: Follow[] = [];
  readonly followers = new Set<Follower>();

  async catalogue(): Promise<Catalogue> {
    return catalogue;
  }

  async read(fields: readonly string[]): Promise<Map<string, Reading>> {
    this.reads += 1;
    if (this.busy) throw new SisockError("sisock.error.busy", "busy");
    const position = { epoch: "e", seq: this.reads };
    return new Map(fields.map((name) => [name, { line: this.line, thinned: this.thinned, position }]));
  }

  async newest(): ReturnType<Source["newest"]> {
    return new Map();
  }

  follow(_timeline: string, _fields: readonly string[], options: Follow, follower: Follower): Stop {
    this.followed.push(options);
    this.followers.add(follower);
    return () => this.followers.delete(follower);
  }

  tell(t: readonly number[], more: Partial<Block> = {}): void {
    const data = new Map([["x", t.map(() => 1)]]);
    const block = {
      timeline: "t",
      t,
      data,
      revises: null,
      finalizedUntil: null,
      thinned: null,
      position: null,
      ...more,
    };
    for (const follower of [...this.followers]) follower.block(block);
  }
}

const shown = (traces: Traces): readonly number[] | undefined => traces.lines.value.get("x")?.line.t;

describe("traces", () => {
  beforeEach(() => {
    vi.useFakeTimers({ now: 1_000_000 });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  async function begun(node: Node, points = 1000): Promise<Traces> {
    const traces = new Traces(node);
    traces.resume(catalogue);
    traces.show(["x"], { kind: "last", seconds: 300 }, points);
    await vi.advanceTimersByTimeAsync(0);
    return traces;
  }

  it("are what was read, and go on with what comes behind it", async () => {
    const node = new Node();
    node.line = { t: [990, 991], v: [1, 2] };
    const traces = await begun(node);
    expect(node.followed).toEqual([
      { since: 991, maxPoints: 1000, position: { epoch: "e", seq: 1 }, from: 1000 - 300 * 1.02 },
    ]);
    node.tell([992], { position: { epoch: "e", seq: 2 } });
    expect(shown(traces)).toEqual([990, 991, 992]);
    traces.pause();
    traces.resume(catalogue);
    await vi.advanceTimersByTimeAsync(0);
    // What is known is not read again.
    expect(node.reads).toBe(1);
    expect(node.followed.at(-1)).toMatchObject({ since: 992, position: { epoch: "e", seq: 2 } });
  });

  it("are read again some seconds after they could not be read, however fast rows come", async () => {
    const node = new Node();
    node.busy = true;
    const traces = await begun(node);
    for (let i = 0; i < 10; i++) {
      node.tell([1000 + i]);
      await vi.advanceTimersByTimeAsync(400);
    }
    expect(node.reads).toBe(1);
    expect(traces.problem.value?.message).toBe("busy");
    await vi.advanceTimersByTimeAsync(1000);
    expect(node.reads).toBe(2);
    node.busy = false;
    node.line = { t: [990], v: [1] };
    await vi.advanceTimersByTimeAsync(5000);
    expect(node.reads).toBe(3);
    expect(traces.problem.value).toBeNull();
    expect(shown(traces)).toEqual([990]);
  });

  it("are read again at once when the node comes back", async () => {
    const node = new Node();
    node.busy = true;
    const traces = await begun(node);
    traces.pause();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(node.reads).toBe(1);
    node.busy = false;
    traces.resume(catalogue);
    await vi.advanceTimersByTimeAsync(0);
    expect(node.reads).toBe(2);
    // Nothing holds back what is to be thinned.
    node.tell(Array.from({ length: 2001 }, (_, i) => 1010 + i / 10));
    await vi.advanceTimersByTimeAsync(0);
    expect(node.reads).toBe(3);
  });

  it("say that another history is shown, and read it", async () => {
    const node = new Node();
    const traces = await begun(node);
    for (const follower of [...node.followers]) follower.anew?.("it is another one");
    await vi.advanceTimersByTimeAsync(0);
    expect(traces.gap.value).toEqual({ t: 1000, reason: "it is another one" });
    expect(node.reads).toBe(2);
  });
});
