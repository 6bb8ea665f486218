/** A plot: lines of the same units over time, drawn by uPlot in the colours of the page. */

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { type Line, lowerBound, type Value, withGaps } from "../client";
import { formatTicks } from "./format";
import type { Trace, Window } from "./traces";

export interface PlotLine {
  readonly name: string;
  /** Number of the colour. */
  readonly colour: number;
  readonly trace: Trace;
}

export interface Drawing {
  readonly lines: readonly PlotLine[];
  readonly window: Window;
  readonly kind: "number" | "bool";
  readonly utc: boolean;
  readonly width: number;
  readonly height: number;
}

export interface PlotEvents {
  zoom(window: Window): void;
  back(): void;
  /** The time under the pointer; null when it left. */
  cursor(t: number | null): void;
}

const AXIS = 64;
// What is farther from the pointer than this share of the plot is not what it points at.
const NEAR = 0.03;
// uPlot's mode of joining in which a null spreads over times that a line does not have.
const NULL_EXPAND = 2;
const FONT = '12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif';

// Columns as uPlot takes them: smallest step between ticks, their text, and what is added where a year, a month, a day ... begins.
const TIMES: uPlot.Axis.Values = [
  [3600 * 24 * 365, "{YYYY}", null, null, null, null, null, null, 1],
  [3600 * 24 * 28, "{MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [3600 * 24, "{D} {MMM}", "\n{YYYY}", null, null, null, null, null, 1],
  [60, "{HH}:{mm}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
  [1, "{HH}:{mm}:{ss}", "\n{D} {MMM} {YYYY}", null, "\n{D} {MMM}", null, null, null, 1],
  [0.001, "{ss}.{fff}", "\n{D} {MMM} {YYYY} {HH}:{mm}", null, "\n{D} {MMM} {HH}:{mm}", null, "\n{HH}:{mm}", null, 1],
];

export class Plot {
  readonly #host: HTMLElement;
  readonly #events: PlotEvents;
  #plot: uPlot | null = null;
  #shape = "";
  #drawn: readonly Trace[] = [];
  #utc = true;

  constructor(host: HTMLElement, events: PlotEvents) {
    this.#host = host;
    this.#events = events;
  }

  /** Draws; what has not changed since the last time is not done again. */
  draw(drawing: Drawing): void {
    const [min, max] = drawing.window;
    this.#utc = drawing.utc;
    const shape = JSON.stringify([drawing.kind, drawing.utc, drawing.lines.map(({ name, colour }) => [name, colour])]);
    const traces = drawing.lines.map(({ trace }) => trace);
    if (this.#plot === null || shape !== this.#shape) {
      this.#plot?.destroy();
      this.#plot = new uPlot(this.#options(drawing), aligned(drawing), this.#host);
      this.#shape = shape;
    }
    const plot = this.#plot;
    plot.batch(() => {
      if (traces.some((trace, i) => trace !== this.#drawn[i])) plot.setData(aligned(drawing), false);
      if (plot.width !== drawing.width || plot.height !== drawing.height) {
        plot.setSize({ width: drawing.width, height: drawing.height });
      }
      plot.setScale("x", { min, max });
    });
    this.#drawn = traces;
  }

  /** Draws anew in the colours that hold now. */
  recolour(): void {
    this.#plot?.redraw(false, true);
  }

  destroy(): void {
    this.#plot?.destroy();
    this.#plot = null;
  }

  #options(drawing: Drawing): uPlot.Options {
    const bool = drawing.kind === "bool";
    const colour = (name: string) => (): string => getComputedStyle(this.#host).getPropertyValue(name).trim();
    const axis: uPlot.Axis = {
      stroke: colour("--quiet"),
      font: FONT,
      grid: { stroke: colour("--grid"), width: 1 },
      ticks: { stroke: colour("--grid"), width: 1, size: 6 },
    };
    return {
      width: drawing.width,
      height: drawing.height,
      legend: { show: false },
      tzDate: (t) => (this.#utc ? uPlot.tzDate(new Date(t * 1000), "Etc/UTC") : new Date(t * 1000)),
      cursor: {
        sync: { key: "sisock", setSeries: false },
        drag: { x: true, y: false, setScale: false },
        points: { size: 7 },
        // The nearest row that has a value: the lines of a plot need not share their times.
        dataIdx: (plot, series, hovered, t) => nearest(plot, series, hovered, t) as number,
        bind: {
          dblclick: () => () => {
            this.#events.back();
            return null;
          },
        },
      },
      scales: {
        x: { time: true },
        y: bool ? { range: [-0.15, 1.15] } : { range: { min: { pad: 0.1 }, max: { pad: 0.1 } } },
      },
      axes: [
        { ...axis, values: TIMES, space: 90 },
        bool
          ? { ...axis, size: AXIS, splits: () => [0, 1], values: () => ["false", "true"] }
          : { ...axis, size: AXIS, space: 34, values: (_plot, ticks) => formatTicks(ticks) },
      ],
      series: [
        {},
        ...drawing.lines.map(
          (line): uPlot.Series => ({
            label: line.name,
            stroke: colour(`--line-${line.colour}`),
            width: 1.75,
            ...(bool ? { paths: uPlot.paths.stepped!({ align: 1 }) } : {}),
            points: { size: 5, fill: colour(`--line-${line.colour}`) },
          }),
        ),
      ],
      hooks: {
        setSelect: [
          (plot) => {
            const { left, width } = plot.select;
            if (width < 4) return;
            plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            const window = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")] as const;
            this.#events.zoom(window);
          },
        ],
        setCursor: [
          (plot) => {
            const { left } = plot.cursor;
            this.#events.cursor(left === undefined || left < 0 ? null : plot.posToVal(left, "x"));
          },
        ],
      },
    };
  }
}

/** uPlot's form: the times of all lines, and for each line its value there, null in a gap, undefined where it has no row. */
function aligned({ lines, kind }: Drawing): uPlot.AlignedData {
  const tables = lines.map(({ trace }): uPlot.AlignedData => {
    const { t, v } = withGaps(trace.line, kind === "bool" ? null : trace.gap);
    return [t as number[], v.map(number)];
  });
  if (tables.length === 0 || tables.every(([t]) => t.length === 0)) return [[], ...lines.map(() => [])];
  // A gap reaches over the times of the other lines.
  return uPlot.join(
    tables,
    tables.map(() => [NULL_EXPAND, NULL_EXPAND]),
  );
}

function number(value: Value): number | null {
  return typeof value === "number" ? value : typeof value === "boolean" ? Number(value) : null;
}

/** The nearest index to a time at which a line has a value, from an index near it on; null if there is none near. */
function nearest(plot: uPlot, series: number, hovered: number, t: number): number | null {
  const values = plot.data[series] as readonly (number | null | undefined)[];
  const times = plot.data[0];
  const reach = NEAR * (plot.scales.x!.max! - plot.scales.x!.min!);
  const near = (i: number): boolean => Math.abs(times[i]! - t) <= reach;
  for (let off = 0; near(hovered - off) || near(hovered + off); off++) {
    for (const i of [hovered - off, hovered + off]) if (near(i) && values[i] != null) return i;
  }
  return null;
}

/** The line's row that is nearest to a time of a window; null if none is near. */
export function at(line: Line, t: number, [start, end]: Window): { t: number; value: Value } | null {
  const high = lowerBound(line.t, t);
  const [best] = [high - 1, high]
    .filter((i) => i >= 0 && i < line.t.length && Math.abs(line.t[i]! - t) <= NEAR * (end - start))
    .sort((a, b) => Math.abs(line.t[a]! - t) - Math.abs(line.t[b]! - t));
  return best === undefined ? null : { t: line.t[best]!, value: line.v[best]! };
}
