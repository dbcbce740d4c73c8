"""Makes findings, and the remedies that several rules share."""

from __future__ import annotations

from gracewrap.config.schema import BY_KEY
from gracewrap.manifests import edits
from gracewrap.manifests.model import Finding
from gracewrap.manifests.rules_table import RULES
from gracewrap.manifests.wrapped import wrapped
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from gracewrap.config.settings import Settings
    from gracewrap.manifests.model import Container, Edit
    from gracewrap.manifests.parse_text import Node
    from gracewrap.manifests.wrapped import Effective


class Place(Record):
    """A container, whatever its settings are."""

    container: Container

    def find(
        self,
        rule: str,
        node: Node | None,
        why: str,
        remedy: str,
        *made: Edit | None,
        level: str = "",
    ) -> Finding:
        """Return a finding of a rule at a node; None: at the container."""
        one = self.container
        return Finding(
            rule,
            level or RULES[rule].level,
            one.file.name,
            node.line if node is not None else one.line,
            one.title,
            why,
            remedy,
            tuple(edit for edit in made if edit is not None),
        )


class Subject(Place):
    """A container, and the settings in force in it."""

    settings: Settings
    effective: Effective

    def is_later(self, key: str) -> bool:
        """Return whether a setting gets its value when the container runs."""
        return key in self.effective.later

    def setting(self, key: str, value: str, weight: float = 0.0) -> tuple[str, Edit | None]:
        """Return how one of gracewrap's settings becomes *value*, and the edit of the manifest if
        it is said there or nowhere; *weight*: of the edit."""
        name, flag = BY_KEY[key].variable, BY_KEY[key].option
        how = wrapped(self.container)
        edit: Edit | None
        if key in self.effective.given and how.nodes:
            for at, word in enumerate(how.words):
                if word == flag and at + 1 < len(how.nodes):
                    edit = edits.replace_scalar(self.container.file, how.nodes[at + 1], value)
                    return f"set {flag} {value} in its command", edit
                if word.startswith(f"{flag}="):
                    edit = edits.replace_scalar(
                        self.container.file, how.nodes[at], f"{flag}={value}"
                    )
                    return f"set {flag}={value} in its command", edit
        if self.effective.config and name not in self.container.env:
            return f'set {key} = "{value}" in {self.effective.config}', None
        if key in self.effective.given:
            return f"set {flag} {value}", None
        edit = edits.set_variable(self.container, name, value, weight)
        return f"set the variable {name}={value} (or {key} in its file)", edit


def number(value: float) -> str:
    """Return seconds without needless digits."""
    return f"{value:g}"
