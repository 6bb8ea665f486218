import { describe, expect, it } from "vitest";
import { askArrow } from "../src/client/asking";

const QUESTION = { node: "n", timeline: "t", fields: ["x"], start: 0, end: Number.POSITIVE_INFINITY };

function ask(answer: unknown, progress: readonly unknown[] = []) {
  const asked: unknown[] = [];
  const call: Parameters<typeof askArrow>[0] = async (...args) => {
    asked.push(args.slice(0, 3));
    for (const message of progress) args[3].onProgress?.(message);
    return answer;
  };
  const told = askArrow(call, { ...QUESTION, last: true }, () => {}, new AbortController().signal);
  return { told, asked };
}

describe("asking in Arrow", () => {
  it("knows the time of the last row, even if the fields have no value there", async () => {
    const done = { method: "last", from: 2, to: 0, first: 4, last: 5 };
    const { told, asked } = ask({ timeline: {}, downsampled: { t: done }, position: { t: { epoch: "e", seq: 2 } } });
    expect(await told).toEqual({
      position: { epoch: "e", seq: 2 },
      finalizedUntil: null,
      revises: [],
      rows: 2,
      first: 4e6,
      last: 5e6,
    });
    const [procedure, args, kwargs] = (asked as [string, unknown[], unknown][])[0]!;
    expect(procedure).toBe("org.simonsobservatory.consumer.n.get_data");
    expect(args).toEqual([["x"], 1e-6, null]);
    expect(kwargs).toEqual({ encoding: "arrow", max_points: 1, method: "last" });
  });

  it.each([false, null, {}, { timeline: [] }])("refuses %j", async (answer) => {
    await expect(ask(answer).told).rejects.toThrow("not what get_data answers");
  });

  it("refuses what is no Arrow", async () => {
    const progress = [{ timeline: "t", arrow: new Uint8Array(64) }];
    await expect(ask({ timeline: {} }, progress).told).rejects.toThrow("Arrow");
    await expect(ask({ timeline: {}, arrow: { t: "text" } }).told).rejects.toThrow("no bytes");
  });
});
