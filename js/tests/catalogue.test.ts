import { describe, expect, it } from "vitest";
import { parseCatalogue } from "../src/client/catalogue";
import { added, subtracted } from "../src/client/discovery";
import { fromWire } from "../src/client/errors";

describe("an answer to get_fields", () => {
  it("is fields and timelines", () => {
    const { fields, timelines } = parseCatalogue([
      {
        a: { description: null, timeline: "t", type: "bool", units: null },
        b: { units: "K", description: "B", timeline: "u" },
      },
      { t: { interval: 2.5, field: ["a"] }, u: { interval: null, field: ["b"] } },
    ]);
    expect(fields.get("a")).toEqual({ name: "a", description: null, units: null, type: "bool", timeline: "t" });
    expect(fields.get("b")).toEqual({ name: "b", description: "B", units: "K", type: "number", timeline: "u" });
    expect([...timelines.values()].map(({ interval }) => interval)).toEqual([2.5, null]);
  });

  it.each([null, {}, [], [{}], "x", [[], {}]])("is not %j", (answer) => {
    expect(() => parseCatalogue(answer)).toThrow("get_fields");
  });
});

describe("the list of nodes", () => {
  const nodes = [
    { name: "a", description: "1" },
    { name: "b", description: "2" },
  ];

  it("keeps its order while nodes come and go", () => {
    expect(added(nodes, { name: "c", description: "3" }).map(({ name }) => name)).toEqual(["a", "b", "c"]);
    expect(added(nodes, { name: "a", description: "new" })[0]).toEqual({ name: "a", description: "new" });
    expect(subtracted(nodes, { name: "a", description: "" })).toEqual([nodes[1]]);
    expect(subtracted(nodes, { name: "x", description: "" })).toEqual(nodes);
  });
});

describe("an error on the wire", () => {
  it("has our URI and a sentence", () => {
    expect(fromWire({ error: "wamp.error.no_such_procedure", args: ["..."] })).toMatchObject({
      uri: "sisock.error.unknown_node",
    });
    expect(fromWire({ error: "sisock.error.busy", args: ["try again"] })).toMatchObject({ message: "try again" });
    expect(fromWire(new Error("boom"))).toMatchObject({ uri: "sisock.error.failed", message: "boom" });
    expect(fromWire("session not open").message).toBe("session not open");
  });
});
