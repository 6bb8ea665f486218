"""What the geoms' port says of itself, at `/openapi.json`."""

from __future__ import annotations

from sisock.openapi import HEALTHZ, METRICS, document

DOCUMENT = document(
    "geom",
    "Moving shapes over a video. They are asked for at the WebSocket `/ws`, which OpenAPI has no words for; see nodes/geom.",
    {"/healthz": HEALTHZ, "/metrics": METRICS},
)
