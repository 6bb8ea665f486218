"""What Grafana is provisioned with: data sources, ready dashboards and alert rules, as files that `sisock grafana` writes.

The folders `datasources`, `dashboards`, `alerting`, `others` and `prometheus` beside this module are what it writes for a
bridge on this machine; `python -m sisock.grafana_bridge.provisioning` writes them anew.
"""

from sisock.grafana_bridge.provisioning.files import Place, files

__all__ = ["Place", "files"]
