/** What we use of autobahn-browser, which ships no types. */
declare module "autobahn-browser" {
  export interface Session {
    readonly isOpen: boolean;
    call(
      procedure: string,
      args?: readonly unknown[],
      kwargs?: Readonly<Record<string, unknown>>,
      options?: Readonly<Record<string, unknown>>,
    ): Promise<unknown>;
    subscribe(topic: string, handler: (args: readonly unknown[] | undefined) => void): Promise<unknown>;
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
