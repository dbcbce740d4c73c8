"""Rules about the platform's probes: what they ask must turn when a stop begins, and must know the
application."""

from __future__ import annotations

import os

from gracewrap.manifests import edits
from gracewrap.manifests.sleeps import without_shell
from gracewrap.manifests.wrapped import NAME
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gracewrap.config.probe_specs import Address
    from gracewrap.manifests.finding import Subject
    from gracewrap.manifests.model import Finding, Probe

PATHS = ("/readyz", "/livez")  # of gracewrap; Kubernetes' own servers have them too
USUAL = 9000  # the port in all examples of gracewrap
LOOPBACK = ("127.", "::1", "localhost")


def find(subject: Subject) -> Iterator[Finding]:
    """Yield what is wrong with the probes."""
    one = subject.container
    for probe in one.probes.values():
        yield from _address(subject, probe)
    readiness, liveness = one.probes.get("readinessProbe"), one.probes.get("livenessProbe")
    if readiness is not None:
        yield from _readiness(subject, readiness)
    elif one.platform == "kubernetes" and one.rollout.holder is not None and one.serves:
        why = (
            "a pod counts as ready as soon as its containers run: a rollout stops the old one "
            "before the new one answers"
        )
        yield subject.find("readiness-missing", one.serves, why, _ask(subject))
    if liveness is not None:
        yield from _liveness(subject, liveness)


def _listening(subject: Subject, probe: Probe) -> Address | None:
    """Return the address of health.listen that a probe asks."""
    for address in subject.settings.health_listen:
        if probe.port is not None and address.port == probe.port:
            return address
    return None


def _means(subject: Subject, probe: Probe) -> bool:
    """Return whether a probe asks for gracewrap's page where nobody listens: at a port that the
    container does not name, or at the one in gracewrap's examples."""
    named = subject.container.ports
    if probe.how != "http" or probe.path.rstrip("/") not in PATHS or probe.port is None:
        return False
    if _listening(subject, probe) is not None or subject.effective.unseen is not None:
        return False
    if subject.is_later("health.listen"):
        return False
    return probe.port == USUAL or (bool(named) and probe.port not in named)


def _asks_health(probe: Probe) -> bool:
    """Return whether a probe runs gracewrap health, also in a shell."""
    words = without_shell(probe.command)
    return probe.how == "exec" and bool(words) and os.path.basename(words[0]) == NAME


def _nobody(subject: Subject, probe: Probe) -> Finding:
    """Return what is found about a probe that nobody answers."""
    ours = [address.port for address in subject.settings.health_listen if address.port]
    does = "restarts it again and again" if probe.key == "livenessProbe" else "never takes it in"
    if ours:
        where = f"health.listen has port {ours[0]} only"
        text, edit = f"set port: {ours[0]} in {probe.key}", None
        if probe.port_node is not None:
            edit = edits.replace_scalar(subject.container.file, probe.port_node, str(ours[0]))
    else:
        where = "health.listen is not set"
        text, edit = subject.setting("health.listen", f":{probe.port}")
    why = (
        f"{probe.path} at port {probe.port} is gracewrap's, and nothing listens there ({where}): "
        f"the platform {does}"
    )
    return subject.find("probe-address", probe.port_node or probe.node, why, text, edit)


def _ask(subject: Subject) -> str:
    """Return the probe to write, and the one by which gracewrap knows the application."""
    ports = [address.port for address in subject.settings.health_listen if address.port]
    asks = f"; {subject.setting('ready', 'tcp')[0]} too" if _asks_nobody(subject) else ""
    if ports:
        return f"set readinessProbe: {{httpGet: {{path: /readyz, port: {ports[0]}}}}}{asks}"
    return (
        "set GRACEWRAP_HEALTH_LISTEN=:9000 and readinessProbe: {httpGet: {path: /readyz, port: "
        f"9000}}}}; or readinessProbe: {{exec: {{command: [gracewrap, health]}}}}{asks}"
    )


def _asks_nobody(subject: Subject) -> bool:
    """Return whether gracewrap says ready without asking the application."""
    return not any(each.ready for each in subject.settings.each) and not subject.is_later("ready")


def _address(subject: Subject, probe: Probe) -> Iterator[Finding]:
    if _means(subject, probe):
        yield _nobody(subject, probe)
    address = _listening(subject, probe)
    if address is not None and address.host.startswith(LOOPBACK) and probe.how in ("http", "tcp"):
        text, edit = subject.setting("health.listen", f":{address.port}")
        why = (
            f"{probe.key} comes from outside the container, and health.listen = "
            f'"{address.shown}" answers inside only'
        )
        yield subject.find("probe-address", probe.port_node, why, text, edit)


def _readiness(subject: Subject, probe: Probe) -> Iterator[Finding]:
    settings = subject.settings
    if settings.health_on_stop == "keep":
        return
    ours = _listening(subject, probe)
    if ours is None and subject.is_later("health.listen") and probe.path.rstrip("/") in PATHS:
        return
    file = subject.container.file
    asks_health = _asks_health(probe)
    if ours is not None and probe.how == "http" and probe.path.rstrip("/") != "/readyz":
        why = f"{probe.path} of gracewrap stays 200 during the stop; only /readyz turns 503"
        edit = None
        if probe.path_node is not None:
            edit = edits.replace_scalar(file, probe.path_node, "/readyz")
        yield subject.find(
            "readiness-not-503", probe.path_node or probe.node, why, "set path: /readyz", edit,
            level="error",
        )  # fmt: skip
    elif ours is not None and probe.how == "tcp":
        why = "gracewrap accepts connections until it exits; a probe by TCP never fails"
        yield subject.find("readiness-not-503", probe.node, why, _ask(subject), level="error")
    elif asks_health and "--live" in without_shell(probe.command):
        why = "gracewrap health --live succeeds during the stop; without --live it does not"
        yield subject.find("readiness-not-503", probe.node, why, "leave out --live", level="error")
    elif ours is None and not asks_health and not _means(subject, probe):
        why = (
            "it asks the application, which goes on saying that it is ready when the stop has "
            "begun; only gracewrap's /readyz turns 503 with the stop request"
        )
        yield subject.find("readiness-not-503", probe.node, why, _ask(subject))
        return
    if _asks_nobody(subject) and (ours is not None or asks_health):
        why = (
            "it asks gracewrap, which has no ready probe: it says ready as soon as the command is "
            "started, whether the application answers or not"
        )
        text = subject.setting("ready", "tcp")[0]
        yield subject.find("readiness-blind", probe.node, why, text)


def _liveness(subject: Subject, probe: Probe) -> Iterator[Finding]:
    ours = _listening(subject, probe)
    file = subject.container.file
    is_ours = ours is not None or _means(subject, probe)
    if is_ours and probe.path.rstrip("/") == "/readyz" and probe.path_node is not None:
        why = (
            "/readyz says 503 while the application starts and while it drains; the platform "
            "would kill it for that"
        )
        edit = edits.replace_scalar(file, probe.path_node, "/livez")
        yield subject.find("liveness-readyz", probe.path_node, why, "set path: /livez", edit)
    elif _asks_health(probe) and "--live" not in without_shell(probe.command):
        why = "gracewrap health fails while the application starts and while it drains"
        yield subject.find("liveness-readyz", probe.node, why, "use gracewrap health --live")
