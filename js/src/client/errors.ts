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
export const NOT_AUTHORIZED = "sisock.error.not_authorized";
export const INVALID_ARGUMENT = "sisock.error.invalid_argument";
export const CANCELLED = "sisock.error.cancelled";
export const FAILED = "sisock.error.failed";

const OF_WAMP: Readonly<Record<string, string>> = {
  "wamp.error.no_such_procedure": UNKNOWN_NODE,
  "wamp.error.not_authorized": NOT_AUTHORIZED,
  "wamp.error.canceled": NOT_CONNECTED,
  "wamp.error.timeout": TIMED_OUT,
};

const SAID: Readonly<Record<string, string>> = {
  [UNKNOWN_NODE]: "no such node is there now",
  [NOT_CONNECTED]: "it left before it answered",
};

const PASSING = new Set([
  NOT_CONNECTED,
  TIMED_OUT,
  UNKNOWN_NODE,
  FAILED,
  "sisock.error.busy",
  "sisock.error.node_failed",
  "sisock.error.store_away",
]);

/** Whether another try may do better, so that what follows a node tries again by itself. */
export function isPassing(error: SisockError): boolean {
  return PASSING.has(error.uri);
}

/** Whether an error means that the node knows no argument that came after contract A. */
export function isOld(error: SisockError): boolean {
  // Of ours, one alone says so: the words of another may be those of a node's own trouble.
  if (error.uri.startsWith("sisock.error.") && error.uri !== INVALID_ARGUMENT) return false;
  return /unexpected keyword|positional argument|takes .* arguments|encoding|max_points/.test(error.message);
}

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
