/** One attempt to join the router, and the session that comes of it; a `Connection` makes one after the other. */

import autobahn, {
  type Pending,
  type Session,
  type Subscription,
  type Connection as WampConnection,
} from "autobahn-browser";
import { CANCELLED, fromWire, NOT_CONNECTED, SisockError, TIMED_OUT } from "./errors";

/** Where the router is, and as whom to join it. */
export interface Access {
  readonly url: string;
  readonly realm: string;
  readonly authid: string;
  readonly secret: string;
}

export interface CallOptions {
  /** Milliseconds in which nothing comes, after which the call is given up. */
  readonly timeout?: number;
  /** Takes results that come before the last one. */
  readonly onProgress?: (result: unknown) => void;
  /** Gives the call up: the promise rejects, and the callee is told. */
  readonly signal?: AbortSignal;
}

export type Handler = (args: readonly unknown[]) => void;

const CALL_TIMEOUT = 30_000;

/** Whom an attempt tells how it goes. */
interface Owner {
  joined(): void;
  left(reason: string | null, message: string | null): void;
}

/** One try to join, and the session that came of it. */
export class Attempt {
  readonly #connection: WampConnection;
  #session: Session | null = null;
  readonly #pending = new Set<(error: SisockError) => void>();
  readonly #subscriptions = new Map<string, Subscription>();
  #heard = Date.now();

  constructor(access: Access, owner: Owner) {
    this.#connection = new autobahn.Connection({
      url: access.url,
      realm: access.realm,
      authid: access.authid,
      authmethods: ["wampcra"],
      serializers: [new autobahn.serializer.CBORSerializer()],
      use_deferred: deferred,
      onchallenge: (_session: unknown, method: string, extra: Challenge): string =>
        signed(access.secret, method, extra),
    });
    this.#connection.onopen = (session) => {
      this.#session = session;
      this.#heard = Date.now();
      owner.joined();
    };
    this.#connection.onclose = (_how, details) => {
      this.#session = null;
      this.#fail();
      owner.left(details.reason, details.message);
      // When to try again is the owner's affair.
      return true;
    };
  }

  /** For how many milliseconds nothing was heard of the router: no event, no result, no part of one. */
  get silence(): number {
    return Date.now() - this.#heard;
  }

  open(): void {
    this.#connection.open();
  }

  end(): void {
    this.#connection.onopen = () => this.#connection.close();
    this.#connection.onclose = () => true;
    // A goodbye would wait for a router that may not answer. What was sent just now is still on its way to the socket.
    const { transport } = this.#connection;
    setTimeout(() => transport.close?.(), 0);
    this.#session = null;
    this.#fail();
  }

  async subscribe(topic: string, handler: Handler): Promise<void> {
    const session = this.#session;
    if (session === null) throw new SisockError(NOT_CONNECTED, "there is no connection to the router");
    const heard = (args: readonly unknown[] | undefined): void => {
      this.#heard = Date.now();
      handler(args ?? []);
    };
    this.#subscriptions.set(topic, await session.subscribe(topic, heard));
  }

  async unsubscribe(topic: string): Promise<void> {
    const subscription = this.#subscriptions.get(topic);
    this.#subscriptions.delete(topic);
    // A session that is lost has no subscriptions.
    if (subscription !== undefined && this.#session?.isOpen) await this.#session.unsubscribe(subscription);
  }

  call(
    procedure: string,
    args: readonly unknown[],
    kwargs: Readonly<Record<string, unknown>>,
    { timeout = CALL_TIMEOUT, onProgress, signal }: CallOptions,
  ): Promise<unknown> {
    const session = this.#session;
    if (!session?.isOpen) return Promise.reject(new SisockError(NOT_CONNECTED, "there is no connection to the router"));
    return new Promise((resolve, reject) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#pending.delete(fail);
        signal?.removeEventListener("abort", abort);
        delete pending.onProgress;
      };
      const fail = (error: SisockError): void => {
        done();
        reject(error);
      };
      const giveUp = (error: SisockError): void => {
        // "kill" waits for the callee's answer: one that came to a call that was forgotten would end the session.
        if (session.isOpen) pending.cancel({ mode: "kill" });
        fail(error);
      };
      const abort = (): void => giveUp(new SisockError(CANCELLED, "it was given up"));
      const late = (): void => giveUp(new SisockError(TIMED_OUT, `no answer within ${timeout / 1000} s`));
      let timer = setTimeout(late, timeout);
      this.#pending.add(fail);
      // Calls that bring results as they come take as long as they take; the router's own timeout (seconds), which comes up to
      // a second early, only frees what it holds for a call that was given up here.
      const more = onProgress === undefined ? { timeout: Math.floor(timeout / 1000) + 2 } : { receive_progress: true };
      const pending: Pending = session.call(procedure, args, kwargs, more);
      if (onProgress !== undefined) {
        pending.onProgress = (result) => {
          this.#heard = Date.now();
          clearTimeout(timer);
          timer = setTimeout(late, timeout);
          onProgress(result);
        };
      }
      pending.then(
        (result) => {
          this.#heard = Date.now();
          done();
          resolve(result);
        },
        (error: unknown) => {
          this.#heard = Date.now();
          fail(fromWire(error));
        },
      );
      if (signal?.aborted) abort();
      else signal?.addEventListener("abort", abort);
    });
  }

  #fail(): void {
    for (const fail of [...this.#pending])
      fail(new SisockError(NOT_CONNECTED, "the connection to the router was lost"));
  }
}

interface Challenge {
  readonly challenge: string;
  readonly salt?: string;
  readonly iterations?: number;
  readonly keylen?: number;
}

function signed(secret: string, method: string, extra: Challenge): string {
  if (method !== "wampcra") throw new Error(`the router asks for ${method}, not WAMP-CRA`);
  const key =
    extra.salt === undefined
      ? secret
      : autobahn.auth_cra.derive_key(secret, extra.salt, extra.iterations ?? 1000, extra.keylen ?? 32);
  return autobahn.auth_cra.sign(key, extra.challenge);
}

/** What Autobahn keeps for each thing it waits for. Its own kind with promises knows no progressive results. */
function deferred(): unknown {
  let settle: unknown[] = [];
  const promise = new Promise<unknown>((...both) => {
    settle = both;
  }) as Pending;
  const [resolve, reject] = settle;
  return { promise, resolve, reject, notify: (result: unknown) => promise.onProgress?.(result) };
}
