"""The rules: the id of each, what it is about, and how bad it is."""

from __future__ import annotations

from gracewrap.manifests.model import ERROR, WARNING
from gracewrap.record import Record


class Rule(Record):
    """A rule; its id is the anchor of its paragraph in docs/manifests.md."""

    id: str
    level: str
    summary: str


_RULES = (
    ("unreadable", ERROR, "The file cannot be read as a manifest."),
    ("not-wrapped", ERROR, "No container in the file runs gracewrap."),
    ("settings", ERROR, "gracewrap's settings in the manifest cannot be used."),
    ("kind-not-read", WARNING, "An object has containers, and its kind is not read."),
    ("not-merged", ERROR, "Compose files that go together have to be merged before the check."),
    ("config-not-read", WARNING, "The settings are in a file that was not given to the check."),
    ("extends-not-read", WARNING, "A part of the service stands where it was not read."),
    ("options-not-used", WARNING, "Options of the check are not those of the container."),
    ("grace-period", ERROR, "The platform's SIGKILL comes before gracewrap's budget is over."),
    ("grace-limit", ERROR, "The platform does not grant so long a grace period."),
    ("pre-stop-unknown", WARNING, "preStop takes its time off the same clock; how long, is open."),
    ("two-delays", WARNING, "The platform and gracewrap both wait before the stop signal."),
    ("propagation-missing", ERROR, "Nothing keeps serving until the load balancers know."),
    ("propagation-short", WARNING, "Not ready is noticed later than gracewrap waits."),
    ("readiness-missing", WARNING, "Without a readiness probe a rollout waits for nothing."),
    ("readiness-not-503", WARNING, "The readiness probe asks what stays 200 during the stop."),
    ("readiness-blind", WARNING, "The readiness probe asks gracewrap alone."),
    ("liveness-readyz", ERROR, "The liveness probe asks for readiness, and kills while draining."),
    ("probe-address", ERROR, "The probe cannot reach the address that gracewrap listens at."),
    ("shell-form", ERROR, "A shell is PID 1, and keeps the stop signal to itself."),
    ("stop-signal", ERROR, "The platform's stop signal is no stop request for gracewrap."),
    ("init-beside", WARNING, "There is an init beside gracewrap."),
    ("pid-namespace", WARNING, "gracewrap is not PID 1 of a PID namespace of its own."),
    ("sidecar-order", WARNING, "A proxy is stopped at the same time as the application."),
    ("rollout", WARNING, "A rollout leaves nobody to serve."),
    ("disruption-budget", WARNING, "The PodDisruptionBudget lets all go, or none."),
    ("restart-policy", WARNING, "gracewrap and the platform both restart."),
    ("termination-log", ERROR, "The termination message is not where the platform reads it."),
    ("read-only", WARNING, "gracewrap has no place for its control socket or its files."),
    ("capabilities", ERROR, "gracewrap may not change to the user that it is to run."),
)  # fmt: skip
RULES = {name: Rule(name, level, summary) for name, level, summary in _RULES}
