import { expect, it } from "vitest";
import { fromWire, isOld, isPassing, SisockError } from "../src/client/errors";

it("is an old node's that knows no argument, and not what another says of its own trouble", () => {
  const says = (uri: string, message: string): boolean => isOld(new SisockError(uri, message));
  expect(says("wamp.error.runtime_error", "got an unexpected keyword argument 'max_points'")).toBe(true);
  expect(says("sisock.error.invalid_argument", "get_data(field, start, end) takes no encoding")).toBe(true);
  expect(says("sisock.error.node_failed", 'invalid byte sequence for encoding "UTF8"')).toBe(false);
  expect(says("sisock.error.failed", "read() takes 2 positional arguments but 3 were given")).toBe(false);
  expect(says("wamp.error.runtime_error", "division by zero")).toBe(false);
});

it("passes where another try may do better", () => {
  expect(isPassing(fromWire({ error: "wamp.error.timeout", args: [] }))).toBe(true);
  expect(isPassing(fromWire(new Error("what is this?")))).toBe(true);
  expect(isPassing(fromWire({ error: "wamp.error.not_authorized", args: ["no"] }))).toBe(false);
});
