"""Maps import names to folders: `nodes/` is `sisock.nodes`, `grafana_bridge/` is `sisock.grafana_bridge`."""

from setuptools import find_packages, setup

OUTSIDE = {"sisock.nodes": "nodes", "sisock.grafana_bridge": "grafana_bridge"}

packages = find_packages(include=["sisock", "sisock.*"])
for name, folder in OUTSIDE.items():
    packages += [name, *(f"{name}.{inner}" for inner in find_packages(folder))]

setup(
    packages=packages,
    package_dir={"": ".", **OUTSIDE},
    include_package_data=True,
)
