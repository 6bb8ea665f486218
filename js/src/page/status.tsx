import type { Site } from "./site";

/** The state of the connection, in words. */
export function Status({ site }: { site: Site }) {
  const state = site.state.value;
  const words = said(site);
  if (words === "") return <div class="status" />;
  return (
    <div class="status" data-state={state.kind}>
      <span class="dot" aria-hidden="true" />
      {/* What changes each second is not read out each second. */}
      <span role="status" class={state.kind === "away" ? "quiet-status" : undefined}>
        {state.kind === "away" ? "The router is away." : words}
      </span>
      {state.kind === "away" && (
        <>
          <span>{again(site, state.retryAt)}</span>
          <button type="button" onClick={() => site.retry()}>
            Try now
          </button>
        </>
      )}
    </div>
  );
}

function said(site: Site): string {
  switch (site.state.value.kind) {
    case "connecting":
      return `Connecting to ${location.host} …`;
    case "connected":
      return "Connected";
    case "away":
      return "The router is away.";
    case "refused":
      return "Not let in";
    case "closed":
      return "";
  }
}

function again(site: Site, retryAt: number): string {
  // Read for its ticking; the time of a retry is the browser's own.
  void site.time.value;
  const seconds = Math.ceil((retryAt - Date.now()) / 1000);
  return seconds > 0 ? `Trying again in ${seconds} s.` : "Trying again …";
}
