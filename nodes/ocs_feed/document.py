"""What the port of the observatory's feeds says of itself, at `/openapi.json`."""

from __future__ import annotations

from sisock.openapi import HEALTHZ, METRICS, REFUSED, document

DOCUMENT = document(
    "ocs_feed",
    "How the node that follows an observatory's feeds is. Its data are had from the node `data_feed`, as all others.",
    {"/healthz": HEALTHZ, "/metrics": METRICS, "/refused": REFUSED},
)
