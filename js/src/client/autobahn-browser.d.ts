/** What we use of autobahn-browser, which ships no types. */
declare module "autobahn-browser" {
  export interface Session {
    readonly isOpen: boolean;
    call(
      procedure: string,
      args?: readonly unknown[],
      kwargs?: Readonly<Record<string, unknown>>,
      options?: Readonly<Record<string, unknown>>,
    ): Pending;
    subscribe(topic: string, handler: (args: readonly unknown[] | undefined) => void): Promise<Subscription>;
    unsubscribe(subscription: Subscription): Promise<unknown>;
  }

  /** A call that is not answered yet; of the kind that `use_deferred` makes. */
  export interface Pending extends Promise<unknown> {
    /** Told of each progressive result. */
    onProgress?: (result: unknown) => void;
    cancel(options: { mode: "kill" }): void;
  }

  export interface Subscription {
    readonly id: number;
  }

  export interface Closed {
    reason: string | null;
    message: string | null;
  }

  export class Connection {
    constructor(options: Readonly<Record<string, unknown>>);
    onopen: (session: Session) => void;
    onclose: (reason: string, details: Closed) => boolean;
    readonly transport: { close?: () => void };
    open(): void;
    close(): void;
  }

  const autobahn: {
    Connection: typeof Connection;
    auth_cra: {
      sign(key: string, challenge: string): string;
      derive_key(secret: string, salt: string, iterations: number, keylen: number): string;
    };
    serializer: { CBORSerializer: new () => unknown };
  };
  export default autobahn;
}
