"""Names on the wire: no node can reach another's URIs."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sisock import uris
from sisock.errors import InvalidArgument
from tests.unit.strategies import anything, many, text

CONSUMER = "org.simonsobservatory.consumer."
RESERVED = ["data", "get_data", "get_fields", "latest"]

parts = st.text(st.sampled_from("aAz9_-~%ü°µ語:/@"), min_size=1, max_size=5)
names = st.lists(parts, min_size=1, max_size=3).map(".".join).filter(uris.is_node_name)
timelines = text.filter(bool) | st.sampled_from(
    ["t", "a.b", "get_fields", "latest", "data", "data.t", "%2E", "observatory.x.y"]
)


def all_of(node, timeline="t"):
    return {
        uris.get_fields(node): (node, "get_fields"),
        uris.get_data(node): (node, "get_data"),
        uris.latest(node): (node, "latest"),
        uris.live(node, timeline): (node, f"data.{uris.escape(timeline)}"),
        uris.live_prefix(node): (node, "data."),
    }


def test_the_words_of_the_contract():
    assert uris.ADD == "org.simonsobservatory.data_node.add"
    assert uris.SUBTRACT == "org.simonsobservatory.data_node.subtract"
    assert uris.GET_DATA_NODE == "org.simonsobservatory.consumer.get_data_node"
    assert uris.ADDED == "org.simonsobservatory.consumer.data_node_added"
    assert uris.SUBTRACTED == "org.simonsobservatory.consumer.data_node_subtracted"
    assert uris.get_fields("roof") == CONSUMER + "roof.get_fields"
    assert uris.get_data("Roof.air") == CONSUMER + "Roof.air.get_data"
    assert uris.latest("roof") == CONSUMER + "roof.latest"
    assert uris.live("roof", "obs.LAT.x") == CONSUMER + "roof.data.obs%2ELAT%2Ex"


@many
@given(names, timelines)
def test_a_nodes_uris_tell_the_node(node, timeline):
    for uri, meaning in all_of(node, timeline).items():
        assert uris.parse_consumer(uri) == meaning


@many
@given(names, parts, timelines, timelines)
def test_a_node_never_reaches_into_one_whose_name_is_longer(node, more, one, another):
    longer = f"{node}.{more}"
    assume(uris.is_node_name(longer))
    mine, theirs = all_of(node, one), all_of(longer, another)
    assert not mine.keys() & theirs.keys()
    assert not any(uri.startswith(uris.live_prefix(node)) for uri in theirs)
    assert not any(uri.startswith(uris.live_prefix(longer)) for uri in mine)


def test_every_uri_has_one_meaning():
    """Whatever is put together from the words: what is parsed gives the same URI again, and the name is a node's."""
    words = ["roof", "air", "data", "get_data", "get_fields", "latest", "", "a b", "get_data_node"]
    for length in range(1, 5):
        for chosen in product(words, repeat=length):
            full = CONSUMER + ".".join(chosen)
            meaning = uris.parse_consumer(full)
            if meaning is not None:
                name, what = meaning
                assert f"{CONSUMER}{name}.{what}" == full
                assert uris.is_node_name(name)
                assert what in ("get_fields", "get_data", "latest") or what.startswith("data.")
                assert what.count(".") == what.startswith("data.")


@many
@given(
    text | st.sampled_from([uris.ADD, uris.GET_DATA_NODE, uris.ADDED, CONSUMER, CONSUMER + "roof.data", "wamp.session.count"])
)
def test_other_uris_have_none(full):
    assume(not full.startswith(CONSUMER + "."))
    meaning = uris.parse_consumer(full)
    assert meaning is None or full.startswith(CONSUMER)
    assert full not in (uris.ADD, uris.GET_DATA_NODE, uris.ADDED) or meaning is None


@many
@given(timelines, timelines)
def test_an_escaped_timeline_is_one_component_of_its_own(one, another):
    escaped = uris.escape(one)
    assert re.fullmatch(r"([A-Za-z0-9_-]|%[0-9A-F]{2})+", escaped)
    assert (escaped == uris.escape(another)) == (one == another)


@pytest.mark.parametrize(
    "name", ["roof", "roof.air", "apex_archive", "Roof", "a-b", "data_feed", "data2.x", "münchen", "x" * 255, "get_data_node"]
)
def test_names_that_a_node_may_have(name):
    assert uris.is_node_name(name)
    assert uris.check_node_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "a.", ".a", "a..b", "a b", "a#b", "a\nb", "a\x00", "a\x85", "a\x9b1", "a\n", "x" * 256, "ü" * 128, "a\ud800"]
    + RESERVED
    + [f"{word}.a" for word in RESERVED]
    + [f"a.{word}" for word in RESERVED],
)
def test_names_that_no_node_may_have(name):
    assert not uris.is_node_name(name)
    with pytest.raises(InvalidArgument, match="cannot be a node's name"):
        uris.check_node_name(name)


@pytest.mark.parametrize("name", ["t", "x" * 255, "語" * 255, "a.b c#d", "%", " "])
def test_names_of_fields(name):
    assert uris.check_field_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 256, "a\n", "\x00", "\x7f", "\x9b1m", "a\ud800", None, 5, b"a", ["a"]])
def test_names_that_no_field_may_have(name):
    with pytest.raises(InvalidArgument, match="cannot be a timeline's name"):
        uris.check_field_name(name, "timeline")


@many
@given(anything)
def test_any_name_is_taken_or_refused(name):
    for check in (uris.check_node_name, uris.check_field_name):
        try:
            assert check(name) == name
        except InvalidArgument as error:
            assert len(str(error)) < 400


def test_what_stands_for_itself_in_a_timelines_component():
    """A client in another language has to come to the same topic."""
    everything = "".join(map(chr, range(32, 127)))
    kept = {char for char in everything if uris.escape(char) == char}
    assert kept == set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
    assert uris.escape("obs.LAT ü~/") == "obs%2ELAT%20%C3%BC%7E%2F"
