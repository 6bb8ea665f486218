import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Connection, State } from "../src/client/connection";
import { SisockError, TOO_MUCH } from "../src/client/errors";
import { Listeners } from "../src/client/listeners";
import { OpenNode } from "../src/page/node";

vi.mock("autobahn-browser", () => ({ default: {} }));

/** A connection to a node with the field `x` on the timeline `t`; what came after a position is more than an answer holds. */
class Link {
  readonly state: State = { kind: "connected" };
  readonly states = new Listeners<State>();
  readonly handlers = new Set<(args: readonly unknown[]) => void>();
  asked = 0;
  seq = 1;
  broken: SisockError | null = null;

  async connected(): Promise<void> {}

  subscribe(_topic: string, handler: (args: readonly unknown[]) => void, { subscribed }: { subscribed(): void }) {
    this.handlers.add(handler);
    queueMicrotask(subscribed);
    return () => this.handlers.delete(handler);
  }

  async call(procedure: string, _args: unknown, kwargs: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    if (procedure.endsWith("get_fields")) {
      this.asked += 1;
      if (this.broken !== null) throw this.broken;
      const field = { timeline: "t", type: "number", units: null, description: null };
      return [{ x: field }, { t: { interval: 1, field: ["x"] } }];
    }
    const since = (kwargs.since as { t: { seq: number } } | undefined)?.t.seq ?? this.seq;
    if (since < this.seq) throw new SisockError(TOO_MUCH, "too much");
    if (kwargs.encoding === "arrow") return { timeline: {}, position: { t: { epoch: "e", seq: this.seq } } };
    return { data: { x: [this.seq] }, timeline: { t: { t: [5] } } };
  }

  /** An event behind a hole. */
  jump(): void {
    this.seq += 10;
    const event = { timeline: "t", epoch: "e", seq: this.seq, after: this.seq - 1, t: [], data: {} };
    for (const handler of [...this.handlers]) handler([event]);
  }
}

/** Whatever waits for nothing but what is loaded. */
async function settled(): Promise<void> {
  for (let i = 0; i < 5; i++) {
    await vi.dynamicImportSettled();
    await vi.advanceTimersByTimeAsync(0);
  }
}

describe("an open node", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  async function opened(link: Link): Promise<OpenNode> {
    const node = new OpenNode(link as unknown as Connection, "n");
    node.start();
    await settled();
    return node;
  }

  it("knows its newest values, and follows them", async () => {
    const link = new Link();
    const node = await opened(link);
    expect(node.newest.value).toEqual(new Map([["x", { t: 5, value: 1, final: false }]]));
    expect(link.handlers.size).toBe(1);
    node.stop(false);
    expect(link.handlers.size).toBe(0);
  });

  it("is asked each 30 s what it has, however often it was read anew, and no more when it is closed", async () => {
    const link = new Link();
    const node = await opened(link);
    for (let i = 0; i < 3; i++) {
      link.jump();
      await settled();
      expect(node.newest.value?.get("x")?.value).toBe(link.seq);
    }
    expect(link.asked).toBe(4);
    expect(link.handlers.size).toBe(1);
    await vi.advanceTimersByTimeAsync(61_000);
    expect(link.asked).toBe(6);
    node.stop(false);
    await vi.advanceTimersByTimeAsync(61_000);
    expect(link.asked).toBe(6);
    expect(link.handlers.size).toBe(0);
  });

  it("is asked again where it does not say what it has", async () => {
    const link = new Link();
    link.broken = new SisockError("sisock.error.busy", "busy");
    const node = await opened(link);
    expect(node.problem.value?.message).toBe("busy");
    link.broken = null;
    await vi.advanceTimersByTimeAsync(3000);
    await settled();
    expect(node.problem.value).toBeNull();
    expect(node.catalogue.value?.fields.size).toBe(1);
    node.stop(true);
    expect(node.left.value).not.toBeNull();
  });
});
