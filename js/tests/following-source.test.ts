import { describe, expect, it, vi } from "vitest";
import type { Block, Stop } from "../src/client";
import { SisockError } from "../src/client/errors";
import { FollowingSource } from "../src/client/following-source";
import { Node } from "./kept";

vi.mock("autobahn-browser", () => ({ default: {} }));

const PATIENT = { timeout: 10_000, interval: 5 };

/** What a follower was told. */
class Told {
  readonly blocks: Block[] = [];
  readonly problems: (SisockError | null)[] = [];
  readonly reasons: (string | null)[] = [];

  block(block: Block): void {
    this.blocks.push(block);
  }

  problem(error: SisockError | null): void {
    this.problems.push(error);
  }

  anew(reason: string | null): void {
    this.reasons.push(reason);
  }

  get t(): readonly number[] {
    return this.blocks.flatMap(({ t }) => t);
  }
}

async function followed(node: Node, told: Told, more = {}): Promise<{ source: FollowingSource; stop: Stop }> {
  const source = new FollowingSource(node, "n");
  await source.catalogue();
  return { source, stop: source.follow("t", ["x"], { since: 1, maxPoints: 9, ...more }, told) };
}

describe("a source that follows", () => {
  it("hands on what there is and what comes, with the position that it reaches", async () => {
    const node = new Node();
    node.keep({ 1: 10, 2: 20 });
    const told = new Told();
    const { stop } = await followed(node, told);
    await vi.waitFor(() => expect(told.t).toEqual([1, 2]), PATIENT);
    node.keep({ 3: 30 });
    await vi.waitFor(() => expect(told.blocks.at(-1)?.position).toEqual({ epoch: "e", seq: 2 }), PATIENT);
    node.keep({ 2: 21 });
    await vi.waitFor(() => expect(told.blocks.at(-1)).toMatchObject({ t: [2], revises: [2, 3] }), PATIENT);
    stop();
    node.keep({ 4: 40 });
    expect(told.t).toEqual([1, 2, 3, 2]);
  });

  it("goes on behind a position, and asks what came since", async () => {
    const node = new Node();
    node.keep({ 1: 10 });
    node.keep({ 2: 20 });
    const told = new Told();
    const { stop } = await followed(node, told, { position: { epoch: "e", seq: 1 }, from: 1 });
    await vi.waitFor(() => expect(told.t).toEqual([2]), PATIENT);
    expect(node.asked.at(-1)?.since).toEqual({ t: { epoch: "e", seq: 1 } });
    stop();
  });

  it("says where it is better read anew: another history, and too much", async () => {
    const node = new Node();
    node.keep({ 1: 10, 2: 20, 3: 30 });
    const other = new Told();
    await followed(node, other, { position: { epoch: "before", seq: 1 } });
    await vi.waitFor(() => expect(other.reasons).toEqual([expect.stringContaining("another one")]), PATIENT);
    node.most = 1;
    const much = new Told();
    await followed(node, much, { position: { epoch: "e", seq: 0 } });
    await vi.waitFor(() => expect(much.reasons).toEqual([null]), PATIENT);
    expect(much.blocks).toEqual([]);
  });

  it.each(["no positions", "not allowed"])("asks again and again where it cannot: %s", async (why) => {
    const node = new Node();
    node.keep({ 1: 10 });
    if (why === "no positions") node.answers = "no positions";
    else node.refuses = new SisockError("sisock.error.not_authorized", "this user may not follow n");
    const told = new Told();
    const { source, stop } = await followed(node, told);
    await vi.waitFor(() => expect(told.t).toEqual([1]), PATIENT);
    expect(told.problems).toEqual([null]);
    stop();
    // And from then on at once.
    node.asked.length = 0;
    const again = new Told();
    source.follow("t", ["x"], { since: 1, maxPoints: 9 }, again)();
    await vi.waitFor(() => expect(node.asked).toHaveLength(1), PATIENT);
    expect(node.asked[0]).toEqual({ max_points: 9, method: "minmax" });
  });
});
