import type { Closed } from "autobahn-browser";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Connection } from "../src/client/connection";
import { CANCELLED, NOT_CONNECTED, SisockError, TIMED_OUT } from "../src/client/errors";
import { GET_DATA_NODE } from "../src/client/uris";

interface Asked {
  readonly procedure: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly promise: { onProgress?: (result: unknown) => void };
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
  cancelled: unknown;
}

type Handler = (args: readonly unknown[] | undefined) => void;

/** Autobahn's connection and session, of a router that answers when it is told to. */
const { Wamp } = vi.hoisted(() => {
  class Wamp {
    static readonly made: Wamp[] = [];
    onopen: (session: Wamp) => void = () => {};
    onclose: (how: string, details: Closed) => boolean = () => true;
    isOpen = false;
    readonly transport = { close: vi.fn() };
    readonly calls: Asked[] = [];
    /** What was told the router: topics, with "-" before one that was unsubscribed. */
    readonly topics: string[] = [];
    readonly handlers = new Map<string, Handler>();
    refuses: string | null = null;

    constructor() {
      Wamp.made.push(this);
    }

    open(): void {}

    close(): void {}

    join(): void {
      this.isOpen = true;
      this.onopen(this);
    }

    leave(reason: string | null): void {
      this.isOpen = false;
      this.onclose("closed", { reason, message: "so it is" });
    }

    async subscribe(topic: string, handler: Handler): Promise<{ topic: string }> {
      this.topics.push(topic);
      await new Promise((resolve) => setTimeout(resolve, 20));
      if (this.refuses === topic) throw { error: "wamp.error.not_authorized", args: ["no"] };
      this.handlers.set(topic, handler);
      return { topic };
    }

    async unsubscribe({ topic }: { topic: string }): Promise<void> {
      this.topics.push(`-${topic}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
      this.handlers.delete(topic);
    }

    call(procedure: string, _args: unknown, _kwargs: unknown, options: Asked["options"]): unknown {
      let settle: unknown[] = [];
      const promise: Promise<unknown> & Asked["promise"] = new Promise((...both) => {
        settle = both;
      });
      const [resolve, reject] = settle as [Asked["resolve"], Asked["reject"]];
      const asked: Asked = { procedure, options, promise, resolve, reject, cancelled: null };
      this.calls.push(asked);
      return Object.assign(promise, { cancel: (how: unknown) => (asked.cancelled = how) });
    }
  }
  return { Wamp };
});

vi.mock("autobahn-browser", () => ({ default: { Connection: Wamp, serializer: { CBORSerializer: class {} } } }));

const router = (): InstanceType<typeof Wamp> => Wamp.made.at(-1)!;
const pass = (milliseconds: number): Promise<unknown> => vi.advanceTimersByTimeAsync(milliseconds);

function made(): Connection {
  return new Connection({ url: "ws://here", realm: "r", authid: "a", secret: "s" });
}

async function joined(connection = made()): Promise<Connection> {
  connection.open();
  router().join();
  await pass(100);
  expect(connection.state.kind).toBe("connected");
  return connection;
}

beforeEach(() => {
  Wamp.made.length = 0;
  vi.useFakeTimers();
  vi.spyOn(Math, "random").mockReturnValue(0.5);
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

describe("a connection", () => {
  it("joins again and again, later each time, and at once when it is told to", async () => {
    const connection = made();
    connection.open();
    expect(connection.state.kind).toBe("connecting");
    for (const delay of [500, 1000, 2000, 3000, 3000]) {
      router().leave(null);
      expect(connection.state).toEqual({ kind: "away", retryAt: Date.now() + delay });
      const before = Wamp.made.length;
      await pass(delay);
      expect(Wamp.made).toHaveLength(before + 1);
    }
    router().leave(null);
    connection.retryNow();
    router().join();
    await pass(0);
    expect(connection.state.kind).toBe("connected");
    connection.close();
    expect(connection.state.kind).toBe("closed");
    await pass(60_000);
    expect(connection.state.kind).toBe("closed");
  });

  it("does not wait for ever for a router that says nothing", async () => {
    const connection = made();
    connection.open();
    await pass(20_000);
    expect(connection.state.kind).toBe("away");
    await pass(500);
    expect(Wamp.made).toHaveLength(2);
    router().join();
    await pass(0);
    expect(connection.state.kind).toBe("connected");
    // And then it has its time.
    await pass(14_000);
    expect(Wamp.made).toHaveLength(2);
  });

  it("tries anew when it is told to while a router says nothing", () => {
    const connection = made();
    connection.open();
    connection.retryNow();
    expect(Wamp.made).toHaveLength(2);
    expect(connection.state.kind).toBe("connecting");
  });

  it("is refused at once by a router that never let it in, and at the third time by one that did", async () => {
    const refused = { kind: "refused", reason: "wamp.error.authentication_failed", message: "so it is" };
    const stranger = made();
    stranger.open();
    router().leave("wamp.error.authentication_failed");
    expect(stranger.state).toEqual(refused);
    await expect(stranger.connected()).rejects.toMatchObject({ uri: NOT_CONNECTED });

    const known = await joined();
    router().leave(null);
    for (const kind of ["away", "away", "refused"]) {
      await pass(3000);
      router().leave("wamp.error.authentication_failed");
      expect(known.state.kind).toBe(kind);
    }
  });
});

describe("topics", () => {
  it("are shared, and stand again after each join", async () => {
    const connection = await joined();
    const [one, other, told] = [vi.fn(), vi.fn(), vi.fn()];
    const stop = connection.subscribe("t", one, { subscribed: told });
    connection.subscribe("t", other, { subscribed: told });
    await pass(100);
    expect(told).toHaveBeenCalledTimes(2);
    router().handlers.get("t")!(["event"]);
    expect(one).toHaveBeenCalledWith(["event"]);
    stop();
    router().handlers.get("t")!(["another"]);
    expect(one).toHaveBeenCalledOnce();
    expect(other).toHaveBeenLastCalledWith(["another"]);
    router().leave(null);
    await pass(500);
    router().join();
    await pass(100);
    expect(router().topics).toEqual(["t"]);
    expect(told).toHaveBeenCalledTimes(3);
  });

  it("are subscribed when they are asked for while it joins", async () => {
    const connection = made();
    connection.subscribe("first", () => {});
    connection.open();
    router().join();
    await pass(5);
    expect(connection.state.kind).toBe("connecting");
    const told = vi.fn();
    connection.subscribe("second", () => {}, { subscribed: told });
    await pass(100);
    expect(router().topics).toEqual(["first", "second"]);
    expect(told).toHaveBeenCalledOnce();
  });

  it("stay, or go, as they are wanted at the end when that changes while it joins", async () => {
    const connection = made();
    const stops = ["again", "gone", "done"].map((topic) => connection.subscribe(topic, () => {}));
    connection.open();
    router().join();
    await pass(5);
    stops[0]!();
    stops[1]!();
    const told = vi.fn();
    connection.subscribe("again", () => {}, { subscribed: told });
    await pass(100);
    expect([...router().handlers.keys()]).toEqual(["again", "done"]);
    expect(told).toHaveBeenCalledOnce();
    expect(router().topics.filter((topic) => topic === "again")).toHaveLength(1);
    stops[2]!();
    await pass(100);
    expect([...router().handlers.keys()]).toEqual(["again"]);
  });

  it("that are refused are told to who can go without, and end the session of who cannot", async () => {
    const connection = await joined();
    router().refuses = "t";
    const refused = vi.fn();
    connection.subscribe("t", () => {}, { refused });
    await pass(100);
    expect(refused).toHaveBeenCalledWith(new SisockError("sisock.error.not_authorized", "no"));
    expect(connection.state.kind).toBe("connected");
    connection.subscribe("t", () => {});
    await pass(100);
    expect(connection.state.kind).toBe("away");
  });
});

describe("a call", () => {
  it("is answered, and takes the router's timeout in seconds, after its own", async () => {
    const connection = await joined();
    const answer = connection.call("p");
    expect(router().calls[0]).toMatchObject({ procedure: "p", options: { timeout: 32 } });
    router().calls[0]!.resolve(7);
    await expect(answer).resolves.toBe(7);
    const failed = connection.call("p");
    router().calls[1]!.reject({ error: "wamp.error.no_such_procedure", args: [] });
    await expect(failed).rejects.toMatchObject({ uri: "sisock.error.unknown_node" });
  });

  it("is given up when nothing came for its time, and the callee is told", async () => {
    const connection = await joined();
    const answer = connection.call("p", [], {}, { timeout: 200 });
    const late = expect(answer).rejects.toMatchObject({ uri: TIMED_OUT });
    await pass(200);
    await late;
    expect(router().calls[0]!.cancelled).toEqual({ mode: "kill" });
  });

  it("has its time anew with each part that comes", async () => {
    const connection = await joined();
    const parts: unknown[] = [];
    const answer = connection.call("p", [], {}, { timeout: 200, onProgress: (part) => parts.push(part) });
    const [asked] = router().calls;
    expect(asked!.options).toEqual({ receive_progress: true });
    for (let i = 0; i < 10; i++) {
      await pass(150);
      asked!.promise.onProgress!(i);
    }
    expect(parts).toHaveLength(10);
    const late = expect(answer).rejects.toMatchObject({ uri: TIMED_OUT });
    await pass(200);
    await late;
  });

  it("ends with its signal, and with the connection", async () => {
    const connection = await joined();
    const stopped = new AbortController();
    const given = connection.call("p", [], {}, { signal: stopped.signal });
    stopped.abort();
    await expect(given).rejects.toMatchObject({ uri: CANCELLED });
    expect(router().calls[0]!.cancelled).toEqual({ mode: "kill" });
    const lost = connection.call("p");
    router().leave(null);
    await expect(lost).rejects.toMatchObject({ uri: NOT_CONNECTED });
    await expect(connection.call("p")).rejects.toMatchObject({ uri: NOT_CONNECTED });
  });
});

describe("a router that falls silent", () => {
  it("is left", async () => {
    const connection = await joined();
    await pass(15_000);
    expect(router().calls.map(({ procedure }) => procedure)).toEqual([GET_DATA_NODE]);
    await pass(10_000);
    expect(connection.state.kind).toBe("away");
  });

  it.each(["parts of an answer", "events"])("is not, while %s come", async (what) => {
    const connection = await joined();
    connection.subscribe("t", () => {});
    void connection.call("p", [], {}, { onProgress: () => {} }).catch(() => {});
    await pass(100);
    const hear = what === "events" ? router().handlers.get("t")! : router().calls[0]!.promise.onProgress!;
    for (let i = 0; i < 12; i++) {
      await pass(5000);
      hear([i]);
    }
    expect(router().calls.filter(({ procedure }) => procedure === GET_DATA_NODE).length).toBeGreaterThan(1);
    expect(connection.state.kind).toBe("connected");
    await pass(40_000);
    expect(connection.state.kind).not.toBe("connected");
  });
});
