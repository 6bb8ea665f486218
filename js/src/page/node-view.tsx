import { useComputed } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type Field, isPassing } from "../client";
import type { Range } from "./address";
import { MAX_LINES } from "./colours";
import { FieldList } from "./fields";
import { formatAge, formatTime } from "./format";
import type { OpenNode } from "./node";
import { Panels } from "./panels";
import { Ranges } from "./ranges";
import { Rows } from "./rows";
import { silentSince } from "./silence";
import type { Site } from "./site";

/** One node: its plots and its fields. */
export function NodeView({ site, open }: { site: Site; open: OpenNode }) {
  const catalogue = open.catalogue.value;
  const fields = useComputed(() => chosen(site, open));
  const range = useComputed<Range | null>(() => site.view.value.range ?? open.suggested.value);
  useEffect(() => {
    // Whoever opens a node sees something at once: its first numbers.
    const first =
      open.catalogue.value && [...open.catalogue.value.fields.values()].find(({ type }) => type === "number");
    if (first && site.view.peek().fields.length === 0 && !open.touched) site.plot([first.name]);
  }, [catalogue]);
  return (
    <article class="node">
      <div class="node-head">
        <h1>{open.name}</h1>
        <p>{open.description.value}</p>
      </div>
      <Notice site={site} open={open} />
      {catalogue !== null && catalogue.fields.size === 0 && <p>This node offers no fields yet.</p>}
      {catalogue !== null && catalogue.fields.size > 0 && (
        <div class="columns">
          <div class="plots">
            <Ranges site={site} open={open} range={range.value} />
            <Panels site={site} open={open} fields={fields.value} range={range.value} />
          </div>
          <FieldList site={site} open={open} chosen={fields.value} />
          <Rows site={site} open={open} fields={fields.value} />
        </div>
      )}
      {catalogue === null && open.left.value === null && open.problem.value === null && site.listed.value && (
        <p class="quiet">Asking {open.name} what it has …</p>
      )}
    </article>
  );
}

function chosen(site: Site, open: OpenNode): readonly Field[] {
  const { fields } = site.view.value;
  const offered = open.catalogue.value?.fields;
  return fields.flatMap((name) => offered?.get(name) ?? []).slice(0, MAX_LINES);
}

/** What keeps the node from being live, and what follows. */
function Notice({ site, open }: { site: Site; open: OpenNode }) {
  const left = open.left.value;
  const problem = open.problem.value ?? open.traces.problem.value;
  if (site.state.value.kind !== "connected") return null;
  if (left !== null) {
    const known = open.catalogue.value !== null;
    return (
      <p class="notice" role="status">
        {known
          ? `${open.name} left at ${formatTime(Math.floor(left), site.utc.value)} (${formatAge(site.time.value - left)}). Its lines go on when it comes back.`
          : `${open.name} is not here now. It opens by itself when it comes.`}
      </p>
    );
  }
  const gap = open.traces.gap.value;
  if (problem === null && gap === null) return <Silence site={site} open={open} />;
  if (problem === null) {
    return (
      <p class="notice" role="status">
        {`At ${formatTime(Math.floor(gap!.t), site.utc.value)}: ${gap!.reason}.`}
      </p>
    );
  }
  return (
    <p class="notice" role="status">
      {`${open.name} gives no data at present: ${problem.message}.${isPassing(problem) ? " It is asked again." : ""}`}
    </p>
  );
}

function Silence({ site, open }: { site: Site; open: OpenNode }) {
  const [catalogue, newest] = [open.catalogue.value, open.newest.value];
  const since = catalogue && newest && silentSince(catalogue, newest, open.opened, site.time.value);
  if (since === null) return null;
  const none =
    newest?.size === 0 ? "has given no rows yet" : `gave its newest row ${formatAge(site.time.value - since)}`;
  return (
    <p class="notice" role="status">
      {`${open.name} is here, but ${none}. Its log and sisock doctor, where it runs, say why.`}
    </p>
  );
}
