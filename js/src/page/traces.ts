/** Traces: the lines of the chosen fields over a range of time, read at the screen's resolution and moving with the node. */

import { signal } from "@preact/signals";
import {
  type Block,
  type Catalogue,
  EMPTY,
  earliest,
  extended,
  groupBy,
  type Line,
  type Position,
  type Reading,
  type SisockError,
  type Source,
  type Span,
  type Stop,
  since,
  threshold,
} from "../client";
import { type Range, sameRange } from "./address";
import { now } from "./clock";

export interface Trace {
  readonly line: Line;
  readonly thinned: Reading["thinned"];
  /** The distance beyond which two rows have a gap between them. */
  readonly gap: number | null;
  /** How many rows it had when it was read; what came since is what there is beyond. */
  readonly read: number;
  /** What the node's history had come to when this was known; null where the node keeps no positions. */
  readonly position: Position | null;
}

export type Window = readonly [start: number, end: number];

// A little more than is seen, so that lines run to the plot's edges.
const MARGIN = 0.02;
// Milliseconds until a range that could not be read is tried again.
const AGAIN = 5000;

export class Traces {
  readonly lines = signal<ReadonlyMap<string, Trace>>(new Map());
  readonly window = signal<Window>([now() - 300, now()]);
  readonly loading = signal(false);
  /** Why the lines stand still, if they do. */
  readonly problem = signal<SisockError | null>(null);
  /** What was shown and is no more, in words; null where nothing is to be told. */
  readonly gap = signal<{ readonly t: number; readonly reason: string } | null>(null);

  readonly #source: Source;
  #catalogue: Catalogue | null = null;
  #fields: readonly string[] = [];
  #range: Range | null = null;
  #points = 0;
  #generation = 0;
  #running = false;
  #unread = new Set<string>();
  #again: ReturnType<typeof setTimeout> | undefined;
  #stops: Stop[] = [];

  constructor(source: Source) {
    this.#source = source;
  }

  /** What to show: these fields over this range, at most so many points each. Reads what is missing. */
  show(fields: readonly string[], range: Range | null, points: number): void {
    const anew = !sameRange(range, this.#range) || points > 1.5 * this.#points || points < this.#points / 3;
    const fresh = fields.filter((name) => anew || !this.#fields.includes(name));
    if (fresh.length === 0 && this.#fields.every((name) => fields.includes(name))) return;
    this.#fields = fields;
    this.#range = range;
    if (anew) {
      this.#points = points;
      this.gap.value = null;
    }
    this.#unread = new Set([...this.#unread, ...fresh].filter((name) => fields.includes(name)));
    this.lines.value = new Map([...this.lines.value].filter(([name]) => fields.includes(name)));
    if (range?.kind !== "all") this.move();
    void this.#load();
  }

  /** The node is there: reads what is not read yet and goes on from the newest row that is known. */
  resume(catalogue: Catalogue): void {
    this.#catalogue = catalogue;
    this.#running = true;
    this.problem.value = null;
    void this.#load();
  }

  /** The node or the router is away: the lines stay as they are. */
  pause(): void {
    this.#running = false;
    this.#generation += 1;
    this.loading.value = false;
    this.#forget();
    this.#unfollow();
  }

  /** Moves the window along with time. */
  move(): void {
    const range = this.#range;
    if (range?.kind === "last") this.window.value = [now() - range.seconds, now()];
    else if (range?.kind === "fixed") this.window.value = [range.start, range.end];
    else if (range?.kind === "all") this.window.value = this.#extent();
  }

  async #load(): Promise<void> {
    this.#forget();
    const [catalogue, range] = [this.#catalogue, this.#range];
    if (!this.#running || catalogue === null || range === null) return;
    const generation = ++this.#generation;
    this.#unfollow();
    const names = [...this.#unread].filter((name) => catalogue.fields.has(name));
    if (names.length > 0) {
      this.loading.value = true;
      try {
        const readings = await this.#source.read(names, spanOf(range), this.#points);
        if (generation !== this.#generation) return;
        this.#take(readings, catalogue);
      } catch (error) {
        if (generation !== this.#generation) return;
        this.problem.value = error as SisockError;
        this.#again = setTimeout(() => void this.#load(), AGAIN);
      }
      this.loading.value = false;
    }
    this.move();
    this.#follow();
  }

  #take(readings: ReadonlyMap<string, Reading>, catalogue: Catalogue): void {
    const lines = new Map(this.lines.value);
    for (const [name, { line, thinned, position }] of readings) {
      const interval = catalogue.timelines.get(catalogue.fields.get(name)!.timeline)?.interval ?? null;
      const length = (line.t.at(-1) ?? 0) - (line.t[0] ?? 0);
      const bucket = thinned === null ? 0 : length / Math.max(1, Math.floor(this.#points / 2));
      lines.set(name, { line, thinned, gap: threshold(line, interval, bucket), read: line.t.length, position });
      this.#unread.delete(name);
    }
    this.lines.value = lines;
    this.problem.value = null;
  }

  #follow(): void {
    this.#unfollow();
    const [catalogue, range] = [this.#catalogue, this.#range];
    if (!this.#running || catalogue === null || range === null || range.kind === "fixed") return;
    const present = this.#fields.filter((name) => catalogue.fields.has(name));
    for (const [timeline, names] of groupBy(present, (name) => catalogue.fields.get(name)!.timeline)) {
      const known = Math.max(...names.map((name) => this.lines.value.get(name)?.line.t.at(-1) ?? 0));
      const since = known || Math.max(1, this.window.value[0]);
      this.#stops.push(
        this.#source.follow(
          timeline,
          names,
          {
            since,
            maxPoints: this.#points,
            position: earliest(names.map((name) => this.lines.value.get(name)?.position)),
            from: spanOf(range).start,
          },
          {
            block: (block) => this.#extend(block, names),
            problem: (error) => (this.problem.value = error),
            anew: (reason) => this.#readAnew(names, reason),
          },
        ),
      );
    }
  }

  #unfollow(): void {
    for (const stop of this.#stops) stop();
    this.#stops = [];
  }

  /** Reads no more what could not be read, unless it is told anew. */
  #forget(): void {
    clearTimeout(this.#again);
    this.#again = undefined;
  }

  #extend(block: Block, names: readonly string[]): void {
    const lines = new Map(this.lines.value);
    const start = this.#range?.kind === "last" ? now() - this.#range.seconds : Number.NEGATIVE_INFINITY;
    for (const name of names) {
      const trace = lines.get(name) ?? { line: EMPTY, thinned: null, gap: null, read: 0, position: null };
      const line = since(extended(trace.line, block, name), start);
      if (line.t.length > trace.read + 2 * this.#points) this.#unread.add(name);
      lines.set(name, { ...trace, line, position: block.position ?? trace.position });
    }
    this.lines.value = lines;
    this.move();
    // What came one by one since the range was read is thinned by reading the range anew; after a read that failed, in a while.
    if (this.#unread.size > 0 && !this.loading.value && this.#again === undefined) void this.#load();
  }

  #readAnew(names: readonly string[], reason: string | null): void {
    if (reason !== null) this.gap.value = { t: now(), reason };
    for (const name of names) if (this.#fields.includes(name)) this.#unread.add(name);
    void this.#load();
  }

  #extent(): Window {
    const shown = [...this.lines.value.values()].filter(({ line }) => line.t.length > 0);
    if (shown.length === 0) return this.window.value;
    const start = Math.min(...shown.map(({ line }) => line.t[0]!));
    const end = Math.max(...shown.map(({ line }) => line.t.at(-1)!));
    // A window does not hold its end, but all rows are in this one.
    return start < end ? [start, end + 1e-3] : [start - 1, end + 1];
  }
}

function spanOf(range: Range): Span {
  if (range.kind === "all") return { start: 1, end: null };
  const [start, end] = range.kind === "last" ? [now() - range.seconds, null] : [range.start, range.end];
  const margin = (range.kind === "last" ? range.seconds : range.end - range.start) * MARGIN;
  return { start: Math.max(1, start - margin), end: end === null ? null : end + margin };
}
