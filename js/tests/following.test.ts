import { float64, int64, tableFromArrays, tableToIPC } from "@uwdata/flechette";
import { describe, expect, it, vi } from "vitest";
import type { CallOptions } from "../src/client/attempt";
import type { State, SubscribeOptions } from "../src/client/connection";
import { POSITION_LOST, SisockError, TOO_MUCH } from "../src/client/errors";
import { type Followed, Following, type Link, type Resume } from "../src/client/following";
import { Listeners, type Stop } from "../src/client/listeners";

type Kwargs = Readonly<Record<string, unknown>>;

/** A node in memory with one timeline that keeps positions, and the connection to it. Times are whole seconds here. */
class Node implements Link {
  readonly rows = new Map<number, number>();
  readonly states = new Listeners<State>();
  state: State = { kind: "connected" };
  readonly asked: Kwargs[] = [];
  readonly aborted: AbortSignal[] = [];
  epoch = "e";
  seq = 0;
  most = Number.POSITIVE_INFINITY;
  answers: "all" | "no positions" | "old" | "nothing" = "all";
  #touched: { seq: number; start: number; end: number }[] = [];
  #topic: { handler: (args: readonly unknown[]) => void; options: SubscribeOptions } | null = null;

  /** Keeps rows, and publishes them unless that is lost. */
  keep(rows: Record<number, number>, lost = false): void {
    const times = Object.keys(rows).map(Number);
    const late = times[0]! <= Math.max(0, ...this.rows.keys());
    for (const t of times) this.rows.set(t, rows[t]!);
    this.seq += 1;
    this.#touched.push({ seq: this.seq, start: times[0]!, end: times.at(-1)! + 1 });
    if (lost) return;
    const revises = late ? { revises: [times[0], times.at(-1)! + 1] } : {};
    const t = late
      ? [...this.rows.keys()].filter((at) => at >= times[0]! && at <= times.at(-1)!).sort((a, b) => a - b)
      : times;
    this.publish({ after: this.seq - 1, t, data: { x: t.map((at) => this.rows.get(at)) }, ...revises });
  }

  publish(event: Kwargs): void {
    if (this.state.kind !== "connected") return;
    this.#topic?.handler([{ timeline: "t", epoch: this.epoch, seq: this.seq, finalized_until: null, ...event }]);
  }

  lose(): void {
    this.state = { kind: "away", retryAt: 0 };
    this.states.tell(this.state);
  }

  join(): void {
    this.state = { kind: "connected" };
    this.states.tell(this.state);
    this.#topic?.options.subscribed?.();
  }

  subscribe(_topic: string, handler: (args: readonly unknown[]) => void, options: SubscribeOptions = {}): Stop {
    this.#topic = { handler, options };
    queueMicrotask(() => options.subscribed?.());
    return () => {
      this.#topic = null;
    };
  }

  async call(
    _procedure: string,
    args: readonly unknown[] = [],
    kwargs: Kwargs = {},
    options: CallOptions = {},
  ): Promise<unknown> {
    this.asked.push(kwargs);
    if (options.signal !== undefined) this.aborted.push(options.signal);
    await Promise.resolve();
    if (this.answers === "nothing") return new Promise(() => {});
    if (this.answers === "old") throw new SisockError("wamp.error.runtime_error", "got an unexpected keyword argument");
    const [, start, end] = args as [string[], number, number | null];
    const since = (kwargs.since as Record<string, { epoch: string; seq: number }> | undefined)?.t;
    if (since !== undefined && since.epoch !== this.epoch) throw new SisockError(POSITION_LOST, "another one");
    const later = this.#touched.filter(({ seq }) => since === undefined || seq > since.seq);
    let t = [...this.rows.keys()].sort((a, b) => a - b).filter((at) => at >= start && (end === null || at < end));
    if (since !== undefined) t = t.filter((at) => later.some((one) => at >= one.start && at < one.end));
    if (since !== undefined && t.length > this.most) throw new SisockError(TOO_MUCH, "too much");
    const within = (one: { start: number; end: number }) => [Math.max(one.start, start), Math.min(one.end, end ?? 1e9)];
    const revised = later.map(within).filter(([low, high]) => low! < high!);
    const from = t.length;
    if (kwargs.method === "last") t = t.slice(-1);
    if (t.length > 0) options.onProgress?.({ timeline: "t", arrow: this.#arrow(t) });
    return {
      timeline: t.length > 0 ? { t: { finalized_until: null } } : {},
      ...(this.answers === "no positions" ? {} : { position: { t: { epoch: this.epoch, seq: this.seq } } }),
      ...(since === undefined ? {} : { revises: { t: revised } }),
      ...(from > t.length ? { downsampled: { t: { from, to: t.length } } } : {}),
    };
  }

  another(): void {
    this.epoch += "'";
    this.rows.clear();
    this.seq = 0;
    this.#touched = [];
  }

  #arrow(t: readonly number[]): Uint8Array {
    const columns = { t: t.map((at) => BigInt(at * 1_000_000)), x: t.map((at) => this.rows.get(at)!) };
    const table = tableFromArrays(columns, { types: { t: int64(), x: float64() } });
    return tableToIPC(table, { format: "stream" })!;
  }
}

/** What was followed, put together by the rules. */
class Seen implements Followed {
  readonly rows = new Map<number, number>();
  readonly gaps: string[] = [];
  readonly problems: (SisockError | null)[] = [];
  position: Resume["position"] | null = null;
  over = false;

  deliver({ block, revises, position }: Parameters<Followed["deliver"]>[0]): void {
    for (const [start, end] of revises) {
      for (const t of [...this.rows.keys()]) if (t * 1e6 >= start && t * 1e6 < end) this.rows.delete(t);
    }
    for (const [i, t] of block.t.entries()) {
      expect(this.rows.has(t / 1e6)).toBe(false);
      this.rows.set(t / 1e6, block.columns.get("x")![i] as number);
    }
    this.position = position ?? this.position;
  }

  gap({ reason }: Parameters<Followed["gap"]>[0]): void {
    this.gaps.push(reason);
  }

  problem(error: SisockError | null): void {
    this.problems.push(error);
  }

  without(): void {
    this.over = true;
  }

  sorted(): [number, number][] {
    return [...this.rows].sort(([a], [b]) => a - b);
  }
}

function follow(node: Node, resume: Resume | null = null, seen = new Seen()): { seen: Seen; following: Following } {
  return { seen, following: new Following(node, "n", "t", ["x"], 1, resume, seen) };
}

async function same(seen: Seen, node: Node): Promise<void> {
  await vi.waitFor(() => {
    expect(seen.sorted()).toEqual([...node.rows].sort(([a], [b]) => a - b));
    expect(seen.position).toEqual({ epoch: node.epoch, seq: node.seq });
  });
}

describe("following", () => {
  it("makes one stream of history and what comes, late rows and corrections too", async () => {
    const node = new Node();
    node.keep({ 1: 10, 2: 20, 4: 40 });
    const { seen, following } = follow(node);
    await same(seen, node);
    node.keep({ 5: 50 });
    node.keep({ 2: 21, 3: 30 });
    await same(seen, node);
    expect(node.asked.filter(({ since }) => since !== undefined)).toEqual([]);
    following.stop();
  });

  it("asks for what it did not hear", async () => {
    const node = new Node();
    const { seen, following } = follow(node);
    node.keep({ 1: 10 });
    await same(seen, node);
    node.keep({ 2: 20 }, true);
    node.keep({ 3: 30 });
    await same(seen, node);
    expect(node.asked.at(-1)?.since).toEqual({ t: { epoch: "e", seq: 1 } });
    following.stop();
  });

  it("goes on behind a lost connection, with nothing twice", async () => {
    const node = new Node();
    node.keep({ 1: 10 });
    const { seen, following } = follow(node);
    await same(seen, node);
    node.lose();
    node.keep({ 1: 11, 2: 20 });
    node.join();
    await same(seen, node);
    expect(seen.gaps).toEqual([]);
    following.stop();
  });

  it("goes on behind what was followed before", async () => {
    const node = new Node();
    node.keep({ 1: 10, 2: 20 });
    const before = follow(node);
    await same(before.seen, node);
    before.following.stop();
    node.keep({ 1: 11 });
    node.keep({ 3: 30 });
    const resume = { position: before.seen.position!, newest: 2e6 };
    const { following } = follow(node, resume, before.seen);
    await same(before.seen, node);
    following.stop();
  });

  it("reads much in pages, or leaves it to whom it was told", async () => {
    const node = new Node();
    node.keep({ 1: 10 });
    const { seen, following } = follow(node);
    await same(seen, node);
    node.lose();
    node.most = 3;
    node.keep({ 2: 2, 3: 3, 4: 4, 5: 5, 6: 6 });
    node.keep({ 1: 11 });
    node.join();
    await same(seen, node);
    following.stop();

    const told = Object.assign(new Seen(), { tooMuch: vi.fn() });
    const other = follow(node, { position: { epoch: "e", seq: 0 }, newest: 1e6 }, told);
    await vi.waitFor(() => expect(told.tooMuch).toHaveBeenCalledOnce());
    expect(told.rows.size).toBe(0);
    other.following.stop();
  });

  it("names what it delivered of another history", async () => {
    const node = new Node();
    node.keep({ 1: 10, 2: 20 });
    const { seen, following } = follow(node);
    await same(seen, node);
    node.another();
    node.keep({ 2: 2, 3: 3 });
    await vi.waitFor(() => expect(seen.gaps).toHaveLength(1));
    await vi.waitFor(() =>
      expect(seen.sorted()).toEqual([
        [1, 10],
        [2, 2],
        [3, 3],
      ]),
    );
    following.stop();
  });

  it.each(["no positions", "old"] as const)("says that the node has no such thing: %s", async (answers) => {
    const node = new Node();
    node.answers = answers;
    node.keep({ 1: 10 });
    const { seen } = follow(node);
    await vi.waitFor(() => expect(seen.over).toBe(true));
  });

  it("gives up what it asks when it is stopped", async () => {
    const node = new Node();
    node.answers = "nothing";
    const { following } = follow(node);
    await vi.waitFor(() => expect(node.aborted).toHaveLength(1));
    following.stop();
    expect(node.aborted[0]!.aborted).toBe(true);
  });

  it("does not fall over what is no event", async () => {
    const node = new Node();
    const warned = vi.spyOn(console, "warn").mockImplementation(() => {});
    const { seen, following } = follow(node);
    node.keep({ 1: 10 });
    await same(seen, node);
    node.publish({ after: "x", t: 1, data: {} });
    node.keep({ 2: 20 });
    await same(seen, node);
    expect(warned).toHaveBeenCalledOnce();
    warned.mockRestore();
    following.stop();
  });
});
