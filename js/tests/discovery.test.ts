import { expect, it, vi } from "vitest";
import type { Connection } from "../src/client/connection";
import { Discovery } from "../src/client/discovery";
import { Listeners } from "../src/client/listeners";
import { ADDED, SUBTRACTED } from "../src/client/uris";

const node = (name: string, description = "") => ({ name, description });

it("knows the nodes of each session and those that come and go, until it is closed", async () => {
  const topics = new Map<string, (args: readonly unknown[]) => void>();
  const link = {
    state: { kind: "connected" },
    joins: new Listeners<void>(),
    call: vi.fn(async () => [node("a"), node("b"), { what: "no node" }]),
    subscribe(topic: string, handler: (args: readonly unknown[]) => void) {
      topics.set(topic, handler);
      return () => topics.delete(topic);
    },
  };
  const discovery = new Discovery(link as unknown as Connection);
  const told = vi.fn();
  discovery.changes.add(told);
  link.joins.tell();
  await vi.waitFor(() => expect(discovery.nodes).toEqual([node("a"), node("b")]), { timeout: 10_000 });
  topics.get(ADDED)!([node("a", "anew")]);
  topics.get(SUBTRACTED)!([node("b")]);
  topics.get(ADDED)!(["no node"]);
  expect(discovery.nodes).toEqual([node("a", "anew")]);
  expect(told).toHaveBeenCalledTimes(3);
  discovery.close();
  link.joins.tell();
  expect(topics.size).toBe(0);
  expect(link.call).toHaveBeenCalledOnce();
});
