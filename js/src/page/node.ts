/** The node that was chosen: its fields, their newest values, and their traces. */

import { batch, computed, type Signal, signal } from "@preact/signals";
import {
  type Block,
  type Catalogue,
  type Connection,
  FollowingSource,
  groupBy,
  lineOf,
  newest,
  type Sample,
  type SisockError,
  type Source,
  type Stop,
} from "../client";
import type { Range } from "./address";
import { now } from "./clock";
import { Traces } from "./traces";

export type Samples = ReadonlyMap<string, Sample>;

// Milliseconds until a node that did not answer is asked again.
const AGAIN = 3000;
// Milliseconds until a node is asked whether it has other fields by now.
const REFRESH = 30_000;

let opened = 0;

export class OpenNode {
  /** Tells two apart that were opened by the same name, one after the other. */
  readonly id = ++opened;
  readonly name: string;
  /** When it was opened, in UNIX seconds. */
  readonly opened = now();
  readonly catalogue = signal<Catalogue | null>(null);
  readonly newest = signal<Samples | null>(null);
  /** When the node left, in UNIX seconds; null while it is there. */
  readonly left = signal<number | null>(null);
  readonly problem = signal<SisockError | null>(null);
  readonly traces: Traces;
  /** What the hub says of it; kept when it goes. */
  readonly description = signal("");
  /** Whether the user has chosen its fields; until then the page may. */
  touched = false;
  /** The range that suits a reader who chose none: one in which there is something to see. */
  readonly suggested: Signal<Range | null>;

  readonly #source: Source;
  #running = false;
  #generation = 0;
  #again: ReturnType<typeof setTimeout> | undefined;
  #stops: Stop[] = [];

  constructor(connection: Connection, name: string) {
    this.name = name;
    this.#source = new FollowingSource(connection, name);
    this.traces = new Traces(this.#source);
    // Chosen once: a range that changed by itself while someone looks would be a nuisance.
    let chosen: Range | null = null;
    this.suggested = computed(() => {
      chosen ??= this.newest.value === null ? null : suggestion(this.newest.value);
      return chosen;
    });
  }

  /** The node is there. */
  start(): void {
    this.left.value = null;
    if (!this.#running) {
      this.#running = true;
      void this.#begin();
    }
  }

  /** The node is gone, or the router is; what is known of it stays. */
  stop(gone: boolean): void {
    if (gone && this.left.value === null) this.left.value = now();
    this.#running = false;
    this.#generation += 1;
    clearTimeout(this.#again);
    this.#unwatch();
    this.traces.pause();
  }

  #unwatch(): void {
    for (const stop of this.#stops) stop();
    this.#stops = [];
  }

  async #begin(): Promise<void> {
    // There is one chain of these, and none of a node that is closed.
    clearTimeout(this.#again);
    if (!this.#running) return;
    const generation = ++this.#generation;
    try {
      const catalogue = await this.#source.catalogue();
      if (generation !== this.#generation) return;
      const names = [...catalogue.fields.keys()];
      const known = this.#stops.length > 0 ? (this.newest.value ?? new Map()) : new Map();
      const samples = await this.#source.newest(names.filter((name) => !known.has(name)));
      if (generation !== this.#generation) return;
      if (this.#stops.length > 0 && same(catalogue, this.catalogue.value)) {
        this.#again = setTimeout(() => void this.#begin(), REFRESH);
        return;
      }
      batch(() => {
        this.catalogue.value = catalogue;
        this.newest.value = new Map([...(this.newest.value ?? []), ...samples]);
        this.problem.value = null;
      });
      this.#watch(catalogue, names);
      this.traces.resume(catalogue);
      this.#again = setTimeout(() => void this.#begin(), REFRESH);
    } catch (error) {
      if (generation !== this.#generation) return;
      this.problem.value = error as SisockError;
      this.#again = setTimeout(() => void this.#begin(), AGAIN);
    }
  }

  #watch(catalogue: Catalogue, names: readonly string[]): void {
    this.#unwatch();
    for (const [timeline, fields] of groupBy(names, (name) => catalogue.fields.get(name)!.timeline)) {
      const since = Math.max(...fields.map((name) => this.newest.value?.get(name)?.t ?? 1));
      this.#stops.push(
        this.#source.follow(
          timeline,
          fields,
          { since, maxPoints: 1, latest: true },
          {
            block: (block) => this.#take(block),
            problem: (error) => (this.problem.value = error),
            anew: () => {
              this.#unwatch();
              void this.#begin();
            },
          },
        ),
      );
    }
  }

  #take(block: Block): void {
    const samples = new Map(this.newest.value);
    const [start, end] = block.revises ?? [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
    const erased: string[] = [];
    for (const name of block.data.keys()) {
      const sample = newest(lineOf(block, name));
      const known = samples.get(name);
      // What corrects older rows does not change which one is the newest.
      if (sample?.value != null && (known === undefined || sample.t >= known.t)) {
        samples.set(name, { t: sample.t, value: sample.value, final: known?.final === true && sample.t === known.t });
      } else if (known !== undefined && known.t >= start && known.t < end) erased.push(name);
    }
    this.newest.value = samples;
    if (erased.length > 0) void this.#renew(erased);
  }

  /** Asks for the newest values of fields whose newest one is there no more. */
  async #renew(names: readonly string[]): Promise<void> {
    const generation = this.#generation;
    try {
      const found = await this.#source.newest(names);
      if (generation !== this.#generation) return;
      const samples = new Map(this.newest.value);
      for (const name of names) {
        const sample = found.get(name);
        if (sample === undefined) samples.delete(name);
        else samples.set(name, sample);
      }
      this.newest.value = samples;
    } catch (error) {
      if (generation === this.#generation) this.problem.value = error as SisockError;
    }
  }
}

function same(one: Catalogue, other: Catalogue | null): boolean {
  return other !== null && wire(one) === wire(other);
}

function wire({ fields, timelines }: Catalogue): string {
  return JSON.stringify([[...fields.values()], [...timelines.values()]]);
}

function suggestion(samples: Samples): Range {
  const age = now() - Math.max(0, ...[...samples.values()].map(({ t }) => t));
  if (age < 300) return { kind: "last", seconds: 300 };
  // A node without any rows is about to have its first.
  if (age < 3600 || samples.size === 0) return { kind: "last", seconds: 3600 };
  return { kind: "all" };
}
