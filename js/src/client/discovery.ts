/** Discovery: which data nodes are there, kept true while they come and go. */

import type { Connection } from "./connection";
import { Listeners, type Stop } from "./listeners";
import { ADDED, GET_DATA_NODE, SUBTRACTED } from "./uris";

export interface DataNode {
  readonly name: string;
  readonly description: string;
}

export class Discovery {
  /** Told of each new list, oldest node first. */
  readonly changes = new Listeners<readonly DataNode[]>();

  readonly #connection: Connection;
  readonly #stops: readonly Stop[];
  #nodes: readonly DataNode[] = [];
  #retry: ReturnType<typeof setTimeout> | undefined;

  /** To be made before the connection is opened, so that no change falls between the list and its first event. */
  constructor(connection: Connection) {
    this.#connection = connection;
    this.#stops = [
      connection.subscribe(ADDED, ([node]) => isNode(node) && this.#set(added(this.#nodes, node))),
      connection.subscribe(SUBTRACTED, ([node]) => isNode(node) && this.#set(subtracted(this.#nodes, node))),
      connection.joins.add(() => void this.#read()),
    ];
  }

  get nodes(): readonly DataNode[] {
    return this.#nodes;
  }

  close(): void {
    clearTimeout(this.#retry);
    for (const stop of this.#stops) stop();
  }

  async #read(): Promise<void> {
    clearTimeout(this.#retry);
    try {
      const answer = await this.#connection.call(GET_DATA_NODE);
      this.#set(Array.isArray(answer) ? answer.filter(isNode) : []);
    } catch {
      // A router that just came up has no hub yet; a lost session reads anew when it joins.
      if (this.#connection.state.kind === "connected") this.#retry = setTimeout(() => void this.#read(), 1000);
    }
  }

  #set(nodes: readonly DataNode[]): void {
    this.#nodes = nodes;
    this.changes.tell(nodes);
  }
}

/** The list with a node that came; at its old place if it was there. */
export function added(nodes: readonly DataNode[], node: DataNode): readonly DataNode[] {
  return nodes.some(({ name }) => name === node.name)
    ? nodes.map((known) => (known.name === node.name ? node : known))
    : [...nodes, node];
}

/** The list without a node that went. */
export function subtracted(nodes: readonly DataNode[], node: DataNode): readonly DataNode[] {
  return nodes.filter(({ name }) => name !== node.name);
}

function isNode(value: unknown): value is DataNode {
  return (
    typeof value === "object" &&
    value !== null &&
    "name" in value &&
    typeof value.name === "string" &&
    "description" in value &&
    typeof value.description === "string"
  );
}
