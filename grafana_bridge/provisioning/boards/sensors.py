"""The dashboard of machines."""

from __future__ import annotations

from sisock.grafana_bridge.provisioning.panels import Board, Panel, Query, Variable

_HOST = 'node=~"$node"'

SENSORS = Board(
    "sensors",
    "Machines",
    "What machines say of themselves: the node `sensors`, each 2.5 seconds.",
    rows=(
        (
            Panel(
                "Processor",
                "Load of the whole machine.",
                (Query(f"cpu_load{{{_HOST}}}", "{{node}}"),),
                "%",
                "gauge",
                4,
                5,
                least=0,
                most=100,
                steps=(80, 95),
            ),
            Panel(
                "Memory",
                "Share that programs cannot get without swapping.",
                (Query(f"memory_percent{{{_HOST}}}", "{{node}}"),),
                "%",
                "gauge",
                4,
                5,
                least=0,
                most=100,
                steps=(80, 95),
            ),
            Panel(
                "Disk",
                "Share of the root file system in use.",
                (Query(f"disk_percent{{{_HOST}}}", "{{node}}"),),
                "%",
                "gauge",
                4,
                5,
                least=0,
                most=100,
                steps=(80, 90),
            ),
            Panel(
                "Up for",
                "Time since the machine started.",
                (Query(f"uptime{{{_HOST}}}", "{{node}}"),),
                "s",
                "stat",
                4,
                5,
                decimals=1,
            ),
            Panel("Processes", "Processes there are.", (Query(f"processes{{{_HOST}}}", "{{node}}"),), None, "stat", 4, 5),
            Panel(
                "Room",
                "Space that users can get on the root file system.",
                (Query(f"disk_free{{{_HOST}}}", "{{node}}"),),
                "B",
                "stat",
                4,
                5,
            ),
        ),
        (
            Panel(
                "Processor",
                "The highest of each pixel: the whole machine, and each core.",
                (
                    Query(f"max_over_time(cpu_load{{{_HOST}}}[$__interval])", "{{node}}", every="5s"),
                    Query(f'max_over_time({{{_HOST}, core!=""}}[$__interval])', "{{node}} core {{core}}", every="5s"),
                ),
                "%",
                least=0,
                most=100,
            ),
            Panel(
                "Load",
                "Processes that run or wait to, means of 1, 5 and 15 minutes.",
                tuple(Query(f"load_{n}{{{_HOST}}}", f"{{{{node}}}} {n} min") for n in (1, 5, 15)),
                least=0,
            ),
        ),
        (
            Panel(
                "Memory",
                "In use, to be had without swapping, and swapped out.",
                tuple(
                    Query(f"avg_over_time({metric}{{{_HOST}}}[$__interval])", f"{{{{node}}}} {legend}", every="5s")
                    for metric, legend in (("memory_used", "used"), ("memory_available", "available"), ("swap_used", "swap"))
                ),
                "B",
                least=0,
            ),
            Panel(
                "Disk traffic",
                "Of all disks.",
                tuple(
                    Query(f"avg_over_time({metric}{{{_HOST}}}[$__rate_interval])", f"{{{{node}}}} {legend}")
                    for metric, legend in (("disk_read", "read"), ("disk_write", "written"))
                ),
                "B/s",
                least=0,
            ),
        ),
        (
            Panel(
                "Network",
                "All links but loopback.",
                tuple(
                    Query(f"avg_over_time({metric}{{{_HOST}}}[$__rate_interval])", f"{{{{node}}}} {legend}")
                    for metric, legend in (("net_received", "received"), ("net_sent", "sent"))
                ),
                "B/s",
                least=0,
            ),
            Panel(
                "Temperatures",
                "The highest of each pixel, where the kernel has any.",
                (
                    Query(
                        f'max_over_time({{{_HOST}, quantity="temperature"}}[$__interval])',
                        "{{node}} {{chip}} {{feature}}",
                        every="5s",
                    ),
                ),
                "C",
            ),
        ),
        (
            Panel(
                "Fans",
                "Where the kernel has any.",
                (
                    Query(
                        f'avg_over_time({{{_HOST}, quantity="fan"}}[$__interval])',
                        "{{node}} {{chip}} {{feature}}",
                        every="5s",
                    ),
                ),
                "rpm",
                least=0,
            ),
            Panel(
                "Disk in use",
                "Of the root file system.",
                (Query(f"disk_percent{{{_HOST}}}", "{{node}}"),),
                "%",
                least=0,
                most=100,
            ),
        ),
    ),
    variables=(Variable("node", "Machine", "label_values(load_1, node)", several=True),),
)
