"""The sensors node, on this machine and on probes of its own."""

import math
import re
from dataclasses import dataclass

import psutil
import pytest

from sisock.nodes.sensors import Sensors
from sisock.nodes.sensors.source import Host, Quantity, Rate, busy, distinct, normalised, of_battery, of_chips

EVERYWHERE = {
    *("cpu_load", "cpu_load_0", "load_1", "load_5", "load_15", "memory_used", "memory_available", "memory_percent"),
    *("swap_used", "disk_used", "disk_free", "disk_percent", "uptime", "processes"),
}
RATES = {"disk_read", "disk_write", "net_received", "net_sent"}


@dataclass
class Feature:
    """As psutil's own tuples of temperatures and fans."""

    label: str
    current: float | None


def node_of(**probes) -> Sensors:
    node = Sensors()
    node.host = Host(lambda: probes)
    return node


def test_this_machine():
    node = Sensors()
    assert (node.name, node.description) == ("sensors", "The results of the UNIX 'sensors' command.")
    assert node.max_rows >= 1800
    node.start()
    fields, timelines = node.get_fields(1, None).to_wire()
    assert set(fields) >= EVERYWHERE
    assert set(timelines) == {"t"}
    assert timelines["t"]["interval"] == 2.5
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in fields)
    assert all(spec["description"] and spec["type"] == "number" for spec in fields.values())
    unitless = {name for name, spec in fields.items() if spec["units"] is None}
    assert unitless <= {"load_1", "load_5", "load_15", "processes", "battery_plugged"}
    first = node.sample()
    assert all(first[name] is None for name in (RATES | {"cpu_load"}) & set(first))
    node.take_sample()
    node.take_sample()
    reply = node.get_data(sorted(fields), 1, None)
    t = reply["timeline"]["t"]
    assert len(t["t"]) == 2
    assert t["finalized_until"] == pytest.approx(t["t"][-1] - 10, abs=1e-5)
    assert reply["data"]["memory_used"][0] > 0
    assert 0 < reply["data"]["disk_percent"][0] <= 100
    assert reply["data"]["processes"][0] >= 1
    # Between two samples of the same moment the kernel's counters stand still, and a load is null.
    while not node.get_data(["cpu_load_0"], 1, None)["data"]["cpu_load_0"]:
        node.take_sample()
    for name in RATES & set(fields):
        assert all(value is None or value >= 0 for value in reply["data"][name])
    assert not node.faults


def test_the_cpu_is_measured_from_one_sample_to_the_next():
    host = Host()
    host.read()
    before = psutil.cpu_times(percpu=True)
    # Until the kernel's counters of every core have moved.
    while any(sum(now) <= sum(then) for now, then in zip(psutil.cpu_times(percpu=True), before, strict=True)):
        pass
    values = {q.name: q.value for q in host.read().quantities}
    cores = [values[f"cpu_load_{number}"] for number in range(len(before))]
    assert all(0 <= value <= 100 for value in cores)
    assert min(cores) - 1e-9 <= values["cpu_load"] <= max(cores) + 1e-9


def test_a_failing_probe_is_null_and_counted_and_does_not_stop_the_others(caplog):
    state = {"works": True}

    def shaky():
        if not state["works"]:
            raise OSError("the bus is stuck")
        return [Quantity("shaky", 1.0, "C", "A shaky sensor")]

    node = node_of(shaky=shaky, steady=lambda: [Quantity("steady", 2.0, None, "A steady one")])
    node.start()
    assert node.sample() == {"shaky": 1.0, "steady": 2.0}
    state["works"] = False
    node.take_sample()
    assert node.sample() == {"shaky": None, "steady": 2.0}
    assert node.faults == {"shaky": 2}
    assert (node.health.errors, node.health.last_error) == (2, "shaky: OSError: the bus is stuck")
    assert len(caplog.messages) == 1
    state["works"] = True
    node.take_sample()
    assert node.get_data(["shaky"], 1, None)["data"]["shaky"][-1] == 1.0


def test_a_probe_that_never_works_leaves_a_node(caplog):
    def broken():
        raise psutil.AccessDenied

    node = node_of(broken=broken, steady=lambda: [Quantity("steady", 2.0, None, "A steady one")])
    node.start()
    node.take_sample()
    assert list(node.fields) == ["steady"]
    assert node.faults == {"broken": 1}


def test_a_sensor_that_is_plugged_in_becomes_a_field():
    chips = {"k10temp": [Feature("Tctl", 40.0)]}
    node = node_of(temperatures=lambda: of_chips(chips, "temp", "C", "Temperature"))
    node.start()
    node.take_sample()
    chips["usb"] = [Feature("", 21.5)]
    node.take_sample()
    assert set(node.fields) == {"k10temp_tctl", "usb_temp1"}
    assert node.fields["usb_temp1"].labels == {"quantity": "temperature", "chip": "usb", "feature": "temp1"}
    assert node.get_data(["k10temp_tctl", "usb_temp1"], 1, None)["data"] == {
        "k10temp_tctl": [40.0, 40.0],
        "usb_temp1": [None, 21.5],
    }
    del chips["k10temp"]
    node.take_sample()
    assert node.get_data(["k10temp_tctl", "usb_temp1"], 1, None)["data"]["k10temp_tctl"] == [40.0, 40.0, None]


def test_names_of_chips_and_features():
    found = of_chips(
        {
            "coretemp": [Feature("Package id 0", 50.0), Feature("Core 0", 48.0)],
            "ACPI-itz": [Feature("", 27.8)],
            "": [Feature("µ", None)],
        },
        "temp",
        "C",
        "Temperature",
    )
    assert [(q.name, q.value) for q in found] == [
        ("coretemp_package_id_0", 50.0),
        ("coretemp_core_0", 48.0),
        ("acpi_itz_temp1", 27.8),
        ("sensor_sensor", None),
    ]
    assert found[0].description == "Temperature, coretemp Package id 0"
    assert found[0].labels == {"quantity": "temperature", "chip": "coretemp", "feature": "Package id 0"}
    assert of_chips({"nct": [Feature("", math.nan)]}, "fan", "rpm", "Fan speed")[0].value is None
    assert len(normalised("x" * 1000)) == 80


def test_equal_names_get_a_suffix():
    names = [q.name for q in distinct(Quantity(name, 1.0, None, "d") for name in ["a", "a", "a_2", "a", "b"])]
    assert names == ["a", "a_2", "a_2_2", "a_3", "b"]


def test_the_battery():
    @dataclass
    class Battery:
        percent: float
        secsleft: int | None
        power_plugged: bool | None

    def values(battery):
        return [q.value for q in of_battery(battery)]

    assert values(Battery(80.5, 3600, False)) == [80.5, 3600.0, 0.0]
    assert values(Battery(100.0, psutil.POWER_TIME_UNLIMITED, True)) == [100.0, None, 1.0]
    assert values(Battery(50.0, psutil.POWER_TIME_UNKNOWN, None)) == [50.0, None, None]
    assert values(None) == []


def test_rates():
    rate = Rate()
    assert rate.update(10.0, {"eth0": 1000}) is None
    assert rate.update(12.0, {"eth0": 3000}) == 1000.0
    # No time went by, or it ran backwards.
    assert rate.update(12.0, {"eth0": 4000}) is None
    assert rate.update(14.0, {"eth0": 4000}) == 0.0
    # A counter that wrapped, then goes on.
    assert rate.update(16.0, {"eth0": 100}) is None
    assert rate.update(18.0, {"eth0": 300}) == 100.0
    # A link that comes brings its past along, one that goes takes it away.
    assert rate.update(20.0, {"eth0": 500, "usb0": 10**9}) == 100.0
    assert rate.update(22.0, {"usb0": 10**9 + 50}) == 25.0
    assert rate.update(24.0, {}) is None


def test_busy_time_counts_no_guest_twice_and_no_step_back():
    before = {"user": 10.0, "system": 5.0, "idle": 100.0, "iowait": 7.0, "guest": 3.0}
    after = {"user": 12.0, "system": 6.0, "idle": 106.0, "iowait": 6.9, "guest": 5.0}
    assert busy(before, after) == (pytest.approx(3.0), pytest.approx(9.0))
    assert busy(after, after) == (0.0, 0.0)
