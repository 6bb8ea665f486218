"""The dashboard of site streams."""

from __future__ import annotations

from sisock.grafana_bridge.provisioning.panels import Board, Panel, Query, Variable, a_minute

_SITE = 'node="$node", site=~"$site", topic=~"$topic"'

SITES = Board(
    "sites",
    "Sites",
    "What producers send to the browsers of sites: the node `streams`.",
    rows=(
        (
            Panel(
                "Sites",
                "Sites to which something was sent in the time shown.",
                (Query(f"count(count by (site) (count_over_time({{{_SITE}}}[$__range])))", "sites"),),
                None,
                "stat",
                6,
                4,
            ),
            Panel(
                "Messages",
                "In the time shown.",
                (Query(f"sum(count_over_time({{{_SITE}}}[$__range]))", "messages"),),
                None,
                "stat",
                6,
                4,
            ),
            Panel(
                "Amount",
                "How long all messages of the time shown are together.",
                (Query(f"sum(sum_over_time({{{_SITE}}}[$__range]))", "amount"),),
                "B",
                "stat",
                6,
                4,
            ),
            Panel(
                "Longest message",
                "Of the time shown.",
                (Query(f"max(max_over_time({{{_SITE}}}[$__range]))", "longest"),),
                "B",
                "stat",
                6,
                4,
            ),
        ),
        (
            Panel(
                "Messages by site",
                "How many a minute.",
                (Query(a_minute(f"sum by (site) (count_over_time({{{_SITE}}}[$__interval]))"), "{{site}}", every="15s"),),
                None,
                "bars",
                least=0,
            ),
            Panel(
                "Messages by topic",
                "How many a minute.",
                (Query(a_minute(f"sum by (topic) (count_over_time({{{_SITE}}}[$__interval]))"), "{{topic}}", every="15s"),),
                None,
                "bars",
                least=0,
            ),
        ),
        (
            Panel(
                "Amount by site",
                "How many a minute.",
                (Query(a_minute(f"sum by (site) (sum_over_time({{{_SITE}}}[$__interval]))"), "{{site}}", every="15s"),),
                "B",
                "bars",
                least=0,
            ),
            Panel(
                "Sites and topics",
                "What came in the time shown.",
                (
                    Query(f"sum by (site, topic, stage) (count_over_time({{{_SITE}}}[$__range]))", "messages"),
                    Query(f"sum by (site, topic, stage) (sum_over_time({{{_SITE}}}[$__range]))", "amount", "B"),
                ),
                kind="table",
            ),
        ),
    ),
    variables=(
        Variable("node", "Node", 'label_values({topic!=""}, node)'),
        Variable("site", "Sites", 'label_values({node="$node", topic!=""}, site)', several=True),
        Variable("topic", "Topics", 'label_values({node="$node", site=~"$site"}, topic)', several=True),
    ),
)
