import { describe, expect, it } from "vitest";
import { formatAge, formatInterval, formatQuantity, formatTicks, formatTime, formatValue } from "../src/page/format";

/** The text with plain blanks for thin ones. */
function plain(text: string): string {
  return text.replaceAll("\u202f", " ");
}

describe("what people read", () => {
  it.each([
    [null, "–"],
    [undefined, "–"],
    [true, "true"],
    ["text", "text"],
    [0, "0"],
    [-1.99, "−1.99"],
    [4.12939453, "4.12939"],
    [1234, "1234"],
    [4668284930, "4 668 284 930"],
    [123456.789, "123 457"],
    [0.00001234, "1.2340e−5"],
    [1e300, "1.0000e300"],
  ])("value %s is %s", (value, text) => {
    expect(plain(formatValue(value))).toBe(text);
  });

  it("gives large amounts a prefix, if their units take one", () => {
    expect(formatQuantity(20608229400, "B")).toEqual(["20.61", "GB"]);
    expect(formatQuantity(2500, "B")).toEqual(["2500", "B"]);
    expect(formatQuantity(250000, "mbar").map((part) => plain(part ?? ""))).toEqual(["250 000", "mbar"]);
    expect(formatQuantity(null, "B")).toEqual(["–", "B"]);
  });

  it("labels ticks alike", () => {
    expect(formatTicks([0, 0.5, 1])).toEqual(["0", "0.5", "1"]);
    expect(formatTicks([0, 5e9, 1e10]).map(plain)).toEqual(["0", "5 G", "10 G"]);
    expect(formatTicks([-1.2e-6, 1.5e-6]).map(plain)).toEqual(["−1.2 µ", "1.5 µ"]);
  });

  it.each([
    [0, "now"],
    [59, "59 s ago"],
    [119, "119 s ago"],
    [120, "2 min ago"],
    [7200, "2 h ago"],
    [3 * 86400, "3 days ago"],
    [9.4 * 365.25 * 86400, "9 years ago"],
    [-60, "in 60 s"],
  ])("age %s is %s", (seconds, text) => {
    expect(formatAge(seconds)).toBe(text);
  });

  it("tells spacing and time", () => {
    expect(formatInterval(2.5)).toBe("every 2.5 s");
    expect(formatInterval(0.01)).toBe("100 a second");
    expect(formatInterval(null)).toBe("no fixed spacing");
    expect(formatTime(1499990400, true)).toBe("2017-07-14 00:00:00");
    expect(formatTime(1499990400.25, true)).toBe("2017-07-14 00:00:00.250");
    expect(formatTime(1e300, true)).toBe("–");
  });
});
