/** A node that keeps positions, for the tests of what follows one. */

import { float64, int64, tableFromArrays, tableToIPC } from "@uwdata/flechette";
import type { CallOptions } from "../src/client/attempt";
import type { State, SubscribeOptions } from "../src/client/connection";
import { POSITION_LOST, SisockError, TOO_MUCH } from "../src/client/errors";
import type { Link } from "../src/client/following";
import { Listeners, type Stop } from "../src/client/listeners";

type Kwargs = Readonly<Record<string, unknown>>;

/** A node in memory with one timeline that keeps positions, and the connection to it. Times are whole seconds here. */
export class Node implements Link {
  readonly rows = new Map<number, number>();
  readonly states = new Listeners<State>();
  state: State = { kind: "connected" };
  readonly asked: Kwargs[] = [];
  readonly aborted: AbortSignal[] = [];
  epoch = "e";
  seq = 0;
  most = Number.POSITIVE_INFINITY;
  answers: "all" | "no positions" | "old" | "nothing" = "all";
  /** What it says once instead of an answer. */
  fails: SisockError | null = null;
  /** What the router says of whoever subscribes. */
  refuses: SisockError | null = null;
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
    const { refuses } = this;
    queueMicrotask(() => (refuses === null ? options.subscribed?.() : options.refused?.(refuses)));
    return () => {
      this.#topic = null;
    };
  }

  async connected(): Promise<void> {}

  async call(
    procedure: string,
    args: readonly unknown[] = [],
    kwargs: Kwargs = {},
    options: CallOptions = {},
  ): Promise<unknown> {
    this.asked.push(kwargs);
    if (options.signal !== undefined) this.aborted.push(options.signal);
    await Promise.resolve();
    if (procedure.endsWith(".get_fields")) {
      return [{ x: { timeline: "t", type: "number" } }, { t: { interval: 1, field: ["x"] } }];
    }
    const { fails } = this;
    this.fails = null;
    if (fails !== null) throw fails;
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
    const [from, first] = [t.length, t[0]];
    if (kwargs.method === "last") t = t.slice(-1);
    if (kwargs.encoding !== "arrow") {
      return { data: { x: t.map((at) => this.rows.get(at)) }, timeline: t.length > 0 ? { t: { t } } : {} };
    }
    if (t.length > 0) options.onProgress?.({ timeline: "t", arrow: this.#arrow(t) });
    return {
      timeline: t.length > 0 ? { t: { finalized_until: null } } : {},
      ...(this.answers === "no positions" ? {} : { position: { t: { epoch: this.epoch, seq: this.seq } } }),
      ...(since === undefined ? {} : { revises: { t: revised } }),
      ...(from > t.length ? { downsampled: { t: { from, to: t.length, first } } } : {}),
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
