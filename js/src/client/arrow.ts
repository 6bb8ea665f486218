/** Arrow: the messages of an IPC stream as rows. */

import { tableFromIPC } from "@uwdata/flechette";
import { FAILED, SisockError } from "./errors";
import { whole } from "./live";
import type { Cell, Rows } from "./rows";

// A message begins with this mark and the length of its head; a schema has nothing behind that.
const MARK = 8;

/** Reads the messages of one timeline's stream as they come: `feed` each, and take the rows. */
export class Reader {
  /** Units and descriptions, as the schema has them. */
  readonly fields = new Map<string, { readonly units: string | null; readonly description: string | null }>();
  #schema: Uint8Array | null = null;

  /** The rows of these whole messages; a SisockError for bytes that are none. */
  feed(message: Uint8Array): Rows[] {
    // Numbers are read where they lie, which is at a multiple of eight bytes or not at all.
    const octets = message.byteOffset % 8 === 0 ? message : new Uint8Array(message);
    try {
      if (this.#schema !== null) return this.#read([this.#schema, octets]);
      const length = new DataView(octets.buffer, octets.byteOffset, octets.byteLength).getInt32(4, true);
      this.#schema = octets.subarray(0, MARK + length);
      return this.#read([octets]);
    } catch (error) {
      if (error instanceof SisockError) throw error;
      throw new SisockError(FAILED, `what was answered is no Arrow: ${String(error)}`);
    }
  }

  #read(messages: Uint8Array[]): Rows[] {
    // Integers stay exact, and times are microseconds as they were sent.
    const table = tableFromIPC(messages, { useBigInt: true });
    const [time, ...columns] = table.schema.fields;
    if (time === undefined) throw new SisockError(FAILED, "a stream of Arrow begins with its schema");
    for (const { name, metadata } of columns) {
      this.fields.set(name, {
        units: metadata?.get("units") ?? null,
        description: metadata?.get("description") ?? null,
      });
    }
    return table.getChildAt(0).data.map((batch, i) => ({
      t: Array.from((batch.values as BigInt64Array).subarray(0, batch.length), Number),
      columns: new Map(
        columns.map(({ name }, at): [string, Cell[]] => [name, cells(table.getChildAt(at + 1).data[i]!)]),
      ),
    }));
  }
}

function cells(batch: Iterable<unknown>): Cell[] {
  return Array.from(batch, (cell) => (typeof cell === "bigint" ? whole(cell) : (cell as Cell)));
}
