"""`gracewrap health`."""

from __future__ import annotations

from gracewrap.cli import control_client
from gracewrap.cli.control_arguments import FINDING, WHICH, Asked
from gracewrap.cli.wait import limit_of, tell
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from gracewrap.server.control_socket import Instance


HEALTH = f"""\
gracewrap health says in a line whether new work is welcome: for a container's
health check. Not while the command starts, drains or stops, so that a proxy
that looks at the health check sends its requests elsewhere.

Usage:
  gracewrap health [--live] [OPTIONS]

Options:
  --live              Ask only whether gracewrap is alive, as /livez does: also
                      while it starts, drains and stops.
{WHICH}  --timeout DURATION  Without an answer by then it is not healthy.
                      [default: 2s]
  -h, --help          Print this.

Examples:
  Dockerfile; the default interval of 30 s would be too slow to notice a drain:
    HEALTHCHECK --interval=2s --timeout=3s CMD ["gracewrap", "health"]
  Kubernetes, without a port (with one, httpGet on health.listen costs less):
    readinessProbe: {{exec: {{command: [gracewrap, health]}}}}
{FINDING}
Exit status:
  0    ready; with --live: alive
  1    not, and the line says why; or no gracewrap is here
  125  a mistake in the options, or several are running
"""

HEALTH_WAIT = 2.0  # seconds


def health(found: Instance, asked: Asked) -> int:
    answer = control_client.Peer(found, limit_of(asked, HEALTH_WAIT)).get(
        "/livez" if asked.live else "/readyz"
    )
    if answer.status == 200:
        tell("alive" if asked.live else "ready")
        return 0
    fields = answer.fields()
    reason = " ".join(
        str(fields[key]) if key == "reason" else f"({fields[key]})"
        for key in ("reason", "why")
        if fields.get(key)
    )
    left = fields.get("seconds_left")
    tell(
        f"not ready: {reason or answer.text()}"
        + (f", {left:.1f} s left" if isinstance(left, int | float) else "")
    )
    return 1
