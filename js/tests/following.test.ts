import { describe, expect, it, vi } from "vitest";
import { SisockError } from "../src/client/errors";
import { type Followed, Following, type Resume } from "../src/client/following";
import { Node } from "./kept";

const PATIENT = { timeout: 10_000, interval: 5 };

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

  gap({ start, end, reason }: Parameters<Followed["gap"]>[0]): void {
    this.gaps.push(`[${start}, ${end}): ${reason}`);
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
  }, PATIENT);
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
    await vi.waitFor(() => expect(told.tooMuch).toHaveBeenCalledOnce(), PATIENT);
    expect(told.rows.size).toBe(0);
    other.following.stop();
  });

  it("names what came while it was away and is not kept any more", async () => {
    const node = new Node();
    node.keep({ 1: 10, 2: 20 });
    const { seen, following } = follow(node);
    await same(seen, node);
    node.lose();
    node.most = 1;
    node.keep({ 3: 3, 4: 4, 5: 5, 6: 6, 7: 7 });
    for (const t of [1, 2, 3, 4, 5]) node.rows.delete(t);
    node.join();
    await vi.waitFor(() => expect(seen.sorted().slice(-2)).toEqual([...node.rows]), PATIENT);
    await vi.waitFor(() => expect(seen.gaps).toEqual([expect.stringContaining("[2000001, 6000000)")]), PATIENT);
    following.stop();
  });

  it("names what it delivered of another history", async () => {
    const node = new Node();
    node.keep({ 1: 10, 2: 20 });
    const { seen, following } = follow(node);
    await same(seen, node);
    node.another();
    node.keep({ 2: 2, 3: 3 });
    await vi.waitFor(() => expect(seen.gaps).toHaveLength(1), PATIENT);
    await vi.waitFor(
      () =>
        expect(seen.sorted()).toEqual([
          [1, 10],
          [2, 2],
          [3, 3],
        ]),
      PATIENT,
    );
    following.stop();
  });

  it.each(["no positions", "old"] as const)("says that the node has no such thing: %s", async (answers) => {
    const node = new Node();
    node.answers = answers;
    node.keep({ 1: 10 });
    const { seen } = follow(node);
    await vi.waitFor(() => expect(seen.over).toBe(true), PATIENT);
  });

  it("leaves who may read but not follow to asking, and says what else is refused", async () => {
    const node = new Node();
    node.refuses = new SisockError("sisock.error.not_authorized", "this user may not follow n");
    const { seen } = follow(node);
    await vi.waitFor(() => expect(seen.over).toBe(true), PATIENT);
    expect(seen.problems).toEqual([]);
    node.refuses = new SisockError("sisock.error.busy", "too many");
    const other = follow(node).seen;
    await vi.waitFor(() => expect(other.problems).toEqual([node.refuses]), PATIENT);
    expect(other.over).toBe(false);
  });

  it("tries again what failed for a while, whatever its words are", async () => {
    const node = new Node();
    node.keep({ 1: 10 });
    node.fails = new SisockError("sisock.error.node_failed", "rows raised: invalid byte sequence for encoding UTF8");
    const { seen, following } = follow(node);
    await same(seen, node);
    expect(seen.over).toBe(false);
    expect(seen.problems.map((error) => error?.uri)).toEqual(["sisock.error.node_failed", undefined, undefined]);
    following.stop();
  });

  it("ends with what another try would meet again", async () => {
    const node = new Node();
    node.fails = new SisockError("sisock.error.unknown_field", "no such field");
    const { seen } = follow(node);
    await vi.waitFor(() => expect(seen.problems).toHaveLength(1), PATIENT);
    expect(node.asked).toHaveLength(1);
  });

  it("gives up what it asks when it is stopped", async () => {
    const node = new Node();
    node.answers = "nothing";
    const { following } = follow(node);
    await vi.waitFor(() => expect(node.aborted).toHaveLength(1), PATIENT);
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
