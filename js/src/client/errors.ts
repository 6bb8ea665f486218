/** Errors: what went wrong, with the URI that it has on the wire. */

export class SisockError extends Error {
  readonly uri: string;

  constructor(uri: string, message: string) {
    super(message);
    this.name = "SisockError";
    this.uri = uri;
  }
}

export const NOT_CONNECTED = "sisock.error.not_connected";
export const TIMED_OUT = "sisock.error.timed_out";
export const TOO_MUCH = "sisock.error.too_much";
export const UNKNOWN_NODE = "sisock.error.unknown_node";
export const POSITION_LOST = "sisock.error.position_lost";
export const CANCELLED = "sisock.error.cancelled";
export const FAILED = "sisock.error.failed";

const OF_WAMP: Readonly<Record<string, string>> = {
  "wamp.error.no_such_procedure": UNKNOWN_NODE,
  "wamp.error.not_authorized": "sisock.error.not_authorized",
  "wamp.error.canceled": NOT_CONNECTED,
  "wamp.error.timeout": TIMED_OUT,
};

const SAID: Readonly<Record<string, string>> = {
  [UNKNOWN_NODE]: "no such node is there now",
  [NOT_CONNECTED]: "it left before it answered",
};

/** Our error of whatever a call was rejected with. */
export function fromWire(error: unknown): SisockError {
  if (error instanceof SisockError) return error;
  if (typeof error === "object" && error !== null && "error" in error && typeof error.error === "string") {
    const uri = OF_WAMP[error.error] ?? error.error;
    const args = "args" in error && Array.isArray(error.args) ? error.args : [];
    return new SisockError(uri, SAID[uri] ?? (args.map(String).join(" ") || uri));
  }
  return new SisockError(FAILED, error instanceof Error ? error.message : String(error));
}
