"""What a host says of itself: temperatures, fans and battery where the kernel has them, load, memory, disk, network."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import psutil

from sisock.fields import MAX_LABEL

# What psutil and the files it reads are known to raise. A fault of this kind in one probe leaves the others alone.
FAULTS = (OSError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError, RuntimeError, psutil.Error)

# Traffic of the machine with itself.
LOOPBACK = frozenset({"lo", "lo0"})


@dataclass(frozen=True, slots=True)
class Quantity:
    """One value of the host by its field's name; None is unknown at present."""

    name: str
    value: float | None
    units: str | None
    description: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """All quantities at one time, and what went wrong by the probe that failed."""

    quantities: tuple[Quantity, ...]
    faults: Mapping[str, str] = field(default_factory=dict)


Probe = Callable[[], Iterable[Quantity]]


class Host:
    """Reads this host. Rates are those since the read before, so they are None in the first."""

    def __init__(self, make: Callable[[], Mapping[str, Probe]] | None = None) -> None:
        """`make` makes the probes by name; without it, those of this machine."""
        self._make = make or probes
        self._probes = self._make()
        self._found: dict[str, list[Quantity]] = {}

    def survey(self) -> Reading:
        """A reading of what there is that does not count as a read: rates since a moment ago would be worth nothing."""
        return Host(self._make).read()

    def read(self) -> Reading:
        """One value of each quantity. A probe that fails gives None for what it gave before."""
        quantities: list[Quantity] = []
        faults: dict[str, str] = {}
        for name, probe in self._probes.items():
            try:
                self._found[name] = list(probe())
            except FAULTS as error:
                faults[name] = f"{type(error).__name__}: {error}"
                self._found[name] = [replace(quantity, value=None) for quantity in self._found.get(name, [])]
            quantities += self._found[name]
        return Reading(tuple(distinct(quantities)), faults)


def probes() -> dict[str, Probe]:
    """Everything that this machine may have, by the name under which its faults are counted."""
    found: dict[str, Probe] = {
        "cpu": _Cpu(),
        "load": _load,
        "memory": _memory,
        "swap": _swap,
        "disk": _disk,
        "disk traffic": _DiskTraffic(),
        "network": _Network(),
        "uptime": _uptime,
        "processes": _processes,
    }
    # psutil lacks these three on systems that have nothing of the kind.
    if hasattr(psutil, "sensors_temperatures"):
        found["temperatures"] = lambda: of_chips(psutil.sensors_temperatures(), "temp", "C", "Temperature")
    if hasattr(psutil, "sensors_fans"):
        found["fans"] = lambda: of_chips(psutil.sensors_fans(), "fan", "rpm", "Fan speed")
    if hasattr(psutil, "sensors_battery"):
        found["battery"] = lambda: of_battery(psutil.sensors_battery())
    return found


def distinct(quantities: Iterable[Quantity]) -> list[Quantity]:
    """The quantities with names that occur once: the second `a` becomes `a_2`."""
    taken: set[str] = set()
    named: list[Quantity] = []
    for quantity in quantities:
        name, count = quantity.name, 1
        while name in taken:
            count += 1
            name = f"{quantity.name}_{count}"
        taken.add(name)
        named.append(quantity if count == 1 else replace(quantity, name=name))
    return named


def normalised(text: str) -> str:
    """Text as a part of a field's name: of a-z, 0-9 and _, up to 80 characters."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:80] or "sensor"


def of_chips(chips: Mapping[str, Iterable[Any]], kind: str, units: str, description: str) -> list[Quantity]:
    """`<chip>_<feature>` of psutil's temperatures or fans; a feature without a label is `<kind><number>`."""
    quantities: list[Quantity] = []
    for chip, features in chips.items():
        for number, feature in enumerate(features, 1):
            label = feature.label or f"{kind}{number}"
            name = f"{normalised(chip)}_{normalised(label)}"
            labels = {
                "quantity": "temperature" if kind == "temp" else kind,
                "chip": chip[:MAX_LABEL],
                "feature": label[:MAX_LABEL],
            }
            quantities.append(Quantity(name, _finite(feature.current), units, f"{description}, {chip} {label}", labels))
    return quantities


def of_battery(battery: Any) -> list[Quantity]:
    """The battery as psutil reads it; nothing where there is none."""
    if battery is None:
        return []
    # Below 0 stand psutil's words for "on mains" and "unknown".
    left = battery.secsleft if battery.secsleft is not None and battery.secsleft >= 0 else None
    return [
        Quantity("battery_percent", _finite(battery.percent), "%", "Charge of the battery"),
        Quantity("battery_seconds_left", _finite(left), "s", "Time until the battery is empty"),
        # 1 and 0, for plots.
        Quantity("battery_plugged", _finite(battery.power_plugged), None, "1 on mains, 0 on battery"),
    ]


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


class Rate:
    """Change per second of counters that only grow."""

    def __init__(self) -> None:
        self._last: tuple[float, dict[str, float]] | None = None

    def update(self, t: float, counts: Mapping[str, float]) -> float | None:
        """The sum of the counters' growth per second since the update before, at `t` in seconds.

        Only counters that stood in both are summed: one that is plugged in brings its whole past along. None at the
        first update, and when a counter fell, as it does when it wraps or starts again.
        """
        last, self._last = self._last, (t, dict(counts))
        if last is None or t <= last[0]:
            return None
        growth = [count - last[1][name] for name, count in counts.items() if name in last[1]]
        if not growth or min(growth) < 0:
            return None
        return sum(growth) / (t - last[0])


def busy(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[float, float]:
    """Seconds of work and seconds in all between two readings of one CPU's times."""
    # Guests are counted as user time already. Single counters have been seen to step back by a tick.
    spent = {name: max(0.0, after[name] - before.get(name, 0.0)) for name in after if not name.startswith("guest")}
    total = sum(spent.values())
    return total - spent.get("idle", 0.0) - spent.get("iowait", 0.0), total


class _Cpu:
    # psutil's own cpu_percent keeps its last reading for each thread, and a pool samples in any of its threads.
    def __init__(self) -> None:
        self._last: list[dict[str, float]] = []

    def __call__(self) -> list[Quantity]:
        times = [dict(cpu._asdict()) for cpu in psutil.cpu_times(percpu=True)]
        last, self._last = self._last, times
        # Of a CPU that was switched on or off it is not known which one it is.
        spent = [busy(*pair) for pair in zip(last, times, strict=True)] if len(last) == len(times) else []
        whole = (sum(work for work, _ in spent), sum(total for _, total in spent))
        quantities = [Quantity("cpu_load", _percent(*whole), "%", "CPU load of the whole machine")]
        for number in range(len(times)):
            value = _percent(*spent[number]) if spent else None
            labels = {"core": str(number)}
            quantities.append(Quantity(f"cpu_load_{number}", value, "%", f"CPU load of core {number}", labels))
        return quantities


def _percent(part: float, whole: float) -> float | None:
    return min(100.0, max(0.0, 100 * part / whole)) if whole > 0 else None


def _load() -> list[Quantity]:
    minutes = ((1, "1 minute"), (5, "5 minutes"), (15, "15 minutes"))
    return [
        Quantity(f"load_{number}", value, None, f"Processes that run or wait to, mean of {words}")
        for (number, words), value in zip(minutes, psutil.getloadavg(), strict=True)
    ]


def _memory() -> list[Quantity]:
    memory = psutil.virtual_memory()
    return [
        Quantity("memory_used", float(memory.used), "B", "Memory in use"),
        Quantity("memory_available", float(memory.available), "B", "Memory that programs can get without swapping"),
        Quantity("memory_percent", float(memory.percent), "%", "Memory that is not available"),
    ]


def _swap() -> list[Quantity]:
    return [Quantity("swap_used", float(psutil.swap_memory().used), "B", "Swap space in use")]


def _disk() -> list[Quantity]:
    usage = psutil.disk_usage("/")
    return [
        Quantity("disk_used", float(usage.used), "B", "Space in use on the root file system"),
        Quantity("disk_free", float(usage.free), "B", "Space that users can get on the root file system"),
        Quantity("disk_percent", float(usage.percent), "%", "Share of the root file system in use"),
    ]


class _DiskTraffic:
    def __init__(self) -> None:
        self._read, self._written = Rate(), Rate()

    def __call__(self) -> list[Quantity]:
        # The sum of the disks; one by one their partitions would count twice.
        total = psutil.disk_io_counters(nowrap=False)
        if total is None:
            return []
        t = time.monotonic()
        return [
            Quantity("disk_read", self._read.update(t, {"all": total.read_bytes}), "B/s", "Read from all disks"),
            Quantity("disk_write", self._written.update(t, {"all": total.write_bytes}), "B/s", "Written to all disks"),
        ]


class _Network:
    def __init__(self) -> None:
        self._received, self._sent = Rate(), Rate()

    def __call__(self) -> list[Quantity]:
        links = {name: link for name, link in psutil.net_io_counters(pernic=True, nowrap=False).items() if name not in LOOPBACK}
        t = time.monotonic()
        received = self._received.update(t, {name: link.bytes_recv for name, link in links.items()})
        sent = self._sent.update(t, {name: link.bytes_sent for name, link in links.items()})
        return [
            Quantity("net_received", received, "B/s", "Received by all network links but loopback"),
            Quantity("net_sent", sent, "B/s", "Sent by all network links but loopback"),
        ]


def _uptime() -> list[Quantity]:
    return [Quantity("uptime", max(0.0, time.time() - psutil.boot_time()), "s", "Time since the machine started")]


def _processes() -> list[Quantity]:
    return [Quantity("processes", float(len(psutil.pids())), None, "Processes there are")]
