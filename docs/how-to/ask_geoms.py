"""Asks for the shapes of a day as any WebSocket client does: `python ask_geoms.py ENVIRONMENT YYYY-MM-DD CAMERA`.

    python docs/how-to/ask_geoms.py demo 2026-11-25 camera-1

It needs no sisock: the package `websockets` is enough. GEOMS_URL names a node elsewhere, GEOMS_TOKEN is who asks.
"""

import json
import os
import sys
from datetime import UTC, datetime

from websockets.sync.client import connect

environment, date, camera = sys.argv[1:]
address = os.environ.get("GEOMS_URL", "ws://localhost:8010/ws")

with connect(address, max_size=None) as socket:

    def ask(event, **data):
        socket.send(json.dumps({"event": event, "data": data}))
        answer = json.loads(socket.recv())
        if answer["event"] == "error":
            raise SystemExit(f"{event}: {answer['data']['code']} {answer['data']['message']}")
        return answer["data"]

    ask("auth", Authorization=os.environ["GEOMS_TOKEN"])
    day = ask("getGeoms", environment_id=environment, date=date)
    sample = day["sample"]
    print(f"sample {sample['id']}: {sample['num_frames']} frames from {sample['start_time']} to {sample['end_time']}")

    # A second in the middle of it.
    start, end = (datetime.fromisoformat(sample[name]).timestamp() for name in ("start_time", "end_time"))
    middle = datetime.fromtimestamp((start + end) // 2, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    found = ask("getCoordinates", sample_id=sample["id"], device_id=camera, seconds=1, **{"from": middle})
    for geom in day["geoms"]:
        frames = found.get(str(geom["id"]), {})
        if frames:
            first = next(iter(frames.values()))
            print(f"{geom['object_name']} ({geom['type']}): {len(frames)} frames, first at {first['coordinates']}")
