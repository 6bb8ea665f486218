import { describe, expect, it } from "vitest";
import { Reader } from "../src/client/arrow";
import { SisockError } from "../src/client/errors";
import { parseLive } from "../src/client/live";
import { live } from "../src/client/uris";
import { type GoldenBlock, type GoldenLive, golden, liveBlock, rows, wire } from "./golden";

type Event = GoldenLive & { readonly wire: unknown; readonly refused?: true };

interface Stream {
  readonly timeline: string;
  readonly messages: readonly { readonly arrow: unknown }[];
  readonly blocks: readonly GoldenBlock[];
  readonly fields: Readonly<Record<string, { readonly units: string | null; readonly description: string | null }>>;
}

describe("live events", () => {
  it.each((golden("live.json") as Event[]).map((event, i) => [i, event] as const))("number %i", (_, event) => {
    if (event.refused) expect(() => parseLive(wire(event.wire))).toThrow(SisockError);
    else expect(parseLive(wire(event.wire))).toEqual(liveBlock(event));
  });
});

describe("streams of Arrow", () => {
  const streams = golden("arrow.json") as Stream[];

  it.each(streams.map((stream) => [stream.timeline, stream] as const))("%s, message by message", (_, stream) => {
    const reader = new Reader();
    const read = stream.messages.flatMap(({ arrow }) => reader.feed(wire(arrow) as Uint8Array));
    expect(read).toEqual(stream.blocks.map(rows));
    for (const [name, field] of Object.entries(stream.fields)) expect(reader.fields.get(name)).toEqual(field);
  });

  it.each(streams.map((stream) => [stream.timeline, stream] as const))("%s, whole, at any place", (_, stream) => {
    const whole = stream.messages.flatMap(({ arrow }) => [...(wire(arrow) as Uint8Array)]);
    for (let off = 0; off < 8; off++) {
      const octets = new Uint8Array([...new Array<number>(off).fill(7), ...whole]).subarray(off);
      expect(new Reader().feed(octets)).toEqual(stream.blocks.map(rows));
    }
  });

  it("are refused where they are none", () => {
    for (const octets of [[], [1, 2, 3], new Array<number>(64).fill(9)]) {
      const reader = new Reader();
      expect(() => reader.feed(new Uint8Array(octets))).toThrow(SisockError);
    }
  });
});

describe("topics", () => {
  it.each(Object.entries(golden("topics.json") as Record<string, string>))("of %j", (timeline, topic) => {
    expect(live("roof.air", timeline)).toBe(topic);
  });
});
