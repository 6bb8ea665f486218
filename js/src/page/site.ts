/** The site: what the whole page knows - who is in, the connection, the nodes, what is looked at. */

import { batch, effect, signal } from "@preact/signals";
import { Connection, type DataNode, Discovery, PollingSource, REALM, type Source, type State } from "../client";
import * as access from "./access";
import { type Credentials, parseView, type Range, takeToken, type View, writeView } from "./address";
import { now, setClock } from "./clock";
import { Colours } from "./colours";
import { OpenNode } from "./node";

const ZONE = "sisock.zone";
// The node that tells how the hub is.
const HUB = "hub";
// How many nodes are asked whether they move, and how old a row of one that does may be, in seconds.
const MAX_TRIED = 8;
const FRESH = 60;

export class Site {
  readonly credentials = signal<Credentials | null>(null);
  readonly state = signal<State>({ kind: "closed" });
  readonly nodes = signal<readonly DataNode[]>([]);
  /** Whether the list of nodes is that of this session with the router. */
  readonly listed = signal(false);
  readonly view = signal<View>({ node: null, fields: [], range: null, realm: null });
  readonly open = signal<OpenNode | null>(null);
  /** The range to which a zoom goes back. */
  readonly base = signal<Range | null>(null);
  /** UNIX seconds, each second. */
  readonly time = signal(now());
  readonly clockOff = signal(0);
  readonly utc = signal(true);
  readonly colours = new Colours();

  #connection: Connection | null = null;
  #discovery: Discovery | null = null;
  #realm = REALM;
  /** The address's fragment as it was last read or written. */
  #hash = location.hash;
  #chose = false;

  async start(): Promise<void> {
    // First of all, so that the token stands in the address as shortly as can be.
    const credentials = this.#readAddress() ?? access.kept();
    this.utc.value = zone() !== "local";
    window.addEventListener("hashchange", () => this.#addressChanged());
    window.addEventListener("online", () => this.#connection?.retryNow());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState !== "visible") return;
      this.#connection?.retryNow();
      void this.#connection?.check();
    });
    setInterval(() => this.#tick(), 1000);
    effect(() => this.#nodesChanged());
    await this.#readSite();
    if (credentials !== null) this.signIn(credentials);
  }

  /** Joins the router as this user. */
  signIn(credentials: Credentials): void {
    this.#leave();
    access.keep(credentials);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const url = new URL("ws", location.href);
    url.protocol = scheme;
    url.hash = "";
    url.search = "";
    const connection = new Connection({ url: url.href, realm: this.view.value.realm ?? this.#realm, ...credentials });
    const discovery = new Discovery(connection);
    connection.states.add((state) => this.#stateChanged(state));
    discovery.changes.add((nodes) =>
      batch(() => {
        this.nodes.value = nodes;
        this.listed.value = true;
      }),
    );
    if (this.view.value.node === null) this.#welcome(connection, discovery);
    this.#connection = connection;
    this.#discovery = discovery;
    this.credentials.value = credentials;
    const { node } = this.view.value;
    this.open.value = node === null ? null : new OpenNode(connection, node);
    connection.open();
  }

  /** Leaves, and forgets the token. */
  signOut(): void {
    this.#leave();
    access.forget();
    this.credentials.value = null;
    this.state.value = { kind: "closed" };
  }

  retry(): void {
    this.#connection?.retryNow();
  }

  /** Goes to the list of all nodes. */
  home(): void {
    this.#chose = true;
    if (this.view.value.node !== null) this.#look({ ...this.view.value, node: null, fields: [], range: null }, true);
  }

  choose(node: string): void {
    this.#chose = true;
    if (node !== this.view.value.node) this.#look({ ...this.view.value, node, fields: [], range: null }, true);
  }

  plot(fields: readonly string[]): void {
    this.#look({ ...this.view.value, fields }, false);
  }

  /** Chooses a range; null leaves it to the newest rows. */
  range(range: Range | null): void {
    this.#look({ ...this.view.value, range }, false);
  }

  /** Goes back from a zoom. */
  back(): void {
    if (this.view.value.range?.kind === "fixed") this.range(this.base.value);
  }

  setZone(utc: boolean): void {
    this.utc.value = utc;
    try {
      localStorage.setItem(ZONE, utc ? "utc" : "local");
    } catch {
      // Without storage it holds until the page is closed.
    }
  }

  #look(view: View, step: boolean): void {
    // An address that somebody has just gone to, and that is about to be read, is not written over.
    if (!step && location.hash !== this.#hash) return;
    const fragment = writeView(view);
    const address = fragment === "" ? location.pathname : `#${fragment}`;
    if (step) history.pushState(null, "", address);
    else history.replaceState(null, "", address);
    this.#hash = location.hash;
    this.#show(view);
  }

  #show(view: View): void {
    const node = view.node;
    batch(() => {
      if (view.range?.kind !== "fixed") this.base.value = view.range;
      else if (node !== this.view.value.node) this.base.value = null;
      this.view.value = view;
      if (node !== (this.open.value?.name ?? null)) {
        this.open.value?.stop(false);
        this.open.value = node === null || this.#connection === null ? null : new OpenNode(this.#connection, node);
      }
    });
    document.title = node === null ? "sisock" : `${node} · sisock`;
  }

  /** Takes what the address says; a token in it is erased at once. */
  #readAddress(): Credentials | null {
    const { credentials, rest } = takeToken(location.hash);
    if (location.hash.includes("token=")) {
      history.replaceState(null, "", rest === "" ? location.pathname : `#${rest}`);
    }
    this.#hash = location.hash;
    this.#show(parseView(rest));
    return credentials;
  }

  #addressChanged(): void {
    const credentials = this.#readAddress();
    if (credentials !== null) this.signIn(credentials);
  }

  async #readSite(): Promise<void> {
    const asked = Date.now() / 1000;
    try {
      const answer = await fetch("site.json", { cache: "no-store" });
      this.clockOff.value = setClock(answer.headers.get("date"), asked, Date.now() / 1000);
      const told: unknown = answer.ok ? await answer.json() : null;
      if (typeof told === "object" && told !== null && "realm" in told && typeof told.realm === "string") {
        this.#realm = told.realm;
      }
    } catch {
      // A site without the file has the usual realm.
    }
  }

  #stateChanged(state: State): void {
    batch(() => {
      this.state.value = state;
      if (state.kind !== "connected") this.listed.value = false;
    });
    if (state.kind === "refused") access.forget();
  }

  /** Starts and stops the chosen node as it comes and goes. */
  #nodesChanged(): void {
    const [open, listed, nodes] = [this.open.value, this.listed.value, this.nodes.value];
    if (open === null) return;
    const node = nodes.find(({ name }) => name === open.name);
    queueMicrotask(() => {
      if (open !== this.open.peek()) return;
      if (node !== undefined) open.description.value = node.description;
      if (listed && node !== undefined) open.start();
      else open.stop(listed);
    });
  }

  /** Whoever comes without a wish is shown the first node that moves; the hub's own health only where nothing else does. */
  #welcome(connection: Connection, discovery: Discovery): void {
    const stop = discovery.changes.add(async (nodes) => {
      stop();
      const others = nodes.filter(({ name }) => name !== HUB);
      for (const { name } of [...others, ...nodes.filter(({ name }) => name === HUB)].slice(0, MAX_TRIED)) {
        const moves = await isMoving(new PollingSource(connection, name)).catch(() => false);
        if (connection !== this.#connection || this.view.value.node !== null || this.#chose) return;
        if (moves) {
          this.#look({ ...this.view.value, node: name }, false);
          return;
        }
      }
    });
  }

  #tick(): void {
    this.time.value = now();
    this.open.value?.traces.move();
  }

  #leave(): void {
    this.open.value?.stop(false);
    this.open.value = null;
    this.#discovery?.close();
    this.#connection?.close();
    this.#connection = null;
    batch(() => {
      this.nodes.value = [];
      this.listed.value = false;
    });
  }
}

async function isMoving(source: Source): Promise<boolean> {
  const { fields } = await source.catalogue();
  const names = [...fields.values()].filter(({ type }) => type === "number").map(({ name }) => name);
  const found = await source.read(names.slice(0, 1), { start: now() - FRESH, end: null }, 2);
  return [...found.values()].some(({ line }) => line.t.length > 0);
}

function zone(): string | null {
  try {
    return localStorage.getItem(ZONE);
  } catch {
    return null;
  }
}
