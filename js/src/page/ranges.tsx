import { type Range, sameRange } from "./address";
import { formatTime } from "./format";
import type { OpenNode } from "./node";
import type { Site } from "./site";
import type { Window } from "./traces";

const CHOICES: readonly (readonly [string, string, Range])[] = [
  ["5 m", "5 m, the last 5 minutes", { kind: "last", seconds: 300 }],
  ["1 h", "1 h, the last hour", { kind: "last", seconds: 3600 }],
  ["1 d", "1 d, the last day", { kind: "last", seconds: 86400 }],
  ["all", "all there is", { kind: "all" }],
];

/** The range of time, and the ways to change it without a mouse. */
export function Ranges({ site, open, range }: { site: Site; open: OpenNode; range: Range | null }) {
  const zoomed = range?.kind === "fixed";
  const [start, end] = open.traces.window.value;
  return (
    <fieldset class="ranges" aria-label="Range of time">
      <div class="buttons">
        {CHOICES.map(([text, label, choice]) => (
          <button
            type="button"
            key={text}
            aria-label={label}
            aria-pressed={sameRange(range, choice)}
            onClick={() => site.range(choice)}
          >
            {text}
          </button>
        ))}
      </div>
      <div class="buttons">
        <button type="button" aria-label="Earlier" title="Earlier" onClick={() => shift(site, open, -0.5)}>
          ‹
        </button>
        <button type="button" aria-label="Zoom in" title="Zoom in" onClick={() => zoom(site, open, 0.5)}>
          +
        </button>
        <button type="button" aria-label="Zoom out" title="Zoom out" onClick={() => zoom(site, open, 2)}>
          −
        </button>
        <button type="button" aria-label="Later" title="Later" onClick={() => shift(site, open, 0.5)}>
          ›
        </button>
      </div>
      {zoomed && (
        <button type="button" class="primary" onClick={() => site.back()}>
          Back
        </button>
      )}
      {(zoomed || range?.kind === "all") && (
        <span class="span">
          <b>{short(start, site.utc.value)} –</b> <b>{short(end, site.utc.value)}</b>
        </span>
      )}
      <button
        type="button"
        class="plain zone"
        title={site.utc.value ? "Show local time" : "Show UTC"}
        onClick={() => site.setZone(!site.utc.value)}
      >
        {site.utc.value ? "UTC" : "local time"}
      </button>
    </fieldset>
  );
}

export function zoom(site: Site, open: OpenNode, factor: number): void {
  const [start, end] = shown(site, open);
  const [middle, half] = [(start + end) / 2, ((end - start) / 2) * factor];
  fix(site, middle - half, middle + half);
}

export function shift(site: Site, open: OpenNode, share: number): void {
  const [start, end] = shown(site, open);
  fix(site, start + (end - start) * share, end + (end - start) * share);
}

/** What is looked at; a range that was just chosen counts before it is drawn. */
function shown(site: Site, open: OpenNode): Window {
  const { range } = site.view.value;
  return range?.kind === "fixed" ? [range.start, range.end] : open.traces.window.value;
}

/** Shows a range that stands still; none is shorter than a millisecond. */
export function fix(site: Site, start: number, end: number): void {
  if (end - start >= 1e-3) site.range({ kind: "fixed", start, end });
}

function short(t: number, utc: boolean): string {
  return formatTime(Math.round(t), utc).replace(/:00$/, "");
}
