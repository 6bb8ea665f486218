/** The address: what is looked at stands in its fragment, so that a view can be shared; a token in it is taken and erased. */

export type Range =
  /** The last so many seconds, moving. */
  | { readonly kind: "last"; readonly seconds: number }
  | { readonly kind: "all" }
  | { readonly kind: "fixed"; readonly start: number; readonly end: number };

export interface View {
  readonly node: string | null;
  readonly fields: readonly string[];
  /** Null: what the newest rows suggest. */
  readonly range: Range | null;
  /** The realm, where it is another than the site's. */
  readonly realm: string | null;
}

export interface Credentials {
  readonly authid: string;
  readonly secret: string;
}

const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86400 };

/** What a fragment says is looked at; what it does not say or says wrongly is left open. */
export function parseView(fragment: string): View {
  const pairs = parts(fragment);
  const first = (key: string): string | null => pairs.find(([name]) => name === key)?.[1] || null;
  return {
    node: first("node"),
    fields: [...new Set(pairs.filter(([name, value]) => name === "field" && value !== "").map(([, value]) => value))],
    range: parseRange(first("range")),
    realm: first("realm"),
  };
}

/** The fragment of a view, without a "#"; empty if nothing is looked at. */
export function writeView(view: View): string {
  const pairs: [string, string][] = [];
  if (view.node !== null) pairs.push(["node", view.node]);
  for (const field of view.fields) pairs.push(["field", field]);
  if (view.range !== null) pairs.push(["range", writeRange(view.range)]);
  if (view.realm !== null) pairs.push(["realm", view.realm]);
  return pairs.map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join("&");
}

/** The token in a fragment, and the fragment without it; a token is `<authid>:<secret>`, percent-encoded. */
export function takeToken(fragment: string): { credentials: Credentials | null; rest: string } {
  const pieces = piecesOf(fragment);
  const token = pieces.find((piece) => piece.startsWith("token="))?.slice("token=".length);
  const rest = pieces.filter((piece) => !piece.startsWith("token=")).join("&");
  return { credentials: token === undefined ? null : parseToken(token), rest };
}

function parseToken(token: string): Credentials | null {
  // Whether the two are encoded one by one or the whole at once, the first colon parts them.
  const text = token.includes(":") ? token : decoded(token);
  const colon = text.indexOf(":");
  if (colon < 1) return null;
  const [authid, secret] = [text.slice(0, colon), text.slice(colon + 1)];
  return token.includes(":") ? { authid: decoded(authid), secret: decoded(secret) } : { authid, secret };
}

function parseRange(text: string | null): Range | null {
  if (text === null) return null;
  if (text === "all") return { kind: "all" };
  const last = /^(\d{1,6})([smhd])$/.exec(text);
  if (last !== null && Number(last[1]) > 0) return { kind: "last", seconds: Number(last[1]) * UNITS[last[2]!]! };
  const [start, end, more] = text.split("..").map((part) => (part === "" ? Number.NaN : Number(part)));
  if (start !== undefined && end !== undefined && more === undefined && start < end && Number.isFinite(end - start)) {
    return { kind: "fixed", start, end };
  }
  return null;
}

export function writeRange(range: Range): string {
  if (range.kind === "all") return "all";
  if (range.kind === "fixed") return `${micros(range.start)}..${micros(range.end)}`;
  const [unit, size] = Object.entries(UNITS).findLast(([, each]) => range.seconds % each === 0) ?? ["s", 1];
  return `${range.seconds / size}${unit}`;
}

export function sameRange(a: Range | null, b: Range | null): boolean {
  return (a && writeRange(a)) === (b && writeRange(b));
}

function micros(seconds: number): string {
  return String(Math.round(seconds * 1e6) / 1e6);
}

function parts(fragment: string): [string, string][] {
  return piecesOf(fragment).map((piece) => {
    const equals = piece.indexOf("=");
    return equals < 0 ? [decoded(piece), ""] : [decoded(piece.slice(0, equals)), decoded(piece.slice(equals + 1))];
  });
}

function piecesOf(fragment: string): string[] {
  return fragment.replace(/^#/, "").split("&").filter(Boolean);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // A stray "%" in a pasted address.
    return text;
  }
}
