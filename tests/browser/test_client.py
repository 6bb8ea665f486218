"""The client in a real browser, against a real site: what it follows is what the command line reads."""

from __future__ import annotations

import subprocess

import pytest
from conftest import HERE, wait
from pushed import ROWS

JS = HERE.parent.parent / "js"

# Follows one field, and puts together by the rules what comes.
FOLLOW = """
({ ws, authid, secret, realm }, timeline, field) => {
    const connection = new sisock.Connection({ url: ws, realm, authid, secret });
    const seen = { rows: new Map(), twice: 0, pages: 0, position: null, problems: [], gaps: [], without: 0 };
    const followed = {
        deliver({ block, revises, position }) {
            for (const [start, end] of revises)
                for (const t of [...seen.rows.keys()]) if (t >= start && t < end) seen.rows.delete(t);
            block.t.forEach((t, i) => {
                if (seen.rows.has(t)) seen.twice += 1;
                seen.rows.set(t, block.columns.get(field)?.[i] ?? null);
            });
            seen.pages += 1;
            seen.position = position ?? seen.position;
        },
        gap: ({ reason }) => seen.gaps.push(reason),
        problem: (error) => error && seen.problems.push(error.message),
        without: () => (seen.without += 1),
    };
    const begin = () => (seen.following = new sisock.Following(connection, "pushed", timeline, [field], 1, null, followed));
    begin();
    connection.open();
    Object.assign(window, { connection, seen, begin });
}
"""


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    """The client as one script, `sisock` its name."""
    made = tmp_path_factory.mktemp("client") / "sisock.js"
    command = [JS / "npm", "exec", "--silent", "--", "rolldown", "src/client/index.ts", "--format", "iife"]
    done = subprocess.run(
        [*command, "--name", "sisock", "--platform", "browser", "--file", made], cwd=JS, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return made.read_text()


@pytest.fixture
def client(windows, bundle, site):
    """Follows a field of the node `pushed` in a window that has nothing of the page but its origin, and the client."""
    window = windows()
    # Chromium asks each site for its icon, and a file that is no page names none.
    window.page.route("**/favicon.ico", lambda route: route.fulfill(status=200, body=""))
    window.page.goto(f"{site.page}site.json")
    window.page.evaluate(bundle + "; window.sisock = sisock")
    run = site.run
    access = {"ws": run["ws"], "realm": run["realm"], **run["consumer"]}

    def follow(timeline, field):
        window.page.evaluate(f"([access, timeline, field]) => ({FOLLOW})(access, timeline, field)", [access, timeline, field])
        return window.page

    return follow


@pytest.fixture
def pushed(site):
    process = site.node("pushed:Pushed")
    wait(lambda: "pushed" in [node["name"] for node in site.sisock("ls", "--json")])
    yield process
    process.kill()
    process.wait()


def rows(page):
    return {t / 1e6: value for t, value in page.evaluate("[...seen.rows]") if value is not None}


def test_a_long_history_comes_in_pages(client, pushed):
    page = client("long", "past")
    wait(lambda: page.evaluate("seen.rows.size") == ROWS)
    assert rows(page) == {1_600_000_000 + i * 0.5: float(i) for i in range(ROWS)}
    assert page.evaluate("seen.pages") > 2
    assert page.evaluate("[seen.twice, seen.gaps, seen.without]") == [0, [], 0]


def test_what_is_followed_is_what_there_is(client, pushed, site):
    page = client("t", "n")
    wait(lambda: page.evaluate("seen.rows.size") > 20)

    def same():
        shown = rows(page)
        return shown == site.values("pushed", "n", "--start", "1", "--end", str(max(shown) + 1e-6))

    wait(same)
    assert page.evaluate("[seen.twice, seen.gaps, seen.without, seen.problems]") == [0, [], 0, []]


def test_a_node_that_is_killed_and_comes_back_leaves_no_hole(client, pushed, site):
    page = client("t", "n")
    wait(lambda: page.evaluate("seen.rows.size") > 5)
    pushed.kill()
    pushed.wait()
    before = page.evaluate("seen.rows.size")
    again = site.node("pushed:Pushed")
    try:
        wait(lambda: page.evaluate("seen.rows.size") > before + 10)

        def same():
            shown = rows(page)
            return shown == site.values("pushed", "n", "--start", "1", "--end", str(max(shown) + 1e-6))

        wait(same)
        assert page.evaluate("[seen.twice, seen.gaps]") == [0, []]
    finally:
        again.kill()
        again.wait()


def test_a_call_that_is_given_up_leaves_the_session_as_it_is(client, pushed):
    page = client("long", "past")
    wait(lambda: page.evaluate("seen.position"))
    page.evaluate(
        """async () => {
            window.states = [];
            connection.states.add(({ kind }) => states.push(kind));
            for (let i = 0; i < 20; i++) {
                seen.following.stop();
                seen.rows.clear();
                begin();
                await new Promise((resolve) => setTimeout(resolve, 10 * i));
            }
        }"""
    )
    wait(lambda: page.evaluate("seen.rows.size") == ROWS)
    assert page.evaluate("[states, seen.problems, seen.twice]") == [[], [], 0]
