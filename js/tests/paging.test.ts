import { expect, it, vi } from "vitest";
import { lowerBound } from "../src/client/block";
import { SisockError, TOO_MUCH } from "../src/client/errors";
import { readPages } from "../src/client/paging";
import { type Cell, type Rows, slice } from "../src/client/rows";

const FIRST_BYTES = 256 << 10;

/** Rows of one column at these times; its pages as they are asked for. The first page's rows take `seconds`. */
async function read(
  rows: Rows,
  { first = 0, known = rows.t.length, most = Number.POSITIVE_INFINITY, seconds = 0 } = {},
) {
  const asked: { start: number; end: number; rows: number }[] = [];
  const t: number[] = [];
  let now = 0;
  const clock = vi.spyOn(performance, "now").mockImplementation(() => now);
  const stretch = { start: 0, end: rows.t.at(-1)! + 1, rows: known, first, columns: 1 };
  await readPages(stretch, async (start, end, take) => {
    const [low, high] = [lowerBound(rows.t, start), lowerBound(rows.t, end)];
    const page = slice(rows, low, Math.min(high, low + most));
    asked.push({ start, end, rows: page.t.length });
    take(page);
    for (const at of page.t) t.push(at);
    now += (1000 * seconds * page.t.length * 16) / FIRST_BYTES;
    if (high - low > most) throw new SisockError(TOO_MUCH, "more than a call may bring");
  }).finally(() => clock.mockRestore());
  return { asked, t };
}

function column(length: number, cell: (i: number) => Cell = Number, step = 10): Rows {
  const t = Array.from({ length }, (_, i) => i * step);
  return { t, columns: new Map([["x", t.map((_, i) => cell(i))]]) };
}

it("reads all rows once and in order, in pages that grow", async () => {
  const rows = column(120_000);
  const { asked, t } = await read(rows);
  expect(t).toEqual(rows.t);
  // A row is 16 bytes.
  expect(asked[0]!.rows).toBeCloseTo(FIRST_BYTES / 16, -2);
  expect(asked[1]!.rows).toBeGreaterThan(6 * asked[0]!.rows);
  for (const [i, { start }] of asked.entries()) expect(start).toBe(i === 0 ? 0 : asked[i - 1]!.end);
});

it("asks for shorter pages where one took long", async () => {
  const { asked } = await read(column(60_000), { seconds: 4 });
  expect(asked[1]!.rows).toBeCloseTo(asked[0]!.rows / 4, -2);
});

it("goes on behind the last row of a page that was more than a call may bring", async () => {
  const rows = column(5000);
  // Ten times as many rows as was said.
  const { asked, t } = await read(rows, { known: 500, most: 1000 });
  expect(t).toEqual(rows.t);
  expect(asked[1]!.start).toBe(rows.t[999]! + 1);
});

it("says it where not even a row of a page may be brought", async () => {
  await expect(read(column(10), { most: 0 })).rejects.toMatchObject({ uri: TOO_MUCH });
});

it("counts the characters of texts", async () => {
  const text = "x".repeat(1008);
  const { asked } = await read(
    column(20_000, (i) => (i === 0 ? null : text)),
    { seconds: 1 },
  );
  // The first page was thought to hold numbers; from then on a row is 1 kB.
  expect(asked[0]!.rows).toBeCloseTo(FIRST_BYTES / 16, -2);
  expect(asked[1]!.rows).toBeLessThanOrEqual((8 * FIRST_BYTES) / 1000);
});

it("reaches further and further where there are no rows", async () => {
  const late = 1e9;
  const rows = column(1000);
  const { asked, t } = await read({ ...rows, t: rows.t.map((at, i) => (i < 500 ? at : at + late)) });
  expect(t).toHaveLength(1000);
  expect(asked.length).toBeLessThan(10);
});
