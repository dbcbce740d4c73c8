"""Rules about what the container may do and write, and about how many of it there are."""

from __future__ import annotations

import math
import posixpath

from gracewrap.manifests import edits
from gracewrap.record import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gracewrap.manifests.finding import Place, Subject
    from gracewrap.manifests.model import Edit, Finding

TERMINATION_LOG = "/dev/termination-log"  # Kubernetes' default
SOCKETS = ("/run", "/dev/shm", "/tmp")  # where the control socket may be
NEEDED = ("SETUID", "SETGID", "KILL")  # to become another user, and to signal its processes


def find(subject: Subject) -> Iterator[Finding]:
    """Yield what is wrong with permissions, files and rollouts."""
    yield from _termination(subject)
    yield from _read_only(subject)
    yield from _capabilities(subject)
    yield from find_without_settings(subject)


def find_without_settings(place: Place) -> Iterator[Finding]:
    """Yield what is wrong with rollouts."""
    yield from _rollout(place)
    yield from _disruption(place)


def _termination(subject: Subject) -> Iterator[Finding]:
    one, ours = subject.container, subject.settings.report_termination_log
    if one.platform != "kubernetes":
        return
    theirs = one.termination_path.text if one.termination_path is not None else TERMINATION_LOG
    if ours and ours != theirs:
        why = (
            f'gracewrap writes its last word to "{ours}", and the kubelet reads it from "{theirs}"'
        )
        remedy = f"set terminationMessagePath: {ours}"
        edit = (
            edits.replace_scalar(one.file, one.termination_path, ours)
            if one.termination_path is not None
            else edits.add_key(one.file, one.node, "terminationMessagePath", _text(subject, ours))
        )
        yield subject.find("termination-log", one.termination_path, why, remedy, edit)


def _text(subject: Subject, value: str) -> str:
    return f'"{value}"' if subject.container.file.is_json else value


def _read_only(subject: Subject) -> Iterator[Finding]:
    one, settings = subject.container, subject.settings
    security = one.security
    if security.read_only is None:
        return
    wants = {
        "report.file": settings.report_file,
        "log.file": settings.log_file,
        "report.prometheus_textfile": settings.report_prometheus_textfile,
    }
    for key, path in wants.items():
        if path and not _below(path, (*security.writable, "/dev/shm", "/dev")):
            why = f'{key} = "{path}" cannot be written: the file system is read-only'
            remedy = f"mount an emptyDir or a tmpfs at {posixpath.dirname(path)}"
            yield subject.find("read-only", security.read_only, why, remedy)
    socket = settings.control_socket
    if socket.startswith("/") and not _below(socket, (*security.writable, "/dev/shm")):
        why = (
            f'control.socket = "{socket}" cannot be made: the file system is read-only, and '
            "gracewrap status, stop and health find nobody"
        )
        remedy = f"mount an emptyDir or a tmpfs at {posixpath.dirname(socket)}"
        yield subject.find("read-only", security.read_only, why, remedy)


def _below(path: str, mounts: tuple[str, ...]) -> bool:
    return any(path == mount or path.startswith(mount.rstrip("/") + "/") for mount in mounts)


def _capabilities(subject: Subject) -> Iterator[Finding]:
    one, security = subject.container, subject.container.security
    users = {each.user for each in subject.settings.each if each.user}
    if not users:
        return
    user = sorted(users)[0]
    text = f'user = "{user}"'
    if security.user not in (None, "0", "root") and security.user != user:
        why = f"gracewrap runs as {security.user}, and {text} needs root to change to it"
        yield subject.find("capabilities", security.user_node, why,
                           f"leave out gracewrap's user, or run the container as root and let "
                           f"gracewrap change to {user}")  # fmt: skip
        return
    if security.non_root is not None and security.user in (None, "0", "root"):
        why = f"runAsNonRoot keeps gracewrap from being root, which {text} needs"
        remedy = f"set runAsUser to {user}'s number and leave out gracewrap's user"
        yield subject.find("capabilities", security.non_root, why, remedy)
        return
    if security.user == user:
        return
    dropped = security.dropped
    missing = [word for word in NEEDED if {"ALL", word} & dropped and word not in security.added]
    if missing and "ALL" not in security.added:
        key = "cap_add" if security.capabilities is one.node else "add"
        why = f"{text} needs the capabilities {', '.join(missing)}, and they are dropped"
        words = ", ".join(missing)
        edit = None
        holder = security.capabilities
        if holder is not None and holder.get(key) is None:
            value = "[" + ", ".join(f'"{word}"' for word in missing) + "]"
            edit = edits.add_key(one.file, holder, key, value)
        yield subject.find("capabilities", security.node, why, f"set {key}: [{words}]", edit)


def _rollout(subject: Place) -> Iterator[Finding]:
    one, rollout = subject.container, subject.container.rollout
    if rollout.recreate is not None:
        if one.platform == "compose":
            all_ = "the one task is" if rollout.replicas == 1 else "all tasks are"
            why = f"{all_} stopped before the next one is started (order: stop-first)"
            other = "run 2 replicas" if rollout.replicas == 1 else "parallelism: 1"
            remedy = f"set order: start-first in deploy.update_config, or {other}"
        else:
            why = "strategy Recreate stops all pods before a new one is started: nobody serves"
            remedy = "set type: RollingUpdate"
        yield subject.find("rollout", rollout.recreate, why, remedy)
    away = _share(rollout.max_unavailable.text if rollout.max_unavailable else None,
                  rollout.replicas)  # fmt: skip
    if away is not None and rollout.replicas and away >= rollout.replicas:
        assert rollout.max_unavailable is not None
        why = (
            f"{rollout.max_unavailable.text} of {rollout.replicas:g} may be away at a time: a "
            "rollout may stop all of them at once"
        )
        yield subject.find("rollout", rollout.max_unavailable, why, *_fewer(subject))


def _fewer(subject: Place) -> tuple[str, *tuple[Edit | None, ...]]:
    """Return what leaves some of them, and its edits: at least one of the two may not be 0."""
    file, rollout = subject.container.file, subject.container.rollout
    assert rollout.max_unavailable is not None and rollout.replicas
    if not rollout.can_surge:
        text = "set maxUnavailable: 1" if rollout.replicas > 1 else "run 2 replicas"
        one = edits.replace_scalar(file, rollout.max_unavailable, "1")
        return text, one if rollout.replicas > 1 else None
    none, surge = edits.replace_scalar(file, rollout.max_unavailable, "0"), rollout.max_surge
    if surge is not None and _share(surge.text, rollout.replicas) == 0:
        more = edits.replace_scalar(file, surge, "1")
        return "set maxUnavailable: 0 and maxSurge: 1", *((none, more) if more else ())
    return "set maxUnavailable: 0 and maxSurge: 1", none


def _share(text: str | None, replicas: float | None) -> float | None:
    """Return how many a number or a percentage is."""
    if not text:
        return None
    try:
        if text.endswith("%"):
            return float(text[:-1]) / 100 * (replicas or 0.0)
        return float(text)
    except ValueError:
        return None


def _rounded_up(pods: float | None) -> int | None:
    return math.ceil(pods) if pods is not None else None


def _disruption(subject: Place) -> Iterator[Finding]:
    rollout = subject.container.rollout
    spec = rollout.disruption
    if spec is None or not rollout.replicas:
        return
    # Both are rounded up (kubernetes.io/docs/tasks/run-application/configure-pdb).
    least = _rounded_up(_share(spec.string("minAvailable"), rollout.replicas))
    most = _rounded_up(_share(spec.string("maxUnavailable"), rollout.replicas))
    node = spec.get("minAvailable") or spec.get("maxUnavailable")
    name = f"PodDisruptionBudget {rollout.disruption_name}"
    replicas = f"{rollout.replicas:g} replica{'s' * (rollout.replicas != 1)}"
    if (least is not None and least >= rollout.replicas) or most == 0:
        why = f"{name} lets none of {replicas} go: a node's drain hangs until somebody forces it"
        yield replace(
            subject.find("disruption-budget", node, why, "run one replica more, and let one go"),
            file=rollout.disruption_file,
        )
    elif least == 0 or (most is not None and most >= rollout.replicas):
        why = f"{name} lets all of {replicas} go at once when nodes are drained"
        yield replace(
            subject.find("disruption-budget", node, why, "set maxUnavailable: 1"),
            file=rollout.disruption_file,
        )
