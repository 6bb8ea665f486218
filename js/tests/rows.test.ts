import { describe, expect, it } from "vitest";
import { earliest } from "../src/client/position";
import { type Range, toBlocks } from "../src/client/rows";

describe("blocks of rows", () => {
  const rows = {
    t: [1, 2, 3, 4].map((t) => t * 1_000_000),
    columns: new Map([["x", [1, Number.NaN, 2n ** 60n, null]]]),
  };
  const seconds = (ranges: [number, number][]): Range[] => ranges.map(([start, end]) => [start * 1e6, end * 1e6]);
  const reached = { epoch: "e", seq: 1 };

  function blocks(ranges: [number, number][], fields = ["x"]) {
    return toBlocks("t", fields, rows, seconds(ranges), reached, 9).map(({ t, data, revises }) => ({
      t,
      x: data.get("x"),
      revises,
    }));
  }

  it("are one where nothing is replaced; what a list cannot say is null", () => {
    expect(blocks([])).toEqual([{ t: [1, 2, 3, 4], x: [1, null, null, null], revises: null }]);
    expect(toBlocks("t", ["x"], rows, [], reached, 9)[0]).toMatchObject({
      timeline: "t",
      finalizedUntil: 9,
      position: reached,
      thinned: null,
    });
  });

  it("are one for each range that is replaced, and one of what follows", () => {
    expect(blocks([[2, 3]])).toEqual([
      { t: [2], x: [null], revises: [2, 3] },
      { t: [1, 3, 4], x: [1, null, null], revises: null },
    ]);
    // Ranges that meet are one; in one without rows, all is gone.
    expect(
      blocks([
        [1, 2],
        [2, 5],
        [7, 8],
      ]).map(({ t, revises }) => [t, revises]),
    ).toEqual([
      [
        [1, 2, 3, 4],
        [1, 5],
      ],
      [[], [7, 8]],
    ]);
  });

  it("have a null for a field that has no column", () => {
    expect(toBlocks("t", ["y"], rows, [], null, null)[0]!.data.get("y")).toEqual([null, null, null, null]);
  });
});

describe("the earliest of several positions", () => {
  it("is that behind which nothing is missing to any", () => {
    expect(earliest([])).toBeNull();
    expect(
      earliest([
        { epoch: "e", seq: 3 },
        { epoch: "e", seq: 2 },
      ]),
    ).toEqual({ epoch: "e", seq: 2 });
    expect(earliest([{ epoch: "e", seq: 3 }, null])).toBeNull();
    expect(earliest([{ epoch: "e", seq: 3 }, undefined])).toBeNull();
    expect(
      earliest([
        { epoch: "e", seq: 3 },
        { epoch: "other", seq: 2 },
      ]),
    ).toBeNull();
  });
});
