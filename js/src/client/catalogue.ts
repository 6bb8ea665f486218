/** A catalogue: the fields that a node offers and the timelines they stand on (contract A6). */

import { FAILED, SisockError } from "./errors";

export type FieldType = "number" | "string" | "bool";

export interface Field {
  readonly name: string;
  readonly description: string | null;
  readonly units: string | null;
  readonly type: FieldType;
  readonly timeline: string;
}

export interface Timeline {
  readonly name: string;
  /** The usual spacing in seconds; null where there is none. */
  readonly interval: number | null;
}

export interface Catalogue {
  readonly fields: ReadonlyMap<string, Field>;
  readonly timelines: ReadonlyMap<string, Timeline>;
}

/** The catalogue of a node's answer to get_fields; a SisockError where it is none. */
export function parseCatalogue(answer: unknown): Catalogue {
  if (!Array.isArray(answer) || !isRecord(answer[0]) || !isRecord(answer[1])) {
    throw new SisockError(FAILED, "the node's answer to get_fields is not [fields, timelines]");
  }
  const [fields, timelines] = answer as [Record<string, unknown>, Record<string, unknown>];
  return {
    fields: new Map(Object.entries(fields).map(([name, spec]) => [name, field(name, isRecord(spec) ? spec : {})])),
    timelines: new Map(
      Object.entries(timelines).map(([name, spec]) => [name, { name, interval: interval(isRecord(spec) ? spec : {}) }]),
    ),
  };
}

function field(name: string, spec: Record<string, unknown>): Field {
  return {
    name,
    description: text(spec.description),
    units: text(spec.units),
    type: spec.type === "string" || spec.type === "bool" ? spec.type : "number",
    timeline: text(spec.timeline) ?? "t",
  };
}

function interval(spec: Record<string, unknown>): number | null {
  const { interval } = spec;
  return typeof interval === "number" && Number.isFinite(interval) && interval > 0 ? interval : null;
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
