/** Paging: a long range is read by calls that each take about a second, so that nothing on the way holds much of it. */

import { SisockError, TOO_MUCH } from "./errors";
import type { Rows } from "./rows";

// Bytes of the first page, and of the longest: a router holds no more than that for a reader who is busy drawing for a while.
const FIRST_BYTES = 256 << 10;
const MOST_BYTES = 4 << 20;
// Seconds that a page should take, and how much longer than the one before it may be.
const SECONDS = 1;
const GROWTH = 8;

/** Rows of one timeline that are to be read, in microseconds: about `rows` in [first, end). */
export interface Stretch {
  readonly start: number;
  readonly end: number;
  readonly rows: number;
  readonly first: number;
  readonly columns: number;
}

/** Reads the rows of a stretch in order. `page` asks for [start, end) and hands rows on as they come. */
export async function readPages(
  stretch: Stretch,
  page: (start: number, end: number, take: (rows: Rows) => void) => Promise<void>,
): Promise<void> {
  const rowBytes = 8 * (1 + stretch.columns);
  let target = FIRST_BYTES;
  // Of how many microseconds a byte is, as far as is known.
  let perByte =
    Math.max(1, stretch.end - Math.max(stretch.first, stretch.start)) / Math.max(1, stretch.rows * rowBytes);
  let at = stretch.start;
  // Nothing is before the first row.
  let reach = Math.max(at, stretch.first);
  while (at < stretch.end) {
    let until = Math.min(stretch.end, reach + Math.max(1, Math.round(target * perByte)));
    const began = performance.now();
    let last: number | undefined;
    let taken = 0;
    try {
      await page(at, until, (rows) => {
        last = rows.t.at(-1) ?? last;
        taken += rows.t.length * rowBytes + textSize(rows);
      });
    } catch (error) {
      if (!(error instanceof SisockError) || error.uri !== TOO_MUCH || last === undefined) throw error;
      // What came is whole and in order; the rest is denser than was thought.
      until = last + 1;
    }
    const seconds = Math.max(1e-3, (performance.now() - began) / 1000);
    if (taken > 0) {
      perByte = (until - reach) / taken;
      target = Math.min(MOST_BYTES, GROWTH * target, (SECONDS * taken) / seconds);
    } else {
      // A gap: the next page reaches further.
      perByte *= GROWTH;
    }
    at = until;
    reach = until;
  }
}

/** How many characters its texts have; a column of numbers is told by its first value. */
function textSize({ columns }: Rows): number {
  let size = 0;
  for (const column of columns.values()) {
    if (typeof column.find((cell) => cell !== null) !== "string") continue;
    for (const cell of column) if (typeof cell === "string") size += cell.length;
  }
  return size;
}
