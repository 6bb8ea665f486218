/** The site's clock: the browser's own, set right by the router's where the two differ. */

// The router tells its time in whole seconds.
const NOTABLE = 3;

let offset = 0;

/** UNIX seconds. */
export function now(): number {
  return Date.now() / 1000 + offset;
}

/** Takes the time that an answer of the router carries; answers by how many seconds the browser's clock is off, 0 if it is right. */
export function setClock(header: string | null, asked: number, answered: number): number {
  const told = header === null ? Number.NaN : Date.parse(header) / 1000;
  const difference = told + 0.5 - (asked + answered) / 2;
  offset = Math.abs(difference) > NOTABLE ? difference : 0;
  return offset;
}
