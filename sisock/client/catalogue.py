"""What a node offers, as a client is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from sisock.client.glance import Glance
from sisock.errors import UnknownField
from sisock.fields import Catalogue, Field, Timeline


class Fields(Mapping[str, Field]):
    """The fields of a node, {name: Field}; `timelines` are the times that they stand at, {name: Timeline}.

    A Field has `units`, `description`, `type` and `timeline`; a Timeline has `interval`, the usual spacing in seconds.

        fields = hub["apex_archive"].fields()
        fields["apex_temperature"].units
        list(fields)
    """

    def __init__(self, node: str, catalogue: Catalogue, look: Callable[[], Glance] | None = None) -> None:
        self.node = node
        self._catalogue = catalogue
        self._look = look

    @property
    def timelines(self) -> Mapping[str, Timeline]:
        """The timelines of these fields."""
        return {spec.timeline: self._catalogue.timeline(spec.timeline) for spec in self.values()}

    def __getitem__(self, name: str) -> Field:
        if name not in self._catalogue.fields:
            raise UnknownField(f"{self.node} has no field {name!r}. There are {', '.join(self) or 'none yet'}.")
        return self._catalogue.fields[name]

    def __contains__(self, name: object) -> bool:
        return name in self._catalogue.fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._catalogue.fields)

    def __len__(self) -> int:
        return len(self._catalogue.fields)

    def __repr__(self) -> str:
        lines = [f"<{len(self)} fields of {self.node}>"]
        width = max(map(len, self), default=0)
        for name, spec in self.items():
            lines.append(f"{name:{width}}  {f'[{spec.units}]' if spec.units else ''} {spec.description or ''}".rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from sisock.client.html import fields_html

        return fields_html(self.node, self._catalogue, Glance() if self._look is None else self._look())
