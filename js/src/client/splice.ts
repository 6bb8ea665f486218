/**
 * The splice: history and live blocks of one timeline as one stream, without a hole and with nothing twice.
 *
 * The twin of `sisock/splice.py`, where its picture is; both are held to `tests/golden/splice.json`. It is told what happened
 * and answers what is to be done. Whoever drives it subscribes the live topic first, then tells `subscribed`, and drops
 * the answer to what is no longer `asked`.
 */

import { lowerBound } from "./block";
import type { LiveBlock } from "./live";
import type { Position } from "./position";
import { between, NO_ROWS, only, type Range, type Rows } from "./rows";

/** Ask for the last row at or after `start`, the count of rows and the position; then tell `tail`. */
export interface AskTail {
  readonly do: "ask_tail";
  readonly start: number;
}

/** Read the rows in [start, end) page by page, telling `page` with each and `pagesDone` at the end. */
export interface ReadPages {
  readonly do: "read_pages";
  readonly start: number;
  readonly end: number;
}

/** Ask what came to [start, end) after a position; then tell `changed`, or what was refused. An infinite end is open. */
export interface AskSince {
  readonly do: "ask_since";
  readonly since: Position;
  readonly start: number;
  readonly end: number;
}

/** Rows in [start, end) that are still to be read; `anew` if they replace all that was delivered of that range. */
export interface Unread {
  readonly start: number;
  readonly end: number;
  readonly anew: boolean;
}

/**
 * Hand rows to the reader. In each of the ranges `revises` they replace all that was delivered before. The position is that of
 * all that was delivered; null while what lies before it is still to come. There may be no rows. Whoever stops here goes on
 * after the position `since`, and with what is `unread` of a long range.
 */
export interface Deliver {
  readonly do: "deliver";
  readonly block: Rows;
  readonly revises: readonly Range[];
  readonly position: Position | null;
  readonly finalizedUntil: number | null;
  readonly since: Position | null;
  readonly unread: Unread | null;
}

/** Tell the reader that rows in [start, end) may be missing or other than delivered, and why. */
export interface Gap {
  readonly do: "gap";
  readonly start: number;
  readonly end: number;
  readonly reason: string;
}

export type Asked = AskTail | ReadPages | AskSince;
export type Action = Asked | Deliver | Gap;
export type State = "away" | "opening" | "reading" | "asking" | "live" | "paused";

/** Events that are held while something is asked; with more, the numbers have a hole, which is asked for. */
export const BOUNDS = { held: 256, values: 1 << 20 } as const;

const OTHER_HISTORY =
  "the node's history is another one than was read, or keeps no more what came meanwhile; it is read anew";
const NOT_KEPT = "rows of before are not kept any more; what came here, or was changed, may be missing";

export class Splice {
  readonly fields: readonly string[];
  readonly start: number;
  state: State = "away";
  /** All that was delivered reaches this position, and the time `newest`. */
  position: Position | null;
  newest: number | null;
  asked: Asked | null = null;

  readonly #bounds: { readonly held: number; readonly values: number };
  #held: LiveBlock[] = [];
  #heldValues = 0;
  #overflowed = false;
  // While what changed before `end`, after the position `since`, is still to be asked.
  #older: { readonly since: Position; readonly end: number } | null = null;
  // Whether what is read was delivered before, so that it replaces that; `#reached` is up to where it did.
  #anew = false;
  #reached: number | null = null;
  // The oldest row that may have been delivered; and from where on rows may be missing or other than delivered up to the
  // first one that is read.
  #oldest: number | null = null;
  #doubted: number | null = null;
  // Whether rows were delivered without their position, which is to be told as soon as all before it are there.
  #untold = false;
  // What was being read when the connection was lost.
  #unread: ReadPages | AskSince | null = null;

  /** With a position, the newest time that was delivered up to it and what was unread then, it goes on from there. */
  constructor(
    fields: readonly string[],
    start: number,
    position: Position | null = null,
    newest: number | null = null,
    unread: Unread | null = null,
    bounds: { readonly held: number; readonly values: number } = BOUNDS,
  ) {
    this.fields = fields;
    this.start = start;
    this.position = position;
    this.newest = newest;
    this.#oldest = position === null ? null : start;
    this.#bounds = bounds;
    if (unread === null) return;
    this.#unread = { do: "read_pages", start: unread.start, end: unread.end };
    this.#anew = unread.anew;
    this.#reached = unread.anew ? unread.start : null;
  }

  // What happened to the connection and the reader

  /** The live topic is subscribed. */
  subscribed(): Action[] {
    this.#letGo();
    if (this.#unread !== null) {
      // What is still to be read comes first; then what was missed meanwhile.
      this.#overflowed = true;
      this.state = this.#unread.do === "read_pages" ? "reading" : "asking";
      this.asked = this.#unread;
      this.#unread = null;
      return [this.asked];
    }
    this.#overflowed = false;
    this.#older = null;
    this.#doubted = null;
    return this.position === null ? this.#open() : this.#ask();
  }

  /** The connection or the node is gone; what was asked will not be answered. */
  lost(): Action[] {
    this.#stop("away");
    return [];
  }

  /** The reader has enough for now: nothing is held or asked until `resumed`. */
  paused(): Action[] {
    if (this.state !== "away") this.#stop("paused");
    return [];
  }

  /** The reader takes more. */
  resumed(): Action[] {
    return this.state === "paused" ? this.subscribed() : [];
  }

  /** Nothing came for longer than a node is ever silent. */
  silent(): Action[] {
    return this.state === "live" ? this.#ask() : [];
  }

  // What was answered

  /** AskTail was answered: the position, and the time of the last row (null without rows). */
  tail(position: Position, newest: number | null): Action[] {
    if (this.state !== "opening" || this.asked?.do !== "ask_tail") return [];
    const { start } = this.asked;
    if (this.#older !== null && this.#older.since.epoch !== position.epoch) return this.positionLost();
    this.position = position;
    if (newest === null || newest < start) {
      this.#anew = false;
      this.#doubted = null;
      return this.#readAll();
    }
    return this.#do("reading", { do: "read_pages", start, end: newest + 1 });
  }

  /** All rows that there are begin at `first`, or a little later; told before the pages of a range behind `start`. */
  begins(first: number): Action[] {
    const { asked } = this;
    if (this.state !== "reading" || asked?.do !== "read_pages") return [];
    if (first <= asked.start || asked.start <= this.start) return [];
    // What was delivered last is not kept any more, and who knows what behind it.
    const start = Math.min(first, asked.end);
    this.asked = { ...asked, start };
    if (this.#anew && this.#reached !== null) this.#reached = start;
    return gap(asked.start, start);
  }

  /** ReadPages brought rows, in order. If they are of another epoch than the position, tell `positionLost`. */
  page(block: Rows): Action[] {
    const { asked } = this;
    if (this.state !== "reading" || asked?.do !== "read_pages" || this.position === null || block.t.length === 0)
      return [];
    const revises: Range[] = [];
    const doubted = this.#doubted === null ? [] : gap(this.#doubted, block.t[0]!);
    this.#doubted = null;
    const reached = block.t.at(-1)! + 1;
    if (this.#anew) revises.push([this.#reached ?? block.t[0]!, reached]);
    this.#reached = reached;
    // If it has to be asked again, then from here on.
    this.asked = { ...asked, start: reached };
    const whole = this.#older === null && reached >= asked.end;
    return [...doubted, ...this.#deliver(block, revises, whole ? this.position : null)];
  }

  /** ReadPages is at its end. */
  pagesDone(): Action[] {
    const { asked } = this;
    if (this.state !== "reading" || asked?.do !== "read_pages" || this.position === null) return [];
    const rest = this.#doubted === null ? [] : gap(this.#doubted, asked.end);
    this.#doubted = null;
    if (this.#anew && this.#reached !== null && this.#reached < asked.end) {
      // What was delivered behind the last row is there no more.
      rest.push(...this.#deliver(NO_ROWS, [[this.#reached, asked.end]], this.#older === null ? this.position : null));
    }
    this.#anew = false;
    return [...rest, ...this.#readAll()];
  }

  /** AskSince was answered. */
  changed(block: Rows, revises: readonly Range[], position: Position, finalizedUntil: number | null = null): Action[] {
    if (this.state !== "asking" || this.position === null) return [];
    if (this.#older === null) this.position = position;
    this.#older = null;
    return [...this.#deliver(block, revises, this.position, finalizedUntil), ...this.#settle()];
  }

  /** The position is of another history: that one is read anew, and what was delivered is named. */
  positionLost(): Action[] {
    if (this.state === "away") return [];
    const named: Action[] = [];
    if (this.newest !== null && this.newest >= this.start) {
      named.push({ do: "gap", start: this.start, end: this.newest + 1, reason: OTHER_HISTORY });
      // What came behind all that was delivered, and is not there, is missing as well.
      this.#anew = true;
      this.#doubted = this.newest + 1;
    }
    this.#unread = null;
    return [...named, ...this.#open()];
  }

  /** More came after the position than one answer holds: it is read in pages. */
  tooMuch(): Action[] {
    if (this.state !== "asking" || this.asked?.do !== "ask_since" || this.position === null) return [];
    if (this.#older === null) {
      if (this.newest === null || this.newest < this.start) return this.#open();
      // New rows first; then what changed before them.
      this.#older = { since: this.position, end: this.newest + 1 };
      return this.#do("opening", { do: "ask_tail", start: this.newest + 1 });
    }
    const { end } = this.#older;
    this.#older = null;
    // Of what lies before the first row nobody can say whether it was deleted or is only too old to be kept.
    this.#anew = true;
    this.#doubted = this.#oldest;
    return this.#do("reading", { do: "read_pages", start: this.start, end });
  }

  // What came live

  /** An event of the live topic. */
  event(live: LiveBlock): Action[] {
    if (this.state === "live") return this.#take(live);
    if (this.state === "opening" || this.state === "reading" || this.state === "asking") {
      this.#held.push(live);
      this.#heldValues += values(live);
      if (this.#held.length > this.#bounds.held || this.#heldValues > this.#bounds.values) {
        this.#letGo();
        this.#overflowed = true;
      }
    }
    return [];
  }

  #take(live: LiveBlock): Action[] {
    const { position } = this;
    if (position === null || live.position.epoch !== position.epoch || live.after > position.seq) return this.#ask();
    if (live.position.seq <= position.seq) return [];
    this.position = live.position;
    const revises: Range[] = live.revises === null ? [] : [live.revises];
    const { t } = live.block;
    if (live.revises === null && t.length > 0 && this.newest !== null && t[0]! <= this.newest) {
      // A part of it was delivered; it has all rows of its time.
      revises.push([t[0]!, Math.min(t.at(-1)!, this.newest) + 1]);
    }
    return this.#deliver(live.block, revises, this.position, live.finalizedUntil);
  }

  // What is to be done

  #stop(state: State): void {
    const { asked } = this;
    if (asked?.do === "read_pages" || (asked?.do === "ask_since" && this.#older !== null)) this.#unread = asked;
    this.state = state;
    this.asked = null;
    this.#letGo();
  }

  #letGo(): void {
    this.#held = [];
    this.#heldValues = 0;
  }

  #do(state: State, action: Asked): Action[] {
    this.state = state;
    this.asked = action;
    this.#reached = null;
    return [action];
  }

  #open(): Action[] {
    this.#older = null;
    return this.#do("opening", { do: "ask_tail", start: this.start });
  }

  #ask(): Action[] {
    if (this.position === null) return this.#open();
    return this.#do("asking", {
      do: "ask_since",
      since: this.position,
      start: this.start,
      end: Number.POSITIVE_INFINITY,
    });
  }

  #readAll(): Action[] {
    if (this.#older === null) return this.#settle();
    return this.#do("asking", { do: "ask_since", since: this.#older.since, start: this.start, end: this.#older.end });
  }

  /** All that was asked for is there: the events that were held follow. */
  #settle(): Action[] {
    this.state = "live";
    this.asked = null;
    const actions: Action[] = [];
    if (this.#untold) {
      const { position } = this;
      const none = { block: NO_ROWS, revises: [], finalizedUntil: null };
      actions.push({ do: "deliver", ...none, position, since: position, unread: null });
      this.#untold = false;
    }
    while (this.#held.length > 0 && this.#isLive()) {
      const live = this.#held.shift()!;
      this.#heldValues -= values(live);
      actions.push(...this.#take(live));
    }
    if (this.#isLive() && this.#overflowed) actions.push(...this.#ask());
    this.#overflowed = false;
    return actions;
  }

  #isLive(): boolean {
    return this.state === "live";
  }

  #deliver(
    block: Rows,
    revises: readonly Range[],
    position: Position | null,
    finalizedUntil: number | null = null,
  ): Action[] {
    const rows = between(only(block, this.fields), this.start, Number.POSITIVE_INFINITY);
    let ranges: Range[] = [];
    const { newest } = this;
    if (newest !== null) {
      // What lies behind all that was delivered replaces nothing.
      ranges = revises
        .map(([start, end]): Range => [Math.max(start, this.start), Math.min(end, newest + 1)])
        .filter(([start, end]) => start < end);
      ranges = ranges.concat(uncovered(rows, ranges, newest).map((t): Range => [t, t + 1]));
      ranges.sort((one, other) => one[0] - other[0] || one[1] - other[1]);
    }
    if (rows.t.length > 0) {
      this.#oldest = Math.min(this.#oldest ?? Number.POSITIVE_INFINITY, rows.t[0]!);
      this.newest = Math.max(newest ?? Number.NEGATIVE_INFINITY, rows.t.at(-1)!);
    }
    if (rows.t.length === 0 && ranges.length === 0) return [];
    this.#untold = position === null;
    let [since, unread]: [Position | null, Unread | null] = [position, null];
    if (position === null && this.#older !== null) {
      // What changed before the new rows is still to be asked after this one.
      since = this.#older.since;
    } else if (position === null && this.asked?.do === "read_pages") {
      since = this.position;
      unread = { start: this.asked.start, end: this.asked.end, anew: this.#anew };
    }
    return [{ do: "deliver", block: rows, revises: ranges, position, finalizedUntil, since, unread }];
  }
}

function gap(start: number, end: number): Action[] {
  return start < end ? [{ do: "gap", start, end, reason: NOT_KEPT }] : [];
}

function values({ block }: LiveBlock): number {
  return block.t.length * (1 + block.columns.size);
}

/** Times of rows that were, or may have been, delivered and that no range covers. */
function uncovered(rows: Rows, ranges: readonly Range[], newest: number): number[] {
  const old = rows.t.slice(0, lowerBound(rows.t, newest + 1));
  const covered = new Array<boolean>(old.length).fill(false);
  for (const [start, end] of ranges) covered.fill(true, lowerBound(old, start), lowerBound(old, end));
  return old.filter((_, i) => !covered[i]);
}
