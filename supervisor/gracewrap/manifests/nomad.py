"""Tasks of Nomad jobs: the API's JSON (`nomad job run -output`), and HCL's JSON form."""

from __future__ import annotations

from gracewrap.manifests.durations import seconds
from gracewrap.manifests.model import Container, Grace, PreStop, Security
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gracewrap.manifests.parse_text import File, Node

DEFAULT_GRACE = 5.0
MOST = 30.0  # max_kill_timeout of a client, unless its configuration says otherwise


def containers(file: File, root: Node) -> Iterator[Container]:
    """Yield each task of a job."""
    job = root.get("Job") if root.get("Job") is not None else root
    if job is not None and job.get("TaskGroups") is not None:
        name = job.string("Name") or job.string("ID") or "(unnamed)"
        for group in _items(job.get("TaskGroups")):
            for task in _items(group.get("Tasks")):
                title = f"job {name}, group {group.string('Name') or '(unnamed)'}"
                yield _task(file, title, task.string("Name") or "(unnamed)", task, group, True)
        return
    for name, one in _named(root.get("job")):
        for group_name, group in _named(one.get("group")):
            for task_name, task in _named(group.get("task")):
                title = f"job {name}, group {group_name}"
                yield _task(file, title, task_name, task, group, False)


def _items(node: Node | None) -> list[Node]:
    return [one for one in node.items if one.kind == "map"] if node is not None else []


def _named(node: Node | None) -> Iterator[tuple[str, Node]]:
    """Yield the labels of blocks and what is in them; HCL's JSON may put a list around either."""
    for one in _items(node) or ([node] if node is not None else []):
        for name, value in one.mapping():
            for inner in _items(value) or [value]:
                if inner.kind == "map":
                    yield name, inner


def _first(node: Node | None) -> Node | None:
    """Return a block, also where a list of one stands around it."""
    return node.items[0] if node is not None and node.kind == "list" and node.items else node


def _task(file: File, workload: str, name: str, task: Node, group: Node, api: bool) -> Container:
    def of(key: str) -> str:
        return key if api else "".join(f"_{c.lower()}" if c.isupper() else c for c in key)[1:]

    unit = "ns" if api else "s"
    node = task.get(of("KillTimeout"))
    config = _first(task.get(of("Config")))
    env = _first(task.get(of("Env")))
    docker = task.string(of("Driver")) in ("docker", "podman")
    signal = task.get(of("KillSignal"))
    init = config is not None and config.truth("init")
    key = "command" if docker else None
    return Container(
        file=file,
        platform="nomad",
        workload=workload,
        name=name,
        node=task,
        grace=Grace(_span(node, api) if node is not None else DEFAULT_GRACE, of("KillTimeout"),
                    node, task, unit, MOST),
        command=config.get("entrypoint" if key else "command") if config is not None else None,
        args=_args(config, docker),
        env=dict(env.mapping()) if env is not None else {},
        env_node=env,
        pre_stop=_delay(task, of("ShutdownDelay"), api) or _delay(group, of("ShutdownDelay"), api),
        stop_signal=signal if signal is not None and signal.text else None,
        default_signal="" if docker else "INT",
        init=config.pair("init")[0] if config is not None and init else None,
        host_pid=_host_pid(config),
        serves=_serves(task, api) or _serves(group, api),
        security=_security(task.get(of("User")), config),
        image=(config.string("image") or "") if config is not None else "",
    )  # fmt: skip


def _serves(holder: Node, api: bool) -> Node | None:
    """Return the key that says that clients find it: a list of the API, or a block of HCL."""
    name, value = holder.pair("Services" if api else "service")
    return name if value is not None and (value.items or value.pairs) else None


def _args(config: Node | None, docker: bool) -> Node | None:
    """Return the words after the command; docker's `command` is one word before its `args`."""
    if config is None:
        return None
    return config.get("args") or (config.get("command") if docker else None)


def _span(node: Node, api: bool) -> float | None:
    number = seconds(node.text)
    return number / 1e9 if api and number is not None and node.plain else number


def _delay(holder: Node, key: str, api: bool) -> PreStop | None:
    name, value = holder.pair(key)
    length = _span(value, api) if value is not None else None
    if name is None or value is None or not length:
        return None
    return PreStop(name, value, length, holder, counts=False)


def _host_pid(config: Node | None) -> Node | None:
    return config.pair("pid_mode")[0] if config is not None and config.string("pid_mode") else None


def _security(user: Node | None, config: Node | None) -> Security:
    read_only = config is not None and config.truth("readonly_rootfs")

    def names(key: str) -> frozenset[str]:
        words = config.strings(key) if config is not None else None
        return frozenset(word.upper().removeprefix("CAP_") for word in words or ())

    return Security(
        read_only=config.pair("readonly_rootfs")[0] if config is not None and read_only else None,
        added=names("cap_add"),
        dropped=names("cap_drop"),
        node=config.pair("cap_drop")[0] if config is not None else None,
        capabilities=config,
        user=user.text if user is not None and user.text else None,
        user_node=user,
    )
