"""The page as its reader meets it, held against what the command line reads."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import HERE, SHOWN, wait
from playwright.sync_api import expect

AXE = HERE.parent.parent / "js" / "node_modules" / "axe-core" / "axe.min.js"
DAY = "1500508800..1500595200"


@pytest.fixture
def probe(site):
    """Starts the node `probe` or another one, as often as it is called; each is killed at the end."""
    started = []

    def start(name="probe:Probe"):
        started.append(site.node(name))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_archived_rows_are_those_that_the_command_line_reads(window, site):
    window.open(f"node=apex_archive&field=apex_temperature&range={DAY}")
    read = site.values("apex_archive", "apex_temperature", "--start", "1500508800", "--end", "1500595200")
    assert len(read) > 20
    shown = {t: row["apex_temperature"] for t, row in window.rows()}
    assert shown == dict(sorted(read.items())[-20:])


def test_live_values_are_those_that_the_command_line_reads(window, site):
    window.open("node=sensors&field=memory_percent&range=5m")
    expect(window.legend("memory_percent")).to_contain_text("live")
    first = window.rows()[0][0]
    shown = wait(lambda: [(t, row["memory_percent"]) for t, row in window.rows() if t > first][1:])
    read = site.values("sensors", "memory_percent", "--start", str(first))
    assert all(read[t] == value for t, value in shown)
    t, value = window.newest("memory_percent")
    assert site.values("sensors", "memory_percent", "--start", str(t))[t] == float(value)


def test_the_list_shows_what_the_nodes_offer(window, site):
    window.open("node=sensors")
    offered = site.sisock("fields", "sensors", "--json")["fields"]
    for name, spec in offered.items():
        expect(window.field(name)).to_contain_text(spec["description"])
        if spec["units"] in ("%", "s"):
            expect(window.field(name).locator(".units")).to_have_text(f" {spec['units']}")
    expect(window.field("cpu_load")).to_contain_text("t, every 2.5 s")
    for node in site.sisock("ls", "--json"):
        expect(window.node(node["name"])).to_contain_text(node["description"])


def test_whoever_comes_without_a_wish_sees_something_move(window):
    window.open()
    expect(window.node("sensors")).to_have_attribute("aria-current", "page")
    expect(window.legend("cpu_load")).to_contain_text("live")
    expect(window.page.get_by_role("button", name="5 m")).to_have_attribute("aria-pressed", "true")


def test_history_alone_is_shown_whole(window):
    window.open()
    window.node("apex_archive").click()
    expect(window.page.get_by_role("button", name="all there is")).to_have_attribute("aria-pressed", "true")
    expect(window.legend("apex_humidity")).to_contain_text("years ago")
    window.page.get_by_role("button", name="1 h").click()
    expect(window.legend("apex_humidity")).to_contain_text("no rows in this time")


def test_a_node_that_is_killed_disappears_and_started_again_goes_on(windows, probe):
    beside, window = windows().open("node=sensors"), windows().open("node=probe&field=level")
    expect(window.page.locator(".notice")).to_contain_text("opens by itself when it comes")
    first = probe()
    expect(beside.node("probe")).to_contain_text("Counts what it samples.")
    expect(window.legend("level")).to_contain_text("live")
    before = wait(lambda: len(window.rows()) >= 4 and window.rows())
    window.page.evaluate("window.never = 'reloaded'")

    first.kill()
    expect(window.page.locator(".notice")).to_contain_text("probe left at")
    expect(window.node("probe")).to_contain_text("not here now")
    expect(window.legend("level")).to_contain_text("stopped: the node left")
    expect(beside.node("probe")).to_have_count(0)
    last = window.rows()[0][0]

    probe()
    expect(beside.node("probe")).to_be_visible()
    expect(window.legend("level")).to_contain_text("live")
    after = wait(lambda: [t for t, _ in window.rows() if t > last + 0.4][2:])
    times = [t for t, _ in window.rows()]
    assert min(after) > last
    # Where figures are full of what came since, the older ones are not to be seen.
    oldest = min(times) if len(times) == SHOWN else 0
    assert {t for t, _ in before[1:] if t >= oldest} <= set(times), "the line lost what it had"
    expect(window.page.locator(".notice")).to_have_count(0)
    assert window.page.evaluate("window.never") == "reloaded"
    wait(lambda: window.holds_all("probe", "level", min(times)))


def test_rows_are_on_the_page_as_they_come(window, probe):
    probe("pushed:Pushed")
    window.open("node=pushed&field=n&field=note&range=5m")
    expect(window.legend("n")).to_contain_text("live")
    # Whoever asked each minute, or each second, would see several rows at once.
    seen = window.page.evaluate(
        """() => new Promise((resolve) => {
            const value = () => document.querySelector('.fields li[data-field="note"] .value').textContent;
            const seen = [value()];
            new MutationObserver(() => {
                if (seen.at(-1) !== value()) seen.push(value());
                if (seen.length > 8) resolve(seen);
            }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
        })"""
    )
    # The first may be of an earlier start of the node, which counts anew. A page on a busy machine may draw two rows at once.
    numbers = [int(note.removeprefix("row ")) for note in seen[1:]]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] - numbers[0] < 2 * len(numbers)


def test_late_rows_and_corrections_replace_what_was_shown(window, probe):
    probe("pushed:Pushed")
    window.open("node=pushed&field=n&range=5m")
    wait(lambda: sum(row["n"] < 0 for _, row in window.rows()) >= 2)
    assert any(row["n"] % 1 for _, row in window.rows())
    wait(lambda: window.holds_all("pushed", "n", window.rows()[-1][0]))


def test_a_stopped_router_is_told_in_words_and_the_page_goes_on(window, site):
    window.open("node=sensors&field=cpu_load")
    expect(window.legend("cpu_load")).to_contain_text("live")
    status = window.page.locator(".status")
    expect(status).to_have_text("Connected")
    t, _ = window.newest("cpu_load")
    window.page.evaluate("window.never = 'reloaded'")
    router = psutil.Process(site.run["pids"]["router"])
    for process in (router, *router.children(recursive=True)):
        # A child ends by itself as soon as its parent is gone.
        with suppress(psutil.NoSuchProcess):
            process.kill()
    expect(status).to_contain_text("The router is away.")
    expect(status).to_contain_text(re.compile(r"Trying again( in \d+ s\.| …)"))
    expect(window.legend("cpu_load")).to_contain_text("stopped: no connection")
    expect(status).to_have_text("Connected")
    expect(window.legend("cpu_load")).to_contain_text("live")
    wait(lambda: window.newest("cpu_load")[0] > t)
    assert window.page.evaluate("window.never") == "reloaded"
    # The node went on while the router was away: the line has those rows, too.
    wait(lambda: window.holds_all("sensors", "cpu_load", t))
    # What Chromium itself says of a server that is not there.
    window.errors[:] = [error for error in window.errors if "WebSocket connection to" not in error]


def test_the_token_is_gone_from_the_address_and_holds_for_this_tab(windows, site):
    window = windows().open("node=sensors&field=cpu_load&range=1h")
    expect(window.legend("cpu_load")).to_be_visible()
    secret = site.token.split(":")[1]
    assert window.page.url == f"{site.page}#node=sensors&field=cpu_load&range=1h"
    window.node("apex_archive").click()
    expect(window.legend("apex_humidity")).to_be_visible()
    assert secret not in window.page.url
    window.page.go_back()
    expect(window.legend("cpu_load")).to_be_visible()
    assert window.page.url.endswith("#node=sensors&field=cpu_load&range=1h")
    window.page.reload()
    expect(window.legend("cpu_load")).to_contain_text("live")
    assert secret not in window.page.evaluate("JSON.stringify(localStorage) + document.cookie")
    shared = windows()
    shared.page.goto(window.page.url)
    expect(shared.page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_wrong_secret_says_so_and_the_right_one_lets_in(window, site):
    window.page.goto(f"{site.page}#token=page:wrong&node=sensors")
    expect(window.page.get_by_role("alert")).to_contain_text("refused this user or secret")
    assert "wrong" not in window.page.url
    assert window.page.evaluate("sessionStorage.length") == 0
    user = site.run["consumer"]
    window.page.get_by_label("User").fill(user["authid"])
    window.page.get_by_label("Secret").fill(user["secret"])
    window.page.keyboard.press("Enter")
    expect(window.page.get_by_role("heading", name="sensors")).to_be_visible()
    window.page.get_by_role("button", name="Sign out").click()
    expect(window.page.get_by_role("heading", name="Sign in")).to_be_visible()
    window.page.reload()
    expect(window.page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_zoom_asks_for_all_that_is_there(window, site):
    window.open("node=apex_archive&field=apex_windspeed&range=all")
    window.rows()
    thinned = window.page.locator("details.rows .quiet")
    expect(thinned).to_contain_text("among them every extreme")
    box = window.page.locator(".u-over").bounding_box()
    y = box["y"] + box["height"] / 2
    window.page.mouse.move(box["x"] + box["width"] * 0.5, y)
    window.page.mouse.down()
    window.page.mouse.move(box["x"] + box["width"] * 0.52, y, steps=4)
    window.page.mouse.up()
    expect(thinned).to_have_count(0)
    start, end = (float(t) for t in re.search(r"range=([\d.]+)\.\.([\d.]+)", window.page.url).groups())
    read = site.values("apex_archive", "apex_windspeed", "--start", str(start), "--end", str(end))
    shown = {t: row["apex_windspeed"] for t, row in window.rows()}
    assert shown == dict(sorted(read.items())[-20:])
    window.page.mouse.dblclick(box["x"] + box["width"] / 2, y)
    expect(thinned).to_be_visible()
    assert window.page.url.endswith("range=all")


def test_the_keys_move_a_plot(window):
    window.open(f"node=apex_archive&field=apex_temperature&range={DAY}")
    window.page.get_by_role("application").focus()
    window.page.keyboard.press("+")
    expect(window.page).to_have_url(re.compile(r"range=1500530400\.\.1500573600$"))
    window.page.keyboard.press("ArrowRight")
    expect(window.page).to_have_url(re.compile(r"range=1500541200\.\.1500584400$"))
    window.page.keyboard.press("Escape")
    expect(window.page).to_have_url(re.compile(r"field=apex_temperature$"))


def test_every_type_has_its_form(window, probe):
    probe()
    window.open("node=probe&field=level&field=valve&field=note&field=holes")
    expect(window.legend("valve")).to_contain_text(re.compile("true|false"))
    expect(window.page.locator(".panel")).to_have_count(2)
    rows = wait(lambda: len(window.rows()) > 15 and window.rows())
    assert {type(row["level"]) for _, row in rows} <= {float, int}
    assert {row["valve"] for _, row in rows} == {True, False}
    assert {row["note"] for _, row in rows} == {"<b>bold</b>"}
    assert {row["holes"] for _, row in rows} == {1, None}
    assert window.page.locator("td b").count() == 0


def test_a_node_that_is_there_but_gives_no_rows_is_told_with_where_to_look(window, site):
    mute = site.node("probe:Mute")
    try:
        window.open("node=mute")
        notice = window.page.locator(".notice")
        expect(notice).to_contain_text("mute is here, but has given no rows yet.")
        expect(notice).to_contain_text("sisock doctor")
        expect(window.legend("level")).to_contain_text("no rows yet")
        window.node("sensors").click()
        expect(window.legend("cpu_load")).to_contain_text("live")
        expect(notice).to_have_count(0)
    finally:
        mute.kill()
        mute.wait()


def test_a_node_of_the_old_kind_is_shown_as_well(window, site):
    run = site.run
    old = site.start(sys.executable, str(HERE / "old_node.py"), run["ws"], run["server"]["secret"])
    try:
        window.open("node=old&field=voltage")
        expect(window.legend("voltage")).to_contain_text("V")
        assert window.rows()[0] == [1_500_005_940, {"voltage": 1_500_005_940 % 7}]
        expect(window.page.get_by_role("button", name="all there is")).to_have_attribute("aria-pressed", "true")
    finally:
        old.kill()
        old.wait()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_is_accessible_and_fits(windows, width, scheme):
    # The audit is a script that the page's own policy would not let in.
    window = windows(viewport={"width": width, "height": 740}, color_scheme=scheme, bypass_csp=True)
    for view in ("", "node=sensors&field=cpu_load&field=memory_used", "node=nobody"):
        window.open(view)
        expect(window.page.get_by_role("heading", level=1)).to_be_visible()
        if "field" in view:
            expect(window.legend("memory_used")).to_contain_text("live")
            window.rows()
        # A plot is drawn anew when its place has its size, so what is looked at is what it comes to.
        wait(lambda: window.page.evaluate("document.documentElement.scrollWidth") <= width)
        wait(lambda: audit(window.page) == [])
    window.page.get_by_role("button", name="Sign out").click()
    expect(window.page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert audit(window.page) == []


def audit(page):
    page.evaluate(Path(AXE).read_text())
    found = page.evaluate("axe.run()")["violations"]
    return [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found]
