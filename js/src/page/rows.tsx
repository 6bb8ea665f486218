import { useSignal } from "@preact/signals";
import { type Field, groupBy } from "../client";
import { formatTime, formatValue } from "./format";
import type { OpenNode } from "./node";
import type { Site } from "./site";
import type { Trace } from "./traces";

const SHOWN = 20;

/** The newest rows of what is chosen, in figures: the plot for those who cannot see it, and the only form of texts. */
export function Rows({ site, open, fields }: { site: Site; open: OpenNode; fields: readonly Field[] }) {
  const shown = useSignal(false);
  if (fields.length === 0) return null;
  const texts = fields.some(({ type }) => type === "string");
  const groups = [...groupBy(fields, ({ timeline }) => timeline)];
  return (
    <details class="rows" open={texts} onToggle={(event) => (shown.value = event.currentTarget.open)}>
      <summary>Newest rows in figures</summary>
      {shown.value &&
        groups.map(([timeline, members]) => (
          <Table
            key={timeline}
            site={site}
            open={open}
            fields={members}
            caption={groups.length > 1 ? `Timeline ${timeline}` : null}
          />
        ))}
    </details>
  );
}

function Table({
  site,
  open,
  fields,
  caption,
}: {
  site: Site;
  open: OpenNode;
  fields: readonly Field[];
  caption: string | null;
}) {
  const traces = fields.flatMap(({ name }) => open.traces.lines.value.get(name) ?? []);
  const [start, end] = open.traces.window.value;
  const columns = fields.map(({ name }) => newestRows(open.traces.lines.value.get(name), start, end));
  const times = [...new Set(columns.flatMap((column) => [...column.keys()]))].sort((a, b) => b - a).slice(0, SHOWN);
  const thinned = traces.find((trace) => trace.thinned !== null)?.thinned;
  if (times.length === 0) return <p class="quiet">No rows in this time.</p>;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what is wider than the page is moved with the keys
    <section class="scroll" tabIndex={0} aria-label={`Newest rows of ${fields.map(({ name }) => name).join(", ")}`}>
      <table>
        {caption !== null && <caption>{caption}</caption>}
        <thead>
          <tr>
            <th scope="col">{site.utc.value ? "Time (UTC)" : "Time (local)"}</th>
            {fields.map(({ name, units }) => (
              <th scope="col" key={name}>
                {name}
                {units !== null && <span class="units"> {units}</span>}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {times.map((t) => (
            <tr key={t}>
              <th scope="row" data-t={t}>
                {formatTime(t, site.utc.value)}
              </th>
              {columns.map((column, i) => (
                <td key={fields[i]!.name} class={fields[i]!.type} data-value={JSON.stringify(column.get(t) ?? null)}>
                  {column.has(t) ? formatValue(column.get(t)) : ""}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {thinned && (
        <p class="quiet">{`Of ${thinned.from} rows in this time the plot shows ${thinned.to}, among them every extreme; zoom in to see all.`}</p>
      )}
    </section>
  );
}

function newestRows(trace: Trace | undefined, start: number, end: number): Map<number, Trace["line"]["v"][number]> {
  const rows = new Map<number, Trace["line"]["v"][number]>();
  const { t, v } = trace?.line ?? { t: [], v: [] };
  for (let i = t.length - 1; i >= 0 && rows.size < SHOWN; i--) {
    if (t[i]! >= start && t[i]! < end) rows.set(t[i]!, v[i]!);
  }
  return rows;
}
