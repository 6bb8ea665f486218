"""Maps import names to folders: `nodes/` is `sisock.nodes`, `grafana_bridge/` is `sisock.grafana_bridge`."""

from setuptools import find_packages, setup

OUTSIDE = {"sisock.nodes": "nodes", "sisock.grafana_bridge": "grafana_bridge"}

# The router's template stands where Crossbar's users look for it, and ships inside the package.
DATA = {"sisock.crossbar": ".crossbar"}

packages = find_packages(include=["sisock", "sisock.*"])
for name, folder in OUTSIDE.items():
    packages += [name, *(f"{name}.{inner}" for inner in find_packages(folder))]

setup(
    packages=[*packages, *DATA],
    package_dir={"": ".", **OUTSIDE, **DATA},
    package_data={
        "sisock": ["py.typed", "page/*", "page/**/*"],
        "sisock.cli": ["templates/*"],
        "sisock.crossbar": ["config.json", "README.md"],
        "sisock.grafana_bridge.provisioning": ["*/*.yaml", "*/*.yml", "dashboards/*/*.json"],
    },
)
