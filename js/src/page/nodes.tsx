import { useEffect, useRef } from "preact/hooks";
import type { Site } from "./site";

/** The nodes that are there; the chosen one stays when it goes, and says so. */
export function NodeList({ site }: { site: Site }) {
  const chosen = site.view.value.node;
  const nodes = site.nodes.value;
  const gone = chosen !== null && !nodes.some(({ name }) => name === chosen);
  const list = useRef<HTMLUListElement>(null);
  useEffect(() => {
    // Where the nodes lie in a row, the chosen one may be beyond its end.
    list.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [chosen, nodes.length]);
  return (
    <nav aria-label="Data nodes" class={site.listed.value ? undefined : "stale"}>
      <h2>
        Nodes <span class="count">{nodes.length}</span>
      </h2>
      <ul ref={list}>
        {nodes.map(({ name, description }) => (
          <li key={name}>
            <button type="button" aria-current={name === chosen ? "page" : undefined} onClick={() => site.choose(name)}>
              <b>{name}</b>
              <span>{description}</span>
            </button>
          </li>
        ))}
        {gone && (
          <li key={`gone ${chosen}`}>
            <button type="button" class={site.listed.value ? "gone" : undefined} aria-current="page">
              <b>{chosen}</b>
              <span>{site.listed.value ? "not here now" : "…"}</span>
            </button>
          </li>
        )}
      </ul>
      {site.listed.value && nodes.length === 0 && <p class="quiet">None is here now.</p>}
    </nav>
  );
}
