/** A connection that keeps a session with the router: it joins, joins again whenever the session is lost, and stops only when refused. */

import { type Access, Attempt, type CallOptions, type Handler } from "./attempt";
import { fromWire, NOT_CONNECTED, SisockError, TIMED_OUT } from "./errors";
import { Listeners, type Stop } from "./listeners";
import { GET_DATA_NODE } from "./uris";

export type State =
  | { readonly kind: "connecting" }
  | { readonly kind: "connected" }
  /** No router answers; `retryAt` is when it is tried again, in milliseconds as of Date.now(). */
  | { readonly kind: "away"; readonly retryAt: number }
  /** The router does not let this user in; it is not tried again. */
  | { readonly kind: "refused"; readonly reason: string; readonly message: string }
  | { readonly kind: "closed" };

export interface SubscribeOptions {
  /** Told when the topic is subscribed: soon, and after each join. Calls can be made by then. */
  readonly subscribed?: () => void;
  /** Told that the router does not allow it; without it, a connection that cannot subscribe is given up. */
  readonly refused?: (error: SisockError) => void;
}

interface Listener extends SubscribeOptions {
  readonly handler: Handler;
}

interface Topic {
  readonly listeners: Set<Listener>;
  /** In which attempt to connect the rest holds. */
  attempt: Attempt | null;
  standing: "no" | "changing" | "yes";
}

const FIRST_DELAY = 500;
const MAX_DELAY = 3_000;
// What accepts a connection and says nothing is no router, or one that hangs.
const JOIN_TIMEOUT = 20_000;
// A browser cannot send a WebSocket's ping, so a router that fell silent is noticed by asking it something.
const HEARTBEAT = 15_000;
const HEARTBEAT_TIMEOUT = 10_000;
// A router that just came up may not know its users yet, so one that let us in before is asked more than once.
const REFUSALS = 3;

const REFUSED = new Set([
  "wamp.error.not_authorized",
  "wamp.error.no_such_realm",
  "wamp.error.no_such_principal",
  "wamp.error.no_auth_method",
  "wamp.error.authentication_failed",
  "wamp.error.authentication_denied",
]);

export class Connection {
  readonly access: Access;
  /** Told of each new state. */
  readonly states = new Listeners<State>();
  /** Told after each join, when all subscriptions stand again. */
  readonly joins = new Listeners<void>();

  #state: State = { kind: "closed" };
  #current: Attempt | null = null;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #joining: ReturnType<typeof setTimeout> | undefined;
  #heartbeat: ReturnType<typeof setInterval> | undefined;
  #delay = FIRST_DELAY;
  #everJoined = false;
  #refusals = 0;
  readonly #topics = new Map<string, Topic>();

  constructor(access: Access) {
    this.access = access;
  }

  get state(): State {
    return this.#state;
  }

  /** Begins to connect. */
  open(): void {
    if (this.#state.kind !== "closed") return;
    this.#try();
  }

  /** Tries now instead of waiting. */
  retryNow(): void {
    if (this.#state.kind === "away" || this.#state.kind === "connecting") this.#try();
  }

  /** Leaves for good. */
  close(): void {
    clearTimeout(this.#retry);
    this.#drop();
    this.#become({ kind: "closed" });
  }

  /**
   * Calls a procedure. The promise always settles: with the result, or with a SisockError, after `timeout` milliseconds in
   * which nothing came at most.
   */
  call(
    procedure: string,
    args: readonly unknown[] = [],
    kwargs: Readonly<Record<string, unknown>> = {},
    options: CallOptions = {},
  ): Promise<unknown> {
    const attempt = this.#current;
    if (attempt === null || this.#state.kind !== "connected") {
      return Promise.reject(new SisockError(NOT_CONNECTED, "there is no connection to the router"));
    }
    return attempt.call(procedure, args, kwargs, options);
  }

  /** Subscribes a topic now and after each join, until it is stopped. Those who listen to one topic share its subscription. */
  subscribe(topic: string, handler: Handler, options: SubscribeOptions = {}): Stop {
    const listener: Listener = { handler, ...options };
    const known: Topic = this.#topics.get(topic) ?? { listeners: new Set(), attempt: null, standing: "no" };
    this.#topics.set(topic, known);
    known.listeners.add(listener);
    if (this.#state.kind === "connected") {
      if (known.attempt === this.#current && known.standing === "yes") {
        queueMicrotask(() => known.listeners.has(listener) && listener.subscribed?.());
      } else void this.#settle(topic, known);
    }
    return () => {
      known.listeners.delete(listener);
      // What stands while the session is joined, or is about to, is settled at the end of that.
      const stands = known.attempt === this.#current && known.standing !== "no";
      if (this.#state.kind === "connected") void this.#settle(topic, known);
      else if (!stands && known.listeners.size === 0 && this.#topics.get(topic) === known) this.#topics.delete(topic);
    };
  }

  /** Resolves as soon as there is a session; rejects when the connection was refused or closed. */
  connected(): Promise<void> {
    return new Promise((resolve, reject) => {
      const settled = (state: State): boolean => {
        if (state.kind === "connected") resolve();
        else if (state.kind === "refused" || state.kind === "closed") {
          reject(new SisockError(NOT_CONNECTED, "there is no connection to the router"));
        } else return false;
        return true;
      };
      if (settled(this.#state)) return;
      const stop: Stop = this.states.add((state) => settled(state) && stop());
    });
  }

  /** Asks the router whether it is still there; a session in which nothing is heard any more is given up. */
  async check(): Promise<void> {
    const attempt = this.#current;
    if (attempt === null || this.#state.kind !== "connected") return;
    try {
      await attempt.call(GET_DATA_NODE, [], {}, { timeout: HEARTBEAT_TIMEOUT });
    } catch (error) {
      // An error is an answer, too; and on a slow line the answer stands behind much else.
      const silent = error instanceof SisockError && error.uri === TIMED_OUT && attempt.silence >= HEARTBEAT_TIMEOUT;
      if (attempt === this.#current && silent) this.#lost();
    }
  }

  #try(): void {
    clearTimeout(this.#retry);
    this.#drop();
    if (!this.#everJoined) this.#become({ kind: "connecting" });
    else this.#become({ kind: "away", retryAt: Date.now() });
    const attempt = new Attempt(this.access, {
      joined: () => void this.#joined(attempt),
      left: (reason, message) => this.#left(attempt, reason, message),
    });
    this.#current = attempt;
    this.#joining = setTimeout(() => this.#lost(), JOIN_TIMEOUT);
    attempt.open();
  }

  async #joined(attempt: Attempt): Promise<void> {
    await Promise.all([...this.#topics].map(([topic, known]) => this.#settle(topic, known)));
    if (attempt !== this.#current) return;
    clearTimeout(this.#joining);
    this.#everJoined = true;
    this.#refusals = 0;
    this.#delay = FIRST_DELAY;
    this.#heartbeat = setInterval(() => void this.check(), HEARTBEAT);
    this.#become({ kind: "connected" });
    this.joins.tell();
    for (const [topic, known] of [...this.#topics]) {
      if (known.attempt === attempt && known.standing === "yes") announce(known);
      // What was asked for, or stopped, while the others were subscribed.
      void this.#settle(topic, known);
    }
  }

  /**
   * Subscribes a topic that somebody listens to, and unsubscribes one that nobody does; one after the other, since a router
   * knows one subscription of a topic only.
   */
  async #settle(topic: string, known: Topic): Promise<void> {
    const attempt = this.#current;
    if (attempt === null) return;
    if (known.attempt !== attempt) {
      known.attempt = attempt;
      known.standing = "no";
    }
    const wanted = known.listeners.size > 0;
    if (known.standing === "changing" || wanted === (known.standing === "yes")) {
      if (known.standing === "no" && this.#topics.get(topic) === known) this.#topics.delete(topic);
      return;
    }
    known.standing = "changing";
    try {
      if (wanted) await attempt.subscribe(topic, (args) => hear(known, args));
      else await attempt.unsubscribe(topic);
    } catch (error) {
      if (attempt !== this.#current) return;
      known.standing = "no";
      this.#refused(known, fromWire(error));
      return;
    }
    if (attempt !== this.#current) return;
    known.standing = wanted ? "yes" : "no";
    if (wanted && this.#state.kind === "connected") announce(known);
    await this.#settle(topic, known);
  }

  #refused({ listeners }: Topic, error: SisockError): void {
    const all = [...listeners];
    // Whoever cannot go without it cannot go on at all.
    if (all.some(({ refused }) => refused === undefined)) this.#lost();
    else for (const { refused } of all) refused?.(error);
  }

  #left(attempt: Attempt, reason: string | null, message: string | null): void {
    if (attempt !== this.#current) return;
    if (reason !== null && REFUSED.has(reason)) {
      this.#refusals += 1;
      if (!this.#everJoined || this.#refusals >= REFUSALS) {
        this.#drop();
        this.#become({ kind: "refused", reason, message: message ?? "" });
        return;
      }
    }
    this.#lost();
  }

  #lost(): void {
    this.#drop();
    // A little chance, so that all pages of a site do not come back in the same instant.
    const delay = this.#delay * (0.8 + 0.4 * Math.random());
    this.#delay = Math.min(this.#delay * 2, MAX_DELAY);
    this.#retry = setTimeout(() => this.#try(), delay);
    this.#become({ kind: "away", retryAt: Date.now() + delay });
  }

  #drop(): void {
    clearTimeout(this.#joining);
    clearInterval(this.#heartbeat);
    const attempt = this.#current;
    this.#current = null;
    attempt?.end();
  }

  #become(state: State): void {
    this.#state = state;
    this.states.tell(state);
  }
}

function hear({ listeners }: Topic, args: readonly unknown[]): void {
  for (const { handler } of [...listeners]) handler(args);
}

function announce({ listeners }: Topic): void {
  for (const listener of [...listeners]) listener.subscribed?.();
}
