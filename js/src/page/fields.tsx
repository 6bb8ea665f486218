import { useSignal } from "@preact/signals";
import type { Field } from "../client";
import { MAX_LINES } from "./colours";
import { formatAge, formatInterval, formatQuantity, formatTime } from "./format";
import type { OpenNode } from "./node";
import type { Site } from "./site";

// From so many fields on there is a box to find one.
const MANY = 10;

/** What the node offers, each field with its newest value; the ticked ones are plotted. */
export function FieldList({ site, open, chosen }: { site: Site; open: OpenNode; chosen: readonly Field[] }) {
  const sought = useSignal("");
  const all = [...open.catalogue.value!.fields.values()];
  const words = sought.value.toLowerCase().split(/\s+/);
  const shown = all.filter(({ name, description }) => {
    const text = `${name} ${description ?? ""}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const names = chosen.map(({ name }) => name);
  const drawn = chosen.filter(({ type }) => type !== "string").map(({ name }) => name);
  const toggle = (name: string): void => {
    open.touched = true;
    site.plot(names.includes(name) ? names.filter((other) => other !== name) : [...names, name]);
  };
  return (
    <section class="fields" aria-labelledby="fields-title">
      <div class="fields-head">
        <h2 id="fields-title">
          Fields <span class="count">{all.length}</span>
        </h2>
        {all.length >= MANY && (
          <input
            type="search"
            placeholder="Find a field"
            aria-label="Find a field"
            value={sought.value}
            onInput={(event) => (sought.value = event.currentTarget.value)}
          />
        )}
      </div>
      {names.length >= MAX_LINES && (
        <p class="quiet">{`${MAX_LINES} fields at a time: untick one to choose another.`}</p>
      )}
      <ul>
        {shown.map((field) => (
          <FieldRow
            key={field.name}
            site={site}
            open={open}
            field={field}
            colour={field.type === "string" ? null : site.colours.of(drawn, field.name)}
            ticked={names.includes(field.name)}
            full={names.length >= MAX_LINES}
            toggle={toggle}
          />
        ))}
      </ul>
      {shown.length === 0 && <p class="quiet">No field has that in its name or description.</p>}
    </section>
  );
}

interface Row {
  readonly site: Site;
  readonly open: OpenNode;
  readonly field: Field;
  readonly colour: number | null;
  readonly ticked: boolean;
  readonly full: boolean;
  toggle(name: string): void;
}

function FieldRow({ site, open, field, colour, ticked, full, toggle }: Row) {
  const sample = open.newest.value?.get(field.name);
  const [value, units] = formatQuantity(sample?.value, field.units);
  const interval = open.catalogue.value?.timelines.get(field.timeline)?.interval ?? null;
  return (
    <li data-field={field.name}>
      <label>
        <input
          type="checkbox"
          checked={ticked}
          disabled={full && !ticked}
          data-line={ticked && colour !== null ? colour : undefined}
          onChange={() => toggle(field.name)}
        />
        <span class="name">{field.name}</span>
        <span class="value" data-t={sample?.t}>
          <span title={sample === undefined ? undefined : String(sample.value)}>{value}</span>
          {units !== null && <span class="units"> {units}</span>}
        </span>
        <span class="about">
          {field.description !== null && <>{field.description} · </>}
          <span title={`Timeline ${field.timeline}`}>
            {field.timeline}, {formatInterval(interval)}
          </span>
        </span>
        <span class="age" title={sample === undefined ? undefined : formatTime(sample.t, site.utc.value)}>
          {sample === undefined
            ? open.newest.value === null
              ? ""
              : "no value yet"
            : formatAge(site.time.value - sample.t)}
        </span>
      </label>
    </li>
  );
}
