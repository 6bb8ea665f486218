import { expect, test } from "vitest";
import type { Catalogue } from "../src/client";
import { silentSince } from "../src/page/silence";

function catalogue(...intervals: (number | null)[]): Catalogue {
  return {
    fields: new Map([["x", { name: "x", description: null, timeline: "0", type: "number", units: null }]]),
    timelines: new Map(intervals.map((interval, i) => [String(i), { name: String(i), interval, fields: ["x"] }])),
  } as unknown as Catalogue;
}

const rows = (t: number, final = false) => new Map([["x", { t, value: 1, final }]]);

test("a node without any rows is silent since it was opened, after a while", () => {
  expect(silentSince(catalogue(1), new Map(), 1000, 1010)).toBeNull();
  expect(silentSince(catalogue(1), new Map(), 1000, 1016)).toBe(1000);
});

test("a slow node has its time", () => {
  expect(silentSince(catalogue(60), rows(1000), 0, 1599)).toBeNull();
  expect(silentSince(catalogue(60), rows(1000), 0, 1601)).toBe(1000);
  expect(silentSince(catalogue(3600, 1), rows(1000), 0, 1020)).toBe(1000);
});

test("what is finished is not silent, and hides nothing that is", () => {
  expect(silentSince(catalogue(1), rows(1000, true), 0, 1300)).toBeNull();
  const both = new Map([...rows(1000, true), ["y", { t: 900, value: 1, final: false }] as const]);
  expect(silentSince(catalogue(1), both, 0, 1300)).toBe(900);
});

test("an archive, a node without a rhythm and one of the future are not silent", () => {
  expect(silentSince(catalogue(60), rows(1000), 0, 1000 + 2 * 86400)).toBeNull();
  expect(silentSince(catalogue(null), rows(1000), 0, 2000)).toBeNull();
  expect(silentSince(catalogue(1), rows(5000), 0, 1000)).toBeNull();
});
