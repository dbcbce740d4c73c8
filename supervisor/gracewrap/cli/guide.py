"""What `--help` says of the subcommands that talk to a running gracewrap."""

from __future__ import annotations

_WHICH = """\
  --pid N             The gracewrap with this pid.
  --socket PATH       The one that listens here (its control.socket).
                      [variable: GRACEWRAP_CONTROL_SOCKET]
"""
_FINDING = """
Which gracewrap:
  The only one that runs here. Of several: PID 1, which in a container is the
  one that is meant; else --pid N says which. It is found by its own user and
  by root, in its own container: docker exec CONTAINER gracewrap ...
"""

_STATUS = f"""\
gracewrap status says how a running gracewrap and its command are: ready or
not, what is in flight, which processes there are, and, while it stops, for
what it waits and how long that may still take. Of several programs: a line for
each; with the NAME of one, all of that one.

Usage:
  gracewrap status [NAME] [OPTIONS]

Options:
  -w, --watch         Show it live, until gracewrap has gone; Ctrl-C ends the
                      view and nothing else. Where the output is no terminal:
                      a line for each change.
  --json              Print what gracewrap answered, for machines.
{_WHICH}  --timeout DURATION  How long to wait for an answer. [default: 5s]
  -h, --help          Print this.

Examples:
  gracewrap status
  docker exec -it web gracewrap status --watch
  gracewrap status worker
  gracewrap status --json | jq .programs[0].drain.in_flight
{_FINDING}
Exit status:
  0    it answered
  1    none is running here, or it did not answer
  125  a mistake in the options, or several are running
"""

_DRAIN = f"""\
gracewrap drain has a running gracewrap drain its command without stopping it:
readiness turns 503, so that no new work comes, and what is in flight is
finished. gracewrap undrain takes that back. Several programs are drained all
at once.

Usage:
  gracewrap drain [--wait] [OPTIONS]

Options:
  --wait              Wait until nothing is in flight, as the drain probe says,
                      or until gracewrap has gone.
  --timeout DURATION  Wait no longer than this: 20s, 1m30s. Without --wait: for
                      the answer. [default with --wait: no limit]
{_WHICH}  -h, --help          Print this.

Examples:
  Kubernetes, before it sends SIGTERM. It runs the hook within
  terminationGracePeriodSeconds, which must have room for the stop as well:
    lifecycle: {{preStop: {{exec: {{command: [gracewrap, drain, --wait]}}}}}}
  A hook that leaves the last 10 of 30 seconds for the stop:
    command: [gracewrap, drain, --wait, --timeout, 20s]
  Before maintenance, by hand:
    docker exec web gracewrap drain --wait && docker restart web
{_FINDING}
Exit status:
  0    drained, or gracewrap has gone; without --wait: it has begun
  1    not drained in time, cut by SIGKILL or taken back; or no gracewrap here
  2    there is nothing to wait for: no drain probe is configured
  125  a mistake in the options, or several are running
"""

_UNDRAIN = f"""\
gracewrap undrain takes a gracewrap drain back: readiness is 200 again, so that
new work comes. (What drain.start has told the command is not taken back.)

Usage:
  gracewrap undrain [OPTIONS]

Options:
{_WHICH}  --timeout DURATION  How long to wait for an answer. [default: 5s]
  -h, --help          Print this.

Example:
  gracewrap drain --wait --timeout 20s || gracewrap undrain
{_FINDING}
Exit status:
  0    it is ready again
  1    it cannot: it is stopping already; or no gracewrap is here
  125  a mistake in the options, or several are running
"""

_STOP = f"""\
gracewrap stop asks a running gracewrap to stop, as SIGTERM does: gracefully,
within its shutdown_timeout. Asked again it changes nothing; a second SIGTERM
skips what is left of delays and drains, and a third one kills (on_repeat).

gracewrap stop NAME ... stops one or more of several programs, and before them
those that depend on them; the others go on. It waits until they are gone. To
start them again: gracewrap restart NAME ...

Usage:
  gracewrap stop [--wait] [OPTIONS]
  gracewrap stop NAME ... [--no-wait] [OPTIONS]

Options:
  --wait              Wait until gracewrap has gone.
  --no-wait           Do not wait until the programs have stopped.
  --timeout DURATION  Wait no longer than this: 20s, 1m30s. Where it does not
                      wait: for the answer. [default: no limit]
{_WHICH}  -h, --help          Print this.

Examples:
  gracewrap stop --wait
  gracewrap stop --pid 4711; gracewrap status --watch --pid 4711
  gracewrap stop worker
  gracewrap stop web worker
{_FINDING}
Exit status:
  0    it stops; with --wait: it has gone (its exit status is its parent's);
       with NAME: they have stopped
  1    not in time, or no gracewrap is here; with NAME: one had to be killed,
       or others are being stopped: ask again after that
  125  a mistake in the options, no such program (then nothing is stopped), or
       several gracewraps run
"""

_RESTART = f"""\
gracewrap restart NAME ... stops one or more of several programs gracefully,
and before them those that depend on them, and starts them again in their
order; the others go on. It waits until they are ready again. It also starts
what has ended, or was stopped with gracewrap stop NAME.

Usage:
  gracewrap restart NAME ... [--no-wait] [OPTIONS]

Options:
  NAME                A program, as it is called in [programs.NAME]. One
                      command that is run with restart = "always" needs none.
  --no-wait           Do not wait until all is ready again.
  --timeout DURATION  Wait no longer than this: 20s, 1m30s. With --no-wait: for
                      the answer. [default: no limit]
{_WHICH}  -h, --help          Print this.

Examples:
  gracewrap restart web
  gracewrap restart web worker
  docker exec app gracewrap restart worker --timeout 1m
  All of them, one stack after the other: signal_map = {{HUP = "restart"}} in the
  file, and then kill -HUP.
{_FINDING}
Exit status:
  0    they are up again, and ready; what had to be killed is named
  1    they are not, or not in time; others are being stopped: ask again after
       that; or no gracewrap is here
  125  a mistake in the options, no such program (then nothing is stopped), or
       several gracewraps run
"""

_HEALTH = f"""\
gracewrap health says in a line whether new work is welcome: for a container's
health check. Not while the command starts, drains or stops, so that a proxy
that looks at the health check sends its requests elsewhere.

Usage:
  gracewrap health [--live] [OPTIONS]

Options:
  --live              Ask only whether gracewrap is alive, as /livez does: also
                      while it starts, drains and stops.
{_WHICH}  --timeout DURATION  Without an answer by then it is not healthy.
                      [default: 2s]
  -h, --help          Print this.

Examples:
  Dockerfile; the default interval of 30 s would be too slow to notice a drain:
    HEALTHCHECK --interval=2s --timeout=3s CMD ["gracewrap", "health"]
  Kubernetes, without a port (with one, httpGet on health.listen costs less):
    readinessProbe: {{exec: {{command: [gracewrap, health]}}}}
{_FINDING}
Exit status:
  0    ready; with --live: alive
  1    not, and the line says why; or no gracewrap is here
  125  a mistake in the options, or several are running
"""

TEXTS = {
    "status": _STATUS,
    "drain": _DRAIN,
    "undrain": _UNDRAIN,
    "stop": _STOP,
    "restart": _RESTART,
    "health": _HEALTH,
}
