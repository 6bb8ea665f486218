/** Following: drives the splice of one timeline, and hands on what it delivers. The twin of `sisock/line.py`. */

import { type Answered, askArrow, type Question } from "./asking";
import type { Connection } from "./connection";
import { CANCELLED, fromWire, isOld, isPassing, NOT_AUTHORIZED, POSITION_LOST, SisockError, TOO_MUCH } from "./errors";
import type { Stop } from "./listeners";
import { parseLive } from "./live";
import { readPages } from "./paging";
import { pause } from "./pause";
import type { Position } from "./position";
import { concat, type Rows } from "./rows";
import { type Action, type Asked, type Deliver, type Gap, Splice, type Unread } from "./splice";
import { live } from "./uris";

/** What following needs of a connection. */
export type Link = Pick<Connection, "call" | "subscribe" | "state" | "states">;

export interface Followed {
  deliver(rows: Deliver): void;
  gap(gap: Gap): void;
  /** Told why nothing comes at present, and with null that it comes again. */
  problem(error: SisockError | null): void;
  /** Told that the node keeps no positions, or knows nothing of all this, or that the user may read but not follow; nothing comes then. */
  without(): void;
  /** Told that much came while nobody listened, if that had better be read in another way; nothing comes then. */
  tooMuch?(): void;
}

/** How far somebody has followed a timeline before: all up to this position but for what was unread, and the newest time. */
export interface Resume {
  readonly position: Position;
  /** Microseconds. */
  readonly newest: number;
  readonly unread?: Unread | null;
}

// A node repeats its position every 5 s; after so long it is asked. Milliseconds, as is all that follows.
const SILENCE = 12_000;
const LOOK = 2_000;
// Between two tries: the first time, and at most.
const RETRY = [300, 5_000] as const;

/** What all questions of a timeline have. */
type Whole = Pick<Question, "node" | "timeline" | "fields">;

export class Following {
  readonly #link: Link;
  readonly #node: string;
  readonly #timeline: string;
  readonly #followed: Followed;
  readonly #splice: Splice;
  readonly #stops: Stop[] = [];
  #work: AbortController | null = null;
  #heard = 0;
  #tail: Answered | null = null;
  #stopped = false;

  /** Follows fields of one timeline from `start` on (microseconds), or goes on behind what was followed before. */
  constructor(
    link: Link,
    node: string,
    timeline: string,
    fields: readonly string[],
    start: number,
    resume: Resume | null,
    followed: Followed,
  ) {
    this.#link = link;
    this.#node = node;
    this.#timeline = timeline;
    this.#followed = followed;
    this.#splice = new Splice(fields, start, resume?.position, resume?.newest, resume?.unread);
    const look = setInterval(() => this.#look(), LOOK);
    this.#stops.push(
      () => clearInterval(look),
      link.states.add(({ kind }) => kind !== "connected" && this.#lost()),
      link.subscribe(live(node, timeline), ([event]) => this.#event(event), {
        subscribed: () => this.#subscribed(),
        refused: (error) => (error.uri === NOT_AUTHORIZED ? this.#goWithout() : this.#fail(error)),
      }),
    );
  }

  stop(): void {
    this.#stopped = true;
    this.#drop();
    for (const stop of this.#stops.splice(0)) stop();
  }

  #subscribed(): void {
    this.#heard = Date.now();
    if (this.#splice.state === "away") this.#run(this.#splice.subscribed());
  }

  #lost(): void {
    this.#drop();
    this.#run(this.#splice.lost());
  }

  #look(): void {
    if (Date.now() - this.#heard <= SILENCE) return;
    this.#heard = Date.now();
    this.#run(this.#splice.silent());
  }

  #event(event: unknown): void {
    let block: ReturnType<typeof parseLive>;
    try {
      block = parseLive(event);
    } catch (error) {
      // What it would have told shows as a hole.
      console.warn(`${this.#node}: ${fromWire(error).message}`);
      return;
    }
    if (block.timeline !== this.#timeline) return;
    this.#heard = Date.now();
    this.#followed.problem(null);
    this.#run(this.#splice.event(block));
  }

  #run(actions: readonly Action[]): void {
    for (const action of actions) {
      if (this.#stopped) return;
      if (action.do === "deliver") this.#followed.deliver(action);
      else if (action.do === "gap") this.#followed.gap(action);
      else this.#begin(action);
    }
  }

  #begin(action: Asked): void {
    this.#drop();
    const work = new AbortController();
    this.#work = work;
    this.#perform(action, work.signal).catch((error: unknown) => this.#fail(fromWire(error)));
  }

  #drop(): void {
    this.#work?.abort();
    this.#work = null;
  }

  #goWithout(): void {
    if (this.#stopped) return;
    this.stop();
    this.#followed.without();
  }

  /** Ends it with an error that another try would meet again. */
  #fail(error: SisockError): void {
    if (this.#stopped) return;
    this.stop();
    this.#followed.problem(error);
  }

  /** Does what the splice asks for, as often as it takes, and tells it. */
  async #perform(action: Asked, signal: AbortSignal): Promise<void> {
    let [wait, longest] = RETRY as readonly [number, number];
    let asked: Asked | null = action;
    while (asked !== null) {
      let told: (() => Action[]) | null;
      try {
        told = await this.#once(asked, signal);
      } catch (thrown) {
        const error = fromWire(thrown);
        if (signal.aborted || error.uri === CANCELLED) return;
        if (error.uri === POSITION_LOST) told = () => this.#splice.positionLost();
        else if (error.uri === TOO_MUCH && asked.do === "ask_since") told = this.#tooMuch();
        else if (isOld(error)) told = null;
        else if (!isPassing(error)) throw error;
        else {
          // A connection that is lost tells `lost`.
          if (this.#link.state.kind !== "connected") return;
          this.#followed.problem(error);
          await pause(wait, signal);
          wait = Math.min(2 * wait, longest);
          // A part of it may have come.
          asked = signal.aborted ? null : this.#splice.asked;
          continue;
        }
      }
      if (signal.aborted) return;
      if (told === null) return this.#goWithout();
      this.#work = null;
      this.#followed.problem(null);
      this.#run(told());
      return;
    }
  }

  #tooMuch(): () => Action[] {
    if (this.#followed.tooMuch === undefined) return () => this.#splice.tooMuch();
    return () => {
      this.stop();
      this.#followed.tooMuch?.();
      return [];
    };
  }

  /** What to tell the splice; null where the node keeps no positions. */
  async #once(asked: Asked, signal: AbortSignal): Promise<(() => Action[]) | null> {
    const splice = this.#splice;
    const of = { node: this.#node, timeline: this.#timeline, fields: splice.fields };
    if (asked.do === "read_pages") {
      const start = asked.start > splice.start ? await this.#behind(asked.start, asked.end, of, signal) : asked.start;
      await this.#pages(start, asked.end, of, signal);
      return () => splice.pagesDone();
    }
    const parts: Rows[] = [];
    const question: Question =
      asked.do === "ask_tail"
        ? { ...of, start: asked.start, end: Number.POSITIVE_INFINITY, last: true }
        : { ...of, start: asked.start, end: asked.end, since: asked.since };
    const answer = await this.#ask(question, (rows) => parts.push(rows), signal);
    const { position } = answer;
    if (position === null) return null;
    if (asked.do === "ask_since") {
      return () => splice.changed(concat(parts), answer.revises, position, answer.finalizedUntil);
    }
    this.#tail = answer;
    return () => splice.tail(position, answer.last);
  }

  /** Where to begin to read behind what was delivered: rows that nobody keeps any more are named. */
  async #behind(start: number, end: number, of: Whole, signal: AbortSignal): Promise<number> {
    const tail = await this.#ask({ ...of, start: this.#splice.start, end, last: true }, () => {}, signal);
    this.#check(tail);
    // Of a single row nothing is said but itself.
    const begin = tail.first === null && tail.rows === 1 ? tail.last : tail.first;
    const first = tail.last === null ? end : (begin ?? start);
    if (!signal.aborted) this.#run(this.#splice.begins(first));
    return Math.max(start, Math.min(first, end));
  }

  async #pages(start: number, end: number, of: Whole, signal: AbortSignal): Promise<void> {
    const { rows = 0, first = null } = this.#tail ?? {};
    const stretch = { start, end, rows, first: first ?? start, columns: of.fields.length };
    await readPages(stretch, async (from, until, took) => {
      const take = (page: Rows): void => {
        took(page);
        this.#run(this.#splice.page(page));
      };
      this.#check(await this.#ask({ ...of, start: from, end: until }, take, signal));
    });
  }

  #check({ position }: Answered): void {
    const mine = this.#splice.position;
    if (mine !== null && position !== null && position.epoch !== mine.epoch) {
      throw new SisockError(POSITION_LOST, `${this.#timeline}: its history is another one than was begun to be read`);
    }
  }

  #ask(question: Question, take: (rows: Rows) => void, signal: AbortSignal): Promise<Answered> {
    const call: Parameters<typeof askArrow>[0] = (...asked) => this.#link.call(...asked);
    return askArrow(call, question, take, signal);
  }
}
