import { describe, expect, it } from "vitest";
import { parseView, sameRange, takeToken, type View, writeView } from "../src/page/address";

const NOTHING: View = { node: null, fields: [], range: null, realm: null };

describe("a view in the address", () => {
  it.each<View>([
    NOTHING,
    { node: "sensors", fields: ["cpu_load", "load_1"], range: { kind: "last", seconds: 300 }, realm: null },
    { node: "a.b", fields: ["50% & more=#", "über °C", "x:y"], range: { kind: "all" }, realm: "test_realm" },
    { node: "n", fields: [], range: { kind: "fixed", start: 1499990400.25, end: 1500000000 }, realm: null },
    { node: "n", fields: [], range: { kind: "last", seconds: 86400 }, realm: null },
  ])("is read as it was written: %j", (view) => {
    expect(parseView(`#${writeView(view)}`)).toEqual(view);
  });

  it("names whole units", () => {
    expect(writeView({ ...NOTHING, range: { kind: "last", seconds: 7200 } })).toBe("range=2h");
    expect(writeView({ ...NOTHING, range: { kind: "last", seconds: 90 } })).toBe("range=90s");
  });

  it.each(["5 parsecs", "0m", "1..", "2..1", "1..2..3", "a..b", "-5m", "1..Infinity"])(
    "leaves open what makes no sense: range=%s",
    (range) => {
      expect(parseView(`#node=n&range=${encodeURIComponent(range)}`)).toEqual({ ...NOTHING, node: "n" });
    },
  );

  it("takes a field once, and bears a stray percent sign", () => {
    expect(parseView("#field=a&field=a&field=&field=100%&other").fields).toEqual(["a", "100%"]);
  });

  it("compares ranges by what they say", () => {
    expect(sameRange({ kind: "last", seconds: 60 }, { kind: "last", seconds: 60 })).toBe(true);
    expect(sameRange({ kind: "all" }, null)).toBe(false);
    expect(sameRange(null, null)).toBe(true);
  });
});

describe("a token in the address", () => {
  it.each([
    ["#token=page:abc-_1", "page", "abc-_1", ""],
    ["#token=a%3Ab:s%2Bc%26r%25t+x&node=n", "a:b", "s+c&r%t+x", "node=n"],
    ["#node=n&token=page%3As%3At&field=f", "page", "s:t", "node=n&field=f"],
  ])("is taken out of %s", (fragment, authid, secret, rest) => {
    expect(takeToken(fragment)).toEqual({ credentials: { authid, secret }, rest });
  });

  it.each(["#token=", "#token=nocolon", "#token=:secret"])("is none, but is gone all the same: %s", (fragment) => {
    expect(takeToken(fragment)).toEqual({ credentials: null, rest: "" });
  });

  it("never stands in what is shared", () => {
    const { rest } = takeToken("#token=page:secret&node=n&field=f&range=5m");
    expect(writeView(parseView(rest))).toBe("node=n&field=f&range=5m");
  });
});
