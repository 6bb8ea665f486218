import { describe, expect, it } from "vitest";
import type { Line } from "../src/client/block";
import { threshold, withGaps } from "../src/client/gaps";

function line(t: number[]): Line {
  return { t, v: t.map(() => 1) };
}

const even = Array.from({ length: 50 }, (_, i) => i);

describe("gaps", () => {
  it("break a line where a row is left out, and not where a timer slips", () => {
    const t = [0, 1, 2.3, 3.1, 5.1, 6];
    const limit = threshold(line(t), 1, 0);
    expect(withGaps(line(t), limit)).toEqual({ t: [0, 1, 2.3, 3.1, 4.1, 5.1, 6], v: [1, 1, 1, 1, null, 1, 1] });
  });

  it("are unknown to a timeline without spacing", () => {
    expect(threshold(line([0, 1, 100]), null, 0)).toBeNull();
    expect(withGaps(line([0, 1, 100]), null)).toEqual(line([0, 1, 100]));
  });

  it("are not every longer step of an uneven timeline", () => {
    const uneven = even.map((i) => i + 2 * Math.floor(i / 3));
    expect(withGaps(line(uneven), threshold(line(uneven), 1, 0))).toEqual(line(uneven));
  });

  it("are not the distance of rows that were picked from neighbouring buckets", () => {
    expect(threshold(line(even), 1, 60)).toBeGreaterThan(120);
  });
});
