import { describe, expect, it } from "vitest";
import { type Block, EMPTY, extended, type Line, lowerBound, newest, parseData, since } from "../src/client/block";

const timelineOf = (field: string): string | undefined => ({ a: "t", b: "t", c: "u" })[field];

function block(
  t: number[],
  a: Block["data"] extends ReadonlyMap<string, infer V> ? V : never,
  revises: Block["revises"],
): Block {
  return { timeline: "t", t, data: new Map([["a", a]]), finalizedUntil: null, revises, thinned: null, position: null };
}

describe("an answer to get_data", () => {
  it("is blocks, a timeline each", () => {
    const answer = {
      data: { a: [1, null], b: [], c: ["x"], stray: [1, 2] },
      timeline: { t: { t: [10, 20], finalized_until: 15 }, u: { t: [5], finalized_until: null } },
      position: { t: { epoch: "e", seq: 3 } },
      downsampled: { t: { method: "minmax", from: 100, to: 2 } },
    };
    expect(parseData(answer, timelineOf)).toEqual([
      {
        timeline: "t",
        t: [10, 20],
        data: new Map([
          ["a", [1, null]],
          ["b", [null, null]],
        ]),
        finalizedUntil: 15,
        revises: null,
        thinned: { from: 100, to: 2 },
        position: { epoch: "e", seq: 3 },
      },
      {
        timeline: "u",
        t: [5],
        data: new Map([["c", ["x"]]]),
        finalizedUntil: null,
        revises: null,
        thinned: null,
        position: null,
      },
    ]);
  });

  it("holds no block where there are no rows", () => {
    expect(parseData({ data: { a: [] }, timeline: {} }, timelineOf)).toEqual([]);
    expect(parseData({ data: { a: [] }, timeline: { t: { t: [] } } }, timelineOf)).toEqual([]);
  });

  it.each([false, null, [], "text", { data: {} }, { data: [], timeline: {} }])("is not %j", (answer) => {
    expect(() => parseData(answer, timelineOf)).toThrow("get_data");
  });
});

describe("a line", () => {
  const line: Line = { t: [1, 2, 3], v: [10, 20, 30] };

  it("takes only what is newer, where nothing is revised", () => {
    expect(extended(line, block([2, 3, 4], [0, 0, 40], null), "a")).toEqual({ t: [1, 2, 3, 4], v: [10, 20, 30, 40] });
    expect(extended(line, block([3], [0], null), "a")).toBe(line);
    expect(extended(EMPTY, block([3], [0], null), "a")).toEqual({ t: [3], v: [0] });
  });

  it("has its revised rows replaced", () => {
    const open = [2, Number.POSITIVE_INFINITY] as const;
    expect(extended(line, block([2, 2.5, 4], [21, 25, null], open), "a")).toEqual({
      t: [1, 2, 2.5, 4],
      v: [10, 21, 25, null],
    });
    expect(extended(line, block([2], [22], [2, 3]), "a")).toEqual({ t: [1, 2, 3], v: [10, 22, 30] });
    expect(extended(line, block([0.5], [5], [0, 1]), "a")).toEqual({ t: [0.5, 1, 2, 3], v: [5, 10, 20, 30] });
  });

  it("is the same after the same block twice", () => {
    const more = block([3, 4], [31, 41], [3, Number.POSITIVE_INFINITY]);
    const once = extended(line, more, "a");
    expect(extended(once, more, "a")).toEqual(once);
  });

  it("is cut at a start, with the row before it", () => {
    expect(since(line, 2.5)).toEqual({ t: [2, 3], v: [20, 30] });
    expect(since(line, 0)).toBe(line);
    expect(since(line, 9)).toEqual({ t: [3], v: [30] });
  });

  it("has a newest value, which is no null", () => {
    expect(newest({ t: [1, 2, 3], v: [false, "x", null] })).toEqual({ t: 2, value: "x" });
    expect(newest({ t: [1], v: [null] })).toBeNull();
  });

  it("is searched", () => {
    expect([0, 1, 1.5, 3, 4].map((x) => lowerBound(line.t, x))).toEqual([0, 0, 1, 2, 3]);
  });
});
