/** Access: the token is kept for reloads of this tab, and nowhere else. */

import type { Credentials } from "./address";

const KEY = "sisock.access";

export function kept(): Credentials | null {
  try {
    const found: unknown = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    if (typeof found !== "object" || found === null || !("authid" in found) || !("secret" in found)) return null;
    const { authid, secret } = found;
    return typeof authid === "string" && typeof secret === "string" ? { authid, secret } : null;
  } catch {
    // Storage may be switched off; then each reload asks anew.
    return null;
  }
}

export function keep(credentials: Credentials): void {
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ authid: credentials.authid, secret: credentials.secret }));
  } catch {
    // As above.
  }
}

export function forget(): void {
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // As above.
  }
}
