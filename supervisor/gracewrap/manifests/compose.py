"""Containers of Compose files and Docker Swarm stacks."""

from __future__ import annotations

import os

from gracewrap.config import env_file
from gracewrap.manifests import compose_extends
from gracewrap.manifests.durations import seconds
from gracewrap.manifests.model import Container, Grace, PreStop, Rollout, Security, unset
from gracewrap.record import TYPE_CHECKING, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gracewrap.manifests.parse_text import File, Node

DEFAULT_GRACE = 10.0
LARGEST = 1 << 20  # bytes of a file of variables
GRACE = "stop_grace_period"


class Parts(Record):
    """A service that several files say together, as for `docker compose -f A -f B`."""

    names: tuple[str, ...]  # of the files
    file: File  # the last one
    line: int  # in it


def in_parts(files: Iterable[File]) -> Mapping[tuple[str, str], Parts]:
    """Return the services of which a file has a part only, and another of its directory the rest;
    by directory and workload."""
    places: dict[tuple[str, str], list[tuple[File, int, Node]]] = {}
    for file in files:
        for root in file.documents:
            services = root.get("services")
            for key, one in services.pairs if services is not None else ():
                if one.kind == "map":
                    place = os.path.dirname(file.name), f"service {key.text}"
                    places.setdefault(place, []).append((file, key.line, one))
    return {
        place: Parts(tuple(file.name for file, _, _ in said), *said[-1][:2])
        for place, said in places.items()
        if len(said) > 1 and not all(_is_whole(one) for _, _, one in said)
    }


def _is_whole(one: Node) -> bool:
    """Return whether Compose would take a service as it is."""
    return any(one.get(key) is not None for key in ("image", "build", "extends"))


def containers(file: File, root: Node) -> Iterator[Container]:
    """Yield each service that is run from here."""
    services = root.get("services")
    for name, one in services.mapping() if services is not None else ():
        if one.kind == "map":
            place = services.pair(name)[0] if services else None
            yield _container(file, name, compose_extends.resolved(file, root, one), place)


def _container(
    file: File, name: str, extended: compose_extends.Extended, place: Node | None
) -> Container:
    one = extended.node
    node = one.get(GRACE)
    default = None if extended.unread else DEFAULT_GRACE
    grace = seconds(one.string(GRACE)) if node is not None else default
    in_swarm = one.get("deploy", "update_config") is not None or file.name.endswith(
        ("stack.yml", "stack.yaml")
    )
    return Container(
        file=file,
        platform="compose",
        workload=f"service {name}",
        name=one.string("container_name") or name,
        node=one,
        grace=Grace(grace, GRACE, node, one, unit="s"),
        command=one.get("entrypoint"),
        args=one.get("command"),
        env={**_from_files(file, one), **_env(one)},
        env_node=one.get("environment"),
        pre_stop=_pre_stop(one),
        stop_signal=one.get("stop_signal"),
        init=one.pair("init")[0] if one.truth("init") else None,
        host_pid=one.pair("pid")[0] if one.string("pid") else None,
        security=_security(one),
        restart=one.pair("restart")[0] or one.pair("deploy")[0],
        restart_word=_restart(one, in_swarm),
        rollout=_rollout(one) if in_swarm else Rollout(),
        image=one.string("image") or "",
        place=place,
        unread=extended.unread,
    )


def _pre_stop(one: Node) -> PreStop | None:
    key, value = one.pair("pre_stop")
    return PreStop(key, value, None, one) if key is not None and value is not None else None


def _from_files(file: File, one: Node) -> Mapping[str, Node]:
    """Return gracewrap's variables of the files that env_file names, beside the manifest.

    A file that is not here is made where it runs; nothing is known of it then.
    """
    entry = one.get("env_file")
    if entry is None or file.name == "-":
        return {}
    found: dict[str, Node] = {}
    for item in entry.items or [entry]:
        node = item.get("path") if item.kind == "map" else item
        if node is None or node.kind != "scalar":
            continue
        path = os.path.join(os.path.dirname(file.name), node.text)
        try:
            if not os.path.isfile(path):  # a pipe or a device may never end
                continue
            with open(path, "rb") as opened:
                variables = env_file.parse(opened.read(LARGEST))
        except (OSError, ValueError, env_file.BadLine):
            continue
        for name, value in variables.items():
            if name.startswith(b"GRACEWRAP_"):
                found[name.decode()] = _scalar(node, value.decode(errors="replace"))
    return found


def _env(one: Node) -> Mapping[str, Node | None]:
    """Return the variables of a mapping, or of a list of NAME=VALUE."""
    found: dict[str, Node | None] = {}
    node = one.get("environment")
    if node is None:
        return found
    for name, value in node.mapping():
        found[name] = _value(value, value.text)
    for item in node.items:
        name, equals, text = item.text.partition("=")
        found[name] = _value(item, text) if equals else None
    return found


def _value(node: Node, written: str) -> Node | None:
    """Return a variable's value; None if it comes from outside."""
    text = unset(written)
    if node.is_null or not text or "${" in text:
        return None
    return node if text == node.text else _scalar(node, text)


def _scalar(like: Node, text: str) -> Node:
    """Return a node for a part of a scalar; it is shown by the whole one's line."""
    node = like.copy()
    node.text = text
    return node


def _restart(one: Node, in_swarm: bool) -> str:
    if in_swarm:
        word = one.string("deploy", "restart_policy", "condition") or "any"
        return {"any": "always", "on-failure": "on-failure"}.get(word, "")
    word = (one.string("restart") or "no").partition(":")[0]
    return {"unless-stopped": "always", "no": ""}.get(word, word)


def _security(one: Node) -> Security:
    mounts = [*(one.strings("tmpfs") or [one.string("tmpfs") or ""])]
    volumes = one.get("volumes")
    for item in volumes.items if volumes is not None else ():
        if item.kind == "map":
            mounts.append("" if item.truth("read_only") else item.string("target") or "")
        elif not item.text.endswith(":ro"):
            mounts.append(item.text.split(":")[1 if ":" in item.text else 0])
    user = one.get("user")
    return Security(
        read_only=one.pair("read_only")[0] if one.truth("read_only") else None,
        writable=tuple(mount.partition(":")[0] for mount in mounts if mount),
        added=_names(one, "cap_add"),
        dropped=_names(one, "cap_drop"),
        node=one.pair("cap_drop")[0],
        capabilities=one,
        user=user.text.partition(":")[0] if user is not None else None,
        user_node=user,
    )


def _names(one: Node, key: str) -> frozenset[str]:
    return frozenset(word.upper().removeprefix("CAP_") for word in one.strings(key) or ())


def _rollout(one: Node) -> Rollout:
    """Return how a stack updates the service: Swarm stops a task before it starts the next one."""
    deploy = one.get("deploy")
    if deploy is None or deploy.string("mode") == "global":
        return Rollout()
    replicas = deploy.number("replicas") if deploy.get("replicas") is not None else 1.0
    order = deploy.string("update_config", "order") or "stop-first"
    first = deploy.pair("update_config")[0] or one.pair("deploy")[0]
    update = deploy.get("update_config")
    at_once = update.number("parallelism") if update is not None else None
    if at_once is not None and replicas:  # 0 is all of them
        all_ = at_once == 0 or at_once >= replicas
        first = update.pair("parallelism")[0] if update is not None and replicas > 1 else first
    else:
        all_ = replicas == 1
    recreate = first if order == "stop-first" and all_ else None
    return Rollout(replicas, recreate, holder=deploy)
