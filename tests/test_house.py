"""The house: its layers, its public names, and that whatever is public is documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

import sisock
import sisock.grafana_bridge
import sisock.nodes
import sisock.testing
from sisock import errors, uris
from sisock.cli import sisock as program

CHECKOUT = Path(__file__).parent.parent

# From the ground up; a module imports only from its own layer and those below.
LAYERS = {
    "words": ("errors", "uris", "times"),
    "data": (
        "arrow",
        "beside",
        "blocks",
        "downsample",
        "fields",
        "foreign",
        "live",
        "positions",
        "requests",
        "splice",
        "windows",
    ),
    "keeping": (
        "audit",
        "certificates",
        "credentials",
        "files",
        "history",
        "recording",
        "resolution",
        "rules",
        "store",
        "throttle",
        "tokens",
        "users",
    ),
    "talking": (
        "answering",
        "asking",
        "authorization",
        "base",
        "consumer",
        "doors",
        "faces",
        "metrics",
        "home",
        "followed",
        "following",
        "gaps",
        "http",
        "hub",
        "intake",
        "retention",
        "learning",
        "line",
        "naming",
        "newest",
        "node",
        "openapi",
        "paging",
        "plainlog",
        "plugins",
        "listening",
        "polling",
        "publishing",
        "refusals",
        "replaying",
        "router",
        "seen",
        "serving",
        "session",
        "streamed",
        "streaming",
        "settings",
        "trace",
        "watching",
        "ways_in",
        "wire_errors",
    ),
    "faces": ("__main__", "aio", "cli", "client", "plotting", "site", "testing"),
}
NEVER = {
    "words": {"twisted", "autobahn", "numpy.ma"},
    "data": {"twisted", "autobahn", "os"},
    "keeping": {"autobahn"},
    "talking": set(),
    "faces": set(),
}
ORDER = list(LAYERS)


def layer_of(module):
    first = module.split(".")[1] if "." in module else ""
    return next((layer for layer, names in LAYERS.items() if first in names), None)


def modules(package):
    yield package.__name__
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield info.name


def file_of(name):
    return Path(importlib.util.find_spec(name).origin)


def imports(name):
    """Modules that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(file_of(name).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


PACKAGES = (sisock, sisock.nodes, sisock.grafana_bridge)
OURS = sorted({name for package in PACKAGES for name in modules(package) if not name.startswith("sisock.crossbar")})


@pytest.mark.parametrize("name", OURS)
def test_a_module_imports_only_downwards(name):
    outside = {"nodes", "grafana_bridge"}
    part = name.split(".")[1] if "." in name else ""
    if not part:
        return
    for imported in imports(name):
        target = imported.split(".")[1] if imported.startswith("sisock.") else None
        if part in outside:
            other = outside - {part}
            assert target not in other, f"{name} imports {imported}"
            continue
        layer = layer_of(name)
        assert layer, f"{name} stands in no layer: name it in LAYERS"
        assert target not in outside, f"{name} imports {imported}"
        if target and (below := layer_of(imported)):
            assert ORDER.index(below) <= ORDER.index(layer), f"{name} ({layer}) imports {imported} ({below})"
        assert imported.split(".")[0] not in NEVER[layer], f"{name} ({layer}) imports {imported}"


@pytest.mark.parametrize("name", [n for n in OURS if n.startswith("sisock.nodes.") and n.endswith(".source")])
def test_a_source_knows_no_twisted_and_no_router(name):
    assert not {i.split(".")[0] for i in imports(name)} & {"twisted", "autobahn", "klein", "crossbar"}


def test_the_public_names():
    new = ["Catalogue", "DataNode", "Field", "Gap", "SisockError", "Timeline", "aio", "connect", "errors"]
    old = ["BASE_URI", "DataNodeServer", "OCS_PORT", "REALM", "SISOCK_HOST", "SISOCK_PORT", "WAMP_SECRET", "WAMP_URI"]
    old += ["WAMP_USER", "base", "data_node_server", "sisock_to_unix_time", "uri"]
    assert sorted(sisock.__all__) == sorted([*new, *old])
    assert sisock.testing.__all__ == ["Link", "NodeContract", "Router", "stopped"]
    for name in sisock.__all__:
        assert getattr(sisock, name) is not None
    assert dir(sisock) == sorted(sisock.__all__)
    assert not hasattr(sisock, "nothing")


def test_importing_sisock_pulls_in_nothing_heavy():
    heavy = ("twisted", "autobahn", "numpy", "pyarrow", "pandas", "xarray", "matplotlib", "crossbar", "click", "rich")
    code = f"import sys, sisock; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_no_module_imports_the_reactor():
    """Whoever imports the reactor at import time chooses it for everybody."""
    for name in OURS:
        tree = ast.parse(file_of(name).read_text())
        top = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        assert not [n for n in top if n.module == "twisted.internet" and any(a.name == "reactor" for a in n.names)], name


def public(module):
    for name, thing in vars(module).items():
        ours = not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__
        if ours and (inspect.isclass(thing) or inspect.isfunction(thing)):
            yield f"{module.__name__}.{name}", thing


@pytest.mark.parametrize("name", [name for name in OURS if not name.endswith(("__main__", "migrations.env"))])
def test_whatever_is_public_has_a_docstring_that_begins_with_a_sentence(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} does not say what it is"
    for full, thing in public(module):
        things = [(full, thing)]
        if inspect.isclass(thing):
            members = [(f"{full}.{n}", m) for n, m in vars(thing).items() if not n.startswith("_")]
            things += [(n, m.fget if isinstance(m, property) else getattr(m, "__func__", m)) for n, m in members]
        for where, what in things:
            if inspect.isclass(what) or inspect.isfunction(what):
                text = inspect.getdoc(what) or (inspect.getdoc(getattr(thing, what.__name__, None)) or "")
                assert re.match(r"[^\n]+(\n[^\n]+)*?[.:;?]", text), f"{where} has no sentence"


def commands(group, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        yield " ".join((*path, name)), command


@pytest.mark.parametrize(("name", "command"), list(commands(program)), ids=str)
def test_every_command_and_option_is_documented(name, command):
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help or parameter.name == "form", f"{name} {parameter.name}"
    assert f"sisock {name}" in (CHECKOUT / "README.md").read_text(), f"the README does not name sisock {name}"


def test_every_procedure_setting_node_and_error_is_documented():
    readme = (CHECKOUT / "README.md").read_text()
    roles = (CHECKOUT / ".crossbar" / "README.md").read_text()
    for full in (
        uris.ADD,
        uris.SUBTRACT,
        uris.CLAIM,
        uris.WATCHED,
        uris.CORRECTED,
        uris.FIGURES,
        uris.GET_DATA_NODE,
        uris.ADDED,
        uris.SUBTRACTED,
    ):
        assert full.removeprefix(f"{uris.BASE_URI}.") in readme
    for name in re.findall(r'environ(?:, |\.get\()"([A-Z_]+)"', (CHECKOUT / "sisock" / "settings.py").read_text()):
        assert f"`{name}`" in readme, name
    for entry in entry_points(group="sisock.nodes"):
        assert f"`{entry.name}`" in readme
        assert (CHECKOUT / "nodes" / entry.name / "README.md").exists()
    for role in ("hub", "node", "consumer", "server", "anonymous"):
        assert f"`{role}`" in roles
    page = errors.__doc__
    for error in errors.BY_URI.values():
        assert error.__name__ in page, f"the tree does not show {error.__name__}"


def test_nothing_public_is_missing_from_the_changelog_and_licence():
    assert "## " in (CHECKOUT / "CHANGELOG.md").read_text()
    assert "BSD 2-Clause" in (CHECKOUT / "LICENSE").read_text()


def test_every_dependency_is_named_with_its_reason():
    import tomllib

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    reasons = (CHECKOUT / "CONTRIBUTING.md").read_text()
    extras = [one for group in project["project"]["optional-dependencies"].values() for one in group]
    for requirement in [*project["project"]["dependencies"], *extras, *project["dependency-groups"]["dev"]]:
        name = re.match(r"[A-Za-z0-9-]+", requirement)[0]
        assert f"`{name}`" in reasons, f"CONTRIBUTING does not say what {name} is for"
