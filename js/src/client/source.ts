/** A source: what a page or a program asks of one node. The polling one needs nothing but get_fields and get_data. */

import { type Block, EMPTY, type Line, lineOf, newest, parseData, type Value } from "./block";
import { type Catalogue, parseCatalogue } from "./catalogue";
import type { Connection } from "./connection";
import { fromWire, isOld, SisockError, TOO_MUCH } from "./errors";
import { groupBy } from "./group";
import type { Stop } from "./listeners";
import { pause } from "./pause";
import type { Position } from "./position";
import { getData, getFields } from "./uris";

/** A half-open range of time [start, end) in UNIX seconds; a null end is open. */
export interface Span {
  readonly start: number;
  readonly end: number | null;
}

export interface Sample {
  readonly t: number;
  readonly value: Exclude<Value, null>;
  /** Whether its timeline is finished: asked with an open end, the node said that all is final. */
  readonly final: boolean;
}

/** A line as it was read; `thinned` says of how many rows it is the picture, `position` what it reaches (null: nobody knows). */
export interface Reading {
  readonly line: Line;
  readonly thinned: Block["thinned"];
  readonly position: Position | null;
}

export interface Follower {
  /** Takes new rows, and rows that changed. */
  block(block: Block): void;
  /** Told why nothing comes at present, and with null that it comes again. */
  problem(error: SisockError | null): void;
  /** Told that it is better read anew than followed on, and why if that is to be said; nothing comes then. */
  anew?(reason: string | null): void;
}

export interface Follow {
  /** The newest time that is known already. */
  readonly since: number;
  /** At most so many points a field at once. */
  readonly maxPoints: number;
  /** Whether only the newest row counts. */
  readonly latest?: boolean;
  /** What is known reaches this position, and begins at `from`: what came to it since is told, wherever it lies. */
  readonly position?: Position | null;
  readonly from?: number;
}

export interface Source {
  /** Asks what the node offers; the other calls go by what it answered last. */
  catalogue(): Promise<Catalogue>;
  /** Reads fields at the resolution of `maxPoints`; each has a reading, empty if there is nothing. */
  read(fields: readonly string[], span: Span, maxPoints: number): Promise<Map<string, Reading>>;
  /** Reads the newest value of each field that has one. */
  newest(fields: readonly string[]): Promise<Map<string, Sample>>;
  /** Hands on what comes to these fields of one timeline, until it is stopped. */
  follow(timeline: string, fields: readonly string[], options: Follow, follower: Follower): Stop;
}

// Lists cost the router's one thread, so fields are read together only where few rows are expected.
const TOGETHER = 60_000;
const MIN_PERIOD = 1;
const MAX_PERIOD = 60;
const MAX_BACKOFF = 10;
// A node may hold rows open for long; the tail that is read again is no longer than this.
const MAX_TAIL = 30;
// All times there are: the wire takes zero and below as "ago".
const BEGINNING = 1;
// How many fields whose newest row is not on the timeline's end are looked for one by one, and how many at a time.
const MAX_SEARCHED = 60;
const AT_A_TIME = 4;

/** What a source needs of a connection. */
export type Caller = Pick<Connection, "call" | "connected">;

export class PollingSource implements Source {
  readonly node: string;
  readonly #connection: Caller;
  #catalogue: Catalogue = { fields: new Map(), timelines: new Map() };
  // A node of the old kind knows no max_points; found out at its first refusal.
  #old = false;

  constructor(connection: Caller, node: string) {
    this.#connection = connection;
    this.node = node;
  }

  async catalogue(): Promise<Catalogue> {
    this.#old = false;
    this.#catalogue = parseCatalogue(await this.#connection.call(getFields(this.node), [BEGINNING, 0]));
    return this.#catalogue;
  }

  async read(fields: readonly string[], span: Span, maxPoints: number): Promise<Map<string, Reading>> {
    const found = new Map<string, Reading>(
      fields.map((name) => [name, { line: EMPTY, thinned: null, position: null }]),
    );
    await Promise.all(
      this.#groups(fields, span).map(async (group) => {
        for (const block of await this.#ask(group, span, maxPoints, "minmax")) {
          for (const name of block.data.keys()) {
            found.set(name, { line: lineOf(block, name), thinned: block.thinned, position: block.position });
          }
        }
      }),
    );
    return found;
  }

  async newest(fields: readonly string[]): Promise<Map<string, Sample>> {
    const found = new Map<string, Sample>();
    const take = (blocks: readonly Block[]): void => {
      for (const block of blocks) {
        // Nodes that keep no positions say so of rows that only will not change.
        const final = block.finalizedUntil === null && block.position !== null;
        for (const name of block.data.keys()) {
          const sample = newest(lineOf(block, name));
          if (sample?.value != null) found.set(name, { t: sample.t, value: sample.value, final });
        }
      }
    };
    const missing = (): string[] => fields.filter((name) => !found.has(name));
    for (const start of [-60, -3600, BEGINNING]) {
      for (const names of this.#byTimeline(missing()).values()) take(await this.#latest(names, start));
    }
    // One that is null in the last row has its newest value further back: asked alone, it answers that one.
    const rest = missing().slice(0, MAX_SEARCHED);
    for (let i = 0; i < rest.length; i += AT_A_TIME) {
      await Promise.all(rest.slice(i, i + AT_A_TIME).map(async (name) => take(await this.#latest([name], BEGINNING))));
    }
    return found;
  }

  follow(timeline: string, fields: readonly string[], options: Follow, follower: Follower): Stop {
    const interval = this.#catalogue.timelines.get(timeline)?.interval ?? null;
    const period = Math.min(Math.max(interval ?? MIN_PERIOD, MIN_PERIOD), MAX_PERIOD);
    const stopped = new AbortController();
    const { signal } = stopped;
    let known = options.since;
    let from = known;
    const poll = async (): Promise<void> => {
      let wait = period;
      while (!signal.aborted) {
        try {
          await this.#connection.connected();
          const method = options.latest === true ? "last" : "minmax";
          const points = options.latest === true ? 1 : options.maxPoints;
          const blocks = await this.#ask(fields, { start: from, end: null }, points, method);
          if (signal.aborted) return;
          for (const block of blocks) {
            // Rows are not taken back, so it revises from its first one on.
            follower.block({ ...block, revises: [block.t[0]!, Number.POSITIVE_INFINITY] });
            known = Math.max(known, block.t.at(-1)!);
            from = Math.min(known, Math.max(block.finalizedUntil ?? known, known - MAX_TAIL));
          }
          follower.problem(null);
          wait = period;
        } catch (error) {
          if (signal.aborted) return;
          follower.problem(fromWire(error));
          wait = Math.min(wait * 2, Math.max(MAX_BACKOFF, period));
        }
        await pause(1000 * wait, signal);
      }
    };
    void poll();
    return () => stopped.abort();
  }

  #latest(fields: readonly string[], start: number): Promise<Block[]> {
    // A node of the old kind has no way to give its last row alone, and all of it may be too much.
    return this.#ask(fields, { start, end: null }, 1, "last").catch((error: SisockError) => {
      if (this.#old && error.uri === TOO_MUCH) return [];
      throw error;
    });
  }

  /**
   * Fields that are asked in one call. Together they show where one of them is null; alone each has all its points, and
   * costs less where rows are many.
   */
  #groups(fields: readonly string[], span: Span): readonly string[][] {
    return [...this.#byTimeline(fields)].flatMap(([timeline, names]) => {
      const interval = this.#catalogue.timelines.get(timeline)?.interval ?? null;
      const length = (span.end ?? Date.now() / 1000) - span.start;
      const rows = interval === null ? Number.POSITIVE_INFINITY : length / interval;
      return rows * (names.length + 1) <= TOGETHER ? [names] : names.map((name) => [name]);
    });
  }

  #byTimeline(fields: readonly string[]): Map<string, string[]> {
    return groupBy(
      fields.filter((name) => this.#catalogue.fields.has(name)),
      (name) => this.#catalogue.fields.get(name)!.timeline,
    );
  }

  async #ask(fields: readonly string[], span: Span, maxPoints: number, method: string): Promise<Block[]> {
    const procedure = getData(this.node);
    let answer: unknown;
    if (!this.#old) {
      try {
        const more = { max_points: maxPoints, method };
        answer = await this.#connection.call(procedure, [fields, span.start, span.end], more);
      } catch (error) {
        if (!isOld(fromWire(error))) throw error;
        this.#old = true;
      }
    }
    if (this.#old) {
      const end = span.end ?? 0;
      const length =
        (end > 0 ? end : Date.now() / 1000) - (span.start > 0 ? span.start : Date.now() / 1000 + span.start);
      const stride = method === "last" ? null : Math.max(0, length / maxPoints);
      answer = await this.#connection.call(procedure, [fields, span.start, end, stride]);
    }
    if (answer === false) {
      throw new SisockError(TOO_MUCH, "the node has more in that time than one answer may hold; choose a shorter time");
    }
    return parseData(answer, (name) => this.#catalogue.fields.get(name)?.timeline);
  }
}
