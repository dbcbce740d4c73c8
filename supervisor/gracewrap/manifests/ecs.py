"""Containers of ECS task definitions: as registered, as described, or in CloudFormation."""

from __future__ import annotations

from gracewrap.manifests.model import Container, Grace, Security
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gracewrap.manifests.parse_text import File, Node

DEFAULT_GRACE, MOST_ON_FARGATE = 30.0, 120.0


def definitions(root: Node) -> Iterator[Node]:
    """Yield the task definitions of a document; a list of containers is what Terraform takes."""
    if root.items and all(one.get("name") and one.get("image") for one in root.items):
        name, made = root.copy(), root.copy()
        name.kind, name.text = "scalar", "containerDefinitions"
        made.kind, made.pairs = "map", [(name, root)]
        yield made
    for one in (root, root.get("taskDefinition")):
        if one is not None and one.get("containerDefinitions") is not None:
            yield one
    resources = root.get("Resources")
    for _, resource in resources.mapping() if resources is not None else ():
        if resource.string("Type") == "AWS::ECS::TaskDefinition":
            properties = resource.get("Properties")
            if properties is not None and properties.get("ContainerDefinitions") is not None:
                yield properties


def containers(file: File, definition: Node) -> Iterator[Container]:
    """Yield each container of a task definition."""
    of = _Keys(definition.get("ContainerDefinitions") is not None)
    fargate = "FARGATE" in (definition.strings(of("requiresCompatibilities")) or ())
    found = definition.get(of("containerDefinitions"))
    ones = [one for one in found.items if one.kind == "map"] if found is not None else []
    family = definition.string(of("family")) or "(unnamed)"
    for one in ones:
        # What starts after this one is stopped before it; what is started before it, after it.
        needs = [item.string(of("containerName")) for item in _list(one, of("dependsOn"))]
        others = tuple(
            (name, other.string(of("image")) or "", other)
            for other in ones
            if other is not one and (name := other.string(of("name")) or "") not in needs
        )
        yield _container(file, f"task {family}", definition, one, of, others, fargate)


class _Keys:
    """Spells keys as the document does: CloudFormation's begin with a capital."""

    def __init__(self, capital: bool) -> None:
        self._capital = capital

    def __call__(self, key: str) -> str:
        return key[0].upper() + key[1:] if self._capital else key


def _list(one: Node, key: str) -> list[Node]:
    found = one.get(key)
    return [item for item in found.items if item.kind == "map"] if found is not None else []


def _container(
    file: File,
    workload: str,
    definition: Node,
    one: Node,
    of: _Keys,
    others: tuple[tuple[str, str, Node], ...],
    fargate: bool,
) -> Container:
    key = of("stopTimeout")
    node = one.get(key)
    grace = one.number(key) if node is not None else DEFAULT_GRACE
    linux = one.get(of("linuxParameters"))
    init = linux is not None and linux.truth(of("initProcessEnabled"))
    mode = definition.string(of("pidMode"))
    return Container(
        file=file,
        platform="ecs",
        workload=workload,
        name=one.string(of("name")) or "(unnamed)",
        node=one,
        grace=Grace(grace, key, node, one, most=MOST_ON_FARGATE if fargate else None),
        command=one.get(of("entryPoint")),
        args=one.get(of("command")),
        env=_env(one, of),
        env_node=one.get(of("environment")),
        init=linux.pair(of("initProcessEnabled"))[0] if linux is not None and init else None,
        shared_pid=definition.pair(of("pidMode"))[0] if mode == "task" else None,
        host_pid=definition.pair(of("pidMode"))[0] if mode == "host" else None,
        serves=one.pair(of("portMappings"))[0] if _list(one, of("portMappings")) else None,
        security=_security(one, of),
        neighbours=others,
        image=one.string(of("image")) or "",
        fargate=fargate,
    )


def _env(one: Node, of: _Keys) -> Mapping[str, Node | None]:
    found: dict[str, Node | None] = {
        item.string(of("name")) or "": item.get(of("value"))
        for item in _list(one, of("environment"))
    }
    for item in _list(one, of("secrets")):
        found[item.string(of("name")) or ""] = None
    return found


def _security(one: Node, of: _Keys) -> Security:
    root = of("readonlyRootFilesystem")
    capabilities = one.get(of("linuxParameters"), of("capabilities"))
    mounts = tuple(item.string(of("containerPath")) or "" for item in _list(one, of("mountPoints"))
                   if not item.truth(of("readOnly")))  # fmt: skip
    user = one.get(of("user"))

    def names(key: str) -> frozenset[str]:
        words = capabilities.strings(of(key)) if capabilities is not None else None
        return frozenset(word.upper() for word in words or ())

    return Security(
        read_only=one.pair(root)[0] if one.truth(root) else None,
        writable=mounts,
        added=names("add"),
        dropped=names("drop"),
        node=one.pair(of("linuxParameters"))[0] if capabilities is not None else None,
        capabilities=capabilities,
        user=user.text.partition(":")[0] if user is not None else None,
        user_node=user,
    )
