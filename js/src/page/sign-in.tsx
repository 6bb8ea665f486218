import { useEffect, useRef } from "preact/hooks";
import type { State } from "../client";
import type { Site } from "./site";

/** The way in for whoever has no token in the address. */
export function SignIn({ site }: { site: Site }) {
  const state = site.state.value;
  const form = useRef<HTMLFormElement>(null);
  const known = site.credentials.value?.authid ?? "";
  const field = (name: string): string => String(new FormData(form.current!).get(name) ?? "");
  useEffect(() => {
    form.current?.querySelector<HTMLInputElement>(known === "" ? "#authid" : "#secret")?.focus();
  }, []);
  return (
    <section class="sign-in">
      <h1>Sign in</h1>
      {state.kind === "refused" && (
        <p class="problem" role="alert">
          {why(state)}
        </p>
      )}
      <p>
        <code>sisock up</code> prints the address of this page with the token in it: open that one, and you are in. Or
        sign in here as a user of the site.
      </p>
      <form
        ref={form}
        onSubmit={(event) => {
          event.preventDefault();
          site.signIn({ authid: field("authid").trim(), secret: field("secret").trim() });
        }}
      >
        <label for="authid">User</label>
        <input
          id="authid"
          name="authid"
          required
          autocomplete="username"
          autocapitalize="none"
          spellcheck={false}
          defaultValue={known}
        />
        <label for="secret">Secret</label>
        <input id="secret" name="secret" type="password" required autocomplete="current-password" />
        <button type="submit" class="primary">
          Sign in
        </button>
      </form>
      <p class="quiet">
        The secret of the user <code>simonsobs</code> stands as “consumer” in the file <code>run.json</code> in the
        site’s home.
      </p>
    </section>
  );
}

function why(state: State & { kind: "refused" }): string {
  if (state.reason === "wamp.error.no_such_realm") {
    return "The router has no such realm. Open the address that sisock up printed; it names the right one.";
  }
  if (state.reason === "wamp.error.no_such_principal") {
    return "The router knows no such user. Look at the name, or open the address that sisock up printed.";
  }
  return "The router refused this user or secret. If the site was set up anew, its old address no longer works: open the one that sisock up printed last.";
}
