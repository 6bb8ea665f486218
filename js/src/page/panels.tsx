import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { type Field, groupBy, newest } from "../client";
import type { Range } from "./address";
import { formatAge, formatQuantity, formatTime } from "./format";
import type { OpenNode } from "./node";
import { at, Plot, type PlotLine } from "./plot";
import { fix, shift, zoom } from "./ranges";
import type { Site } from "./site";
import type { Trace } from "./traces";

interface Panel {
  readonly key: string;
  readonly kind: "number" | "bool";
  readonly units: string | null;
  readonly fields: readonly Field[];
}

/** The plots: a panel for each unit, all over the same time. */
export function Panels({
  site,
  open,
  fields,
  range,
}: {
  site: Site;
  open: OpenNode;
  fields: readonly Field[];
  range: Range | null;
}) {
  const host = useRef<HTMLDivElement>(null);
  const width = useSignal(0);
  const cursor = useSignal<number | null>(null);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(([entry]) => (width.value = Math.floor(entry!.contentRect.width)));
    observer.observe(host.current!);
    return () => observer.disconnect();
  }, []);
  const names = fields.map(({ name }) => name);
  useEffect(() => {
    // Two points for each column of the screen: the least and the greatest there.
    if (width.value > 0) open.traces.show(names, range, 2 * Math.round(width.value * devicePixelRatio));
  }, [names.join("\n"), range, width.value]);
  const panels = panelsOf(fields);
  const height = panels.length < 2 ? 340 : panels.length === 2 ? 240 : 190;
  const colours = fields.filter(({ type }) => type !== "string").map(({ name }) => name);
  return (
    <div class="panels" ref={host}>
      {fields.length === 0 && <p class="empty">Tick a field to plot it.</p>}
      {width.value > 0 &&
        panels.map((panel) => (
          <PanelView
            key={panel.key}
            site={site}
            open={open}
            panel={panel}
            width={width.value}
            height={panel.kind === "bool" ? 130 : height}
            colour={(name) => site.colours.of(colours, name)}
            cursor={cursor}
          />
        ))}
    </div>
  );
}

function panelsOf(fields: readonly Field[]): Panel[] {
  const shown = fields.filter(({ type }) => type !== "string");
  const groups = groupBy(shown, ({ type, units }) => (type === "bool" ? "bool" : `number ${units ?? ""}`));
  return [...groups].map(([key, members]) => ({
    key,
    kind: key === "bool" ? "bool" : "number",
    units: key === "bool" ? null : members[0]!.units,
    fields: members,
  }));
}

interface PanelProps {
  readonly site: Site;
  readonly open: OpenNode;
  readonly panel: Panel;
  readonly width: number;
  readonly height: number;
  readonly cursor: { value: number | null };
  colour(name: string): number;
}

function PanelView({ site, open, panel, width, height, cursor, colour }: PanelProps) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<Plot | null>(null);
  const lines = useComputed(() => open.traces.lines.value);
  useLayoutEffect(() => {
    const made = new Plot(host.current!, {
      zoom: ([start, end]) => fix(site, start, end),
      back: () => site.back(),
      cursor: (t) => (cursor.value = t),
    });
    plot.current = made;
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const recolour = (): void => made.recolour();
    scheme.addEventListener("change", recolour);
    return () => {
      scheme.removeEventListener("change", recolour);
      made.destroy();
    };
  }, []);
  const drawn: PlotLine[] = panel.fields.map(({ name }) => ({
    name,
    colour: colour(name),
    trace: lines.value.get(name) ?? NOTHING,
  }));
  const window = open.traces.window.value;
  useLayoutEffect(() => {
    plot.current?.draw({ lines: drawn, window, kind: panel.kind, utc: site.utc.value, width, height });
  });
  return (
    <section class="panel">
      <ul class="legend">
        {drawn.map((line) => (
          <LegendEntry key={line.name} site={site} open={open} line={line} units={panel.units} cursor={cursor.value} />
        ))}
      </ul>
      <div
        ref={host}
        class="canvas"
        style={{ height: `${height}px` }}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: the plot is moved with the keys of onKeyDown
        tabIndex={0}
        role="application"
        aria-label={`Plot of ${panel.fields.map(({ name }) => name).join(", ")}. Arrow keys move in time, plus and minus zoom, Escape goes back.`}
        onKeyDown={(event) => steer(site, open, event)}
      />
      {open.traces.loading.value && <span class="loading" role="progressbar" aria-label="Reading" />}
    </section>
  );
}

const NOTHING: Trace = { line: { t: [], v: [] }, thinned: null, gap: null, read: 0, position: null };

function LegendEntry({
  site,
  open,
  line,
  units,
  cursor,
}: {
  site: Site;
  open: OpenNode;
  line: PlotLine;
  units: string | null;
  cursor: number | null;
}) {
  const row = cursor === null ? newest(line.trace.line) : at(line.trace.line, cursor, open.traces.window.value);
  const [value, shown] = formatQuantity(row?.value, units);
  return (
    <li data-line={line.colour}>
      <span class="name">{line.name}</span>
      <span class="value">
        {value}
        {shown !== null && <span class="units"> {shown}</span>}
      </span>
      <span class="quiet">
        {cursor === null ? standing(site, open, line) : row === null ? "" : formatTime(row.t, site.utc.value)}
      </span>
    </li>
  );
}

/** Why a line does not move, where it does not. */
function standing(site: Site, open: OpenNode, { name, trace }: PlotLine): string {
  if (open.left.value !== null) return "stopped: the node left";
  if (site.state.value.kind !== "connected") return "stopped: no connection";
  const sample = open.newest.value?.get(name);
  if (trace.line.t.length === 0) {
    if (open.traces.loading.value) return "";
    return sample === undefined
      ? "no rows yet"
      : `no rows in this time; the newest is ${formatAge(site.time.value - sample.t)}`;
  }
  if (sample === undefined || site.view.value.range?.kind === "fixed") return "";
  const field = open.catalogue.value?.fields.get(name);
  const interval = open.catalogue.value?.timelines.get(field?.timeline ?? "")?.interval ?? 10;
  const age = site.time.value - sample.t;
  return age > Math.max(10, 5 * interval) ? `newest ${formatAge(age)}` : "live";
}

function steer(site: Site, open: OpenNode, event: KeyboardEvent): void {
  const actions: Readonly<Record<string, () => void>> = {
    ArrowLeft: () => shift(site, open, -0.25),
    ArrowRight: () => shift(site, open, 0.25),
    "+": () => zoom(site, open, 0.5),
    "=": () => zoom(site, open, 0.5),
    "-": () => zoom(site, open, 2),
    Escape: () => site.back(),
  };
  const action = actions[event.key];
  if (action === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  action();
}
