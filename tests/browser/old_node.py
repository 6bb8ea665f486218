"""A node of the old kind, written with Autobahn alone: it knows the arguments of the old contract and no others."""

from __future__ import annotations

import sys

from autobahn.twisted.wamp import ApplicationRunner, ApplicationSession
from autobahn.wamp import auth

BASE = "org.simonsobservatory"


class Old(ApplicationSession):
    def onConnect(self):
        self.join(self.config.realm, ["wampcra"], "server")

    def onChallenge(self, challenge):
        return auth.compute_wcs(sys.argv[2].encode(), challenge.extra["challenge"].encode()).decode("ascii")

    async def onJoin(self, details):
        await self.register(self.get_fields, f"{BASE}.consumer.old.get_fields")
        await self.register(self.get_data, f"{BASE}.consumer.old.get_data")
        await self.call(f"{BASE}.data_node.add", "old", "Of the old kind", details.session)

    def get_fields(self, start, end):
        field = {"description": None, "timeline": "t", "type": "number", "units": "V"}
        return [{"voltage": field}, {"t": {"interval": 60.0, "field": ["voltage"]}}]

    def get_data(self, field, start, end, min_stride=None):
        rows = [t for t in range(1_500_000_000, 1_500_006_000, 60) if start <= t < (end if end > 0 else 2**40)]
        return {"data": {"voltage": [t % 7 for t in rows]}, "timeline": {"t": {"t": rows, "finalized_until": None}}}


ApplicationRunner(sys.argv[1], "sisock").run(Old)
