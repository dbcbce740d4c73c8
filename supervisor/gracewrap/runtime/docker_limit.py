"""Whether the budget is longer than what plain `docker stop` grants, and nobody has said so."""

from __future__ import annotations

import posix

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.config.settings import Settings

DOCKER = 10.0  # seconds that `docker stop` grants by itself
# What orchestrators set that grant more, or say so: Kubernetes, ECS, Nomad.
GRANTS_MORE = frozenset(
    (b"KUBERNETES_SERVICE_HOST", b"ECS_CONTAINER_METADATA_URI_V4", b"NOMAD_ALLOC_ID")
)


def is_exceeded(settings: Settings) -> bool:
    """Return whether this looks like plain Docker, which kills 10 s after `docker stop` unless it
    is told otherwise, and the budget is longer without anybody having said so."""
    origin = settings.origins.get("shutdown_timeout", "preset")
    if settings.shutdown_timeout <= DOCKER or not origin.startswith("preset"):
        return False
    if posix.getpid() != 1 or not GRANTS_MORE.isdisjoint(posix.environ):
        return False
    try:
        posix.lstat("/.dockerenv")
    except OSError:
        return False
    return True
