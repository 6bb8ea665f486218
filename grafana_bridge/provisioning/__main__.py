"""Writes the committed files anew: `python -m sisock.grafana_bridge.provisioning`. Their diff is the change."""

from pathlib import Path

from sisock.grafana_bridge.provisioning.files import committed
from sisock.grafana_bridge.provisioning.writing import write

write(Path(__file__).parent, committed())
