"""A real site and a real browser: `sisock up` as a process, Chromium driven by Playwright."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

# What a shell starts in the background ignores Ctrl-C, and so would its children; these are stopped by it.
signal.signal(signal.SIGINT, signal.default_int_handler)
HERE = Path(__file__).parent
SISOCK = str(Path(sys.executable).with_name("sisock"))
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
PATIENCE = 60
# How many rows in figures the page shows at most.
SHOWN = 20
# Nothing that looks for the network or for a screen.
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
FOREIGN = ("SISOCK_HOME", "CROSSBAR_HOST", "CROSSBAR_TLS_PORT", "CROSSBAR_OCS_PORT", "WAMP_USER", "WAMP_SECRET", "PORT")


expect.set_options(timeout=PATIENCE * 1000)


def wait(condition, seconds=PATIENCE):
    """Waits until a condition holds and answers what it gave."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {condition}")


class Site:
    """`sisock up` on free ports in a home of its own."""

    def __init__(self, home):
        self.home = Path(home)
        clean = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        self.env = {**clean, "SISOCK_HOME": str(home), "HOME": str(home), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [SISOCK, "up", "--ports", "auto", "--no-open"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.env,
        )
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.address = re.search(r"page (\S+?),? ", line)[1]
        self.page, self.token = self.address.split("#token=")

    @property
    def run(self):
        return json.loads((self.home / "run.json").read_text())

    def sisock(self, *args):
        return json.loads(subprocess.check_output([SISOCK, *args], text=True, env=self.env, timeout=60))

    def values(self, node, field, *options):
        """What `sisock get` reads: times and values that are not null."""
        answer = self.sisock("get", node, field, "--format", "json", *options)
        ((_, line),) = answer["timeline"].items()
        return {t: value for t, value in zip(line["t"], answer["data"][field], strict=True) if value is not None}

    def start(self, *command):
        """A program beside the site; `kill` it."""
        return subprocess.Popen(command, env=self.env, cwd=HERE, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def node(self, name):
        return self.start(SISOCK, "run", name)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=30)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    started = Site(tmp_path_factory.mktemp("site"))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def chromium():
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium: apt-get install chromium")
        pytest.skip("there is no Chromium: apt-get install chromium, or name yours in CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


class Window:
    """A window of a browser that knows nothing yet; what its console says is kept."""

    def __init__(self, chromium, site, **options):
        self.site = site
        self.context = chromium.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
        self.context.set_default_timeout(PATIENCE * 1000)
        self.page = self.context.new_page()
        self.errors = []
        self.hosts = set()
        self.page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))

    def open(self, view="", *, token=True):
        """Opens the page as `sisock up` prints it, with a view in its address."""
        fragment = "&".join(part for part in (f"token={self.site.token}" if token else "", view) if part)
        self.page.goto(f"{self.site.page}#{fragment}")
        return self

    def node(self, name):
        """The node's entry in the list."""
        return self.page.get_by_role("navigation").get_by_role("button", name=name)

    def field(self, name):
        """The field's row in the list."""
        return self.page.locator(f'.fields li[data-field="{name}"]')

    def newest(self, name):
        """Time and value of a field as the list has them at one moment; None before there is one."""
        shown = self.field(name).locator(".value")
        return shown.evaluate("(value) => value.dataset.t && [Number(value.dataset.t), value.querySelector('span').title]")

    def legend(self, name):
        return self.page.locator(".legend li", has_text=name)

    def rows(self):
        """The rows in figures, newest first: (time, {field: value})."""
        if not self.page.locator("details.rows").get_attribute("open") is not None:
            self.page.locator("details.rows summary").click()
        self.page.locator("details.rows tbody tr").first.wait_for()
        return self.page.evaluate(
            """() => {
                const table = document.querySelector("details.rows table");
                const fields = [...table.querySelectorAll("thead th")].slice(1).map((th) => th.firstChild.textContent);
                return [...table.querySelectorAll("tbody tr")].map((tr) => [
                    Number(tr.querySelector("th").dataset.t),
                    Object.fromEntries(
                        [...tr.querySelectorAll("td")].map((td, i) => [fields[i], JSON.parse(td.dataset.value)]),
                    ),
                ]);
            }"""
        )

    def holds_all(self, node, field, since):
        """Whether the rows in figures from a time on are those that the command line reads, all of them and no others.

        Where more came since than figures have room for, it goes by the rows that they show.
        """
        rows = self.rows()
        if len(rows) == SHOWN:
            since = max(since, rows[-1][0])
        shown = {t: row[field] for t, row in rows if t >= since and row[field] is not None}
        end = max(shown, default=since)
        read = self.site.values(node, field, "--start", str(since), "--end", str(end + 1e-6))
        return bool(shown) and shown == read

    def close(self):
        self.context.close()


@pytest.fixture
def windows(chromium, site):
    """Makes windows. At the end none of them has said an error, or asked anybody but the site."""
    made = []

    def make(**options):
        made.append(Window(chromium, site, **options))
        return made[-1]

    yield make
    for window in made:
        window.close()
    for window in made:
        assert window.errors == []
        assert window.hosts <= {site.page.split("/")[2]}


@pytest.fixture
def window(windows):
    return windows()
