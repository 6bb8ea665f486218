"""The contract of a node, as a pytest suite: subclass NodeContract and name your node's class."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest_twisted
from autobahn.twisted.util import sleep

from sisock import uris
from sisock.errors import InvalidArgument, SisockError, TooMuch
from sisock.fields import TYPES
from sisock.node import DataNode
from sisock.testing.router import Router

_KINDS: dict[str, tuple[type, ...]] = {"number": (int, float), "string": (str,), "bool": (bool,)}


class NodeContract:
    """Every check runs against the node on the air, through a real router, as a consumer meets it.

    `node` is the class, or override `make`. `has_data_within` is how long it may take to have its first row, seconds.
    """

    node: ClassVar[type[DataNode]]
    has_data_within: ClassVar[float] = 10.0

    def make(self) -> DataNode:
        """A node to test."""
        return self.node()

    async def on_air(self, router: Router, ask: Any) -> Any:
        """Serves the node, asks, and takes the node off the air again."""
        from sisock.consumer import Consumer

        node = self.make()
        service = await router.serve(node)
        consumer = await Consumer(router.access()).start()
        try:
            for _ in range(int(self.has_data_within / 0.05)):
                catalogue = await consumer.get_fields(node.name)
                if await self._has_rows(consumer, node.name, catalogue):
                    break
                await sleep(0.05)
            return await ask(consumer, node.name, catalogue)
        finally:
            await consumer.stop()
            await service.stop()

    @staticmethod
    async def _has_rows(consumer: Any, name: str, catalogue: Any) -> bool:
        try:
            answer = await consumer.get_data(name, list(catalogue.fields), 1.0, None, max_points=2)
        except TooMuch:
            return True
        return bool(answer["timeline"])

    @pytest_twisted.ensureDeferred
    async def test_it_is_listed_with_a_description(self, router: Router) -> None:
        """The hub lists the node, and says what it is."""

        async def ask(consumer: Any, name: str, _: Any) -> None:
            listed = [node for node in await consumer.nodes() if node["name"] == name]
            assert len(listed) == 1
            assert listed[0]["description"], "say in the class's docstring what the node is"

        await self.on_air(router, ask)

    @pytest_twisted.ensureDeferred
    async def test_its_fields_are_described(self, router: Router) -> None:
        """get_fields has the shape of contract A6, and every field stands on a timeline that lists it."""

        async def ask(_: Any, name: str, catalogue: Any) -> None:
            fields, timelines = catalogue.to_wire()
            assert fields, "the node has no fields"
            for field, spec in fields.items():
                uris.check_field_name(field)
                assert spec["type"] in TYPES
                assert field in timelines[spec["timeline"]]["field"]
                interval = timelines[spec["timeline"]]["interval"]
                assert interval is None or (math.isfinite(interval) and interval > 0)

        await self.on_air(router, ask)

    @pytest_twisted.ensureDeferred
    async def test_its_data_keep_the_contract(self, router: Router) -> None:
        """get_data has the shape of contract A7: ascending times, equal lengths, values of the declared types."""

        async def ask(consumer: Any, name: str, catalogue: Any) -> None:
            answer = await consumer.get_data(name, list(catalogue.fields), 1.0, None, max_points=1000)
            assert set(catalogue.fields) <= set(answer["data"])
            assert answer["timeline"], f"the node had no row within {self.has_data_within:g} s"
            for line in answer["timeline"].values():
                assert all(a < b for a, b in zip(line["t"], line["t"][1:], strict=False)), "times ascend"
                assert line["finalized_until"] is None or math.isfinite(line["finalized_until"])
            for field, values in answer["data"].items():
                spec = catalogue.fields[field]
                if values:
                    assert len(values) == len(answer["timeline"][spec.timeline]["t"])
                there = [value for value in values if value is not None]
                assert all(isinstance(value, _KINDS[spec.type]) for value in there), f"{field} is declared as {spec.type}"

        await self.on_air(router, ask)

    @pytest_twisted.ensureDeferred
    async def test_ranges_are_half_open(self, router: Router) -> None:
        """A row at `start` is in the answer, one at `end` is not."""

        async def ask(consumer: Any, name: str, catalogue: Any) -> None:
            whole = await consumer.get_data(name, list(catalogue.fields), 1.0, None, max_points=100)
            for timeline, line in whole["timeline"].items():
                on_it = [
                    field for field, spec in catalogue.fields.items() if spec.timeline == timeline and whole["data"][field]
                ]
                first = line["t"][0]
                inside = await consumer.get_data(name, on_it, first, first + 1e-6)
                assert inside["timeline"][timeline]["t"] == [first]
                before = await consumer.get_data(name, on_it, 1.0, first)
                assert first not in before["timeline"].get(timeline, {"t": []})["t"]

        await self.on_air(router, ask)

    @pytest_twisted.ensureDeferred
    async def test_few_points_are_few(self, router: Router) -> None:
        """max_points and min_stride thin the answer."""

        async def ask(consumer: Any, name: str, catalogue: Any) -> None:
            for field, spec in catalogue.fields.items():
                answer = await consumer.get_data(name, [field], 1.0, None, max_points=4)
                assert len(answer["timeline"].get(spec.timeline, {"t": []})["t"]) <= 4
            answer = await consumer.get_data(name, list(catalogue.fields), 1.0, None, min_stride=1e9)
            assert all(len(line["t"]) == 1 for line in answer["timeline"].values())

        await self.on_air(router, ask)

    @pytest_twisted.ensureDeferred
    async def test_odd_requests_are_answered(self, router: Router) -> None:
        """No fields, unknown fields and an empty range are empty answers; what is no request is a typed error."""

        async def ask(consumer: Any, name: str, catalogue: Any) -> None:
            fields = list(catalogue.fields)
            assert (await consumer.get_data(name, [], 1.0, None))["timeline"] == {}
            assert (await consumer.get_data(name, ["no such field"], 1.0, None))["data"] == {"no such field": []}
            assert (await consumer.get_data(name, fields, 20.0, 10.0))["timeline"] == {}
            for start, end in (("1", None), (None, None), (math.nan, None), (1.0, [])):
                try:
                    await consumer.get_data(name, fields, start, end)
                except InvalidArgument:
                    continue
                except SisockError as error:
                    raise AssertionError(f"{start!r}, {end!r} met {error!r} and no InvalidArgument") from error
                raise AssertionError(f"{start!r}, {end!r} was taken for a range of time")

        await self.on_air(router, ask)
