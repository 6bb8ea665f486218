/** Colours: a line keeps its own while others come and go. */

/** How many lines can be told apart, and read at once without a burden to the site. */
export const MAX_LINES = 8;

export class Colours {
  readonly #taken = new Map<string, number>();

  /** The number of a field's colour among those that are shown; 0 for one that is not. */
  of(shown: readonly string[], name: string): number {
    for (const held of this.#taken.keys()) if (!shown.includes(held)) this.#taken.delete(held);
    for (const one of shown) {
      if (!this.#taken.has(one)) this.#taken.set(one, this.#free());
    }
    return this.#taken.get(name) ?? 0;
  }

  #free(): number {
    const used = new Set(this.#taken.values());
    for (let colour = 0; colour < MAX_LINES; colour++) if (!used.has(colour)) return colour;
    return 0;
  }
}
