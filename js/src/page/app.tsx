import { NodeView } from "./node-view";
import { NodeList } from "./nodes";
import { SignIn } from "./sign-in";
import type { Site } from "./site";
import { Status } from "./status";

export function App({ site }: { site: Site }) {
  const refused = site.state.value.kind === "refused";
  const inside = site.credentials.value !== null && !refused;
  return (
    <>
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to the data
      </button>
      <header>
        <button type="button" class="brand" onClick={() => site.home()}>
          <img src="./icon.svg" alt="" width="28" height="28" />
          sisock
        </button>
        <Status site={site} />
        {inside && (
          <button type="button" class="plain" onClick={() => site.signOut()}>
            Sign out
          </button>
        )}
      </header>
      {inside ? (
        <div class="site">
          <NodeList site={site} />
          <main id="main" tabIndex={-1}>
            {site.open.value === null ? (
              <Welcome site={site} />
            ) : (
              <NodeView key={site.open.value.id} site={site} open={site.open.value} />
            )}
          </main>
        </div>
      ) : (
        <main id="main" tabIndex={-1}>
          <SignIn site={site} />
        </main>
      )}
    </>
  );
}

function Welcome({ site }: { site: Site }) {
  const nodes = site.nodes.value;
  return (
    <section class="welcome">
      <h1>What would you like to see?</h1>
      {nodes.length === 0 ? (
        <p>
          {site.listed.value
            ? "No data nodes are here yet. They appear by themselves as they join; sisock run NODE starts one."
            : "The nodes appear here as soon as the router answers."}
        </p>
      ) : (
        <ul class="cards">
          {nodes.map(({ name, description }) => (
            <li key={name}>
              <button type="button" onClick={() => site.choose(name)}>
                <b>{name}</b>
                <span>{description}</span>
              </button>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
