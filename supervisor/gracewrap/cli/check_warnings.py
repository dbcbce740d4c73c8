"""What can be used but may not be what was meant: what `gracewrap check` warns of.  Nothing is
started to find out."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence

from gracewrap.cli import server_configuration
from gracewrap.config import foreground, problems
from gracewrap.config.probe_specs import (
    CommandAction,
    ExecProbeSpec,
    HttpProbeSpec,
    ProbeSpec,
    TcpProbeSpec,
)
from gracewrap.config.schema import BY_KEY
from gracewrap.config.settings import Settings
from gracewrap.config.values import show_duration
from gracewrap.linux import signals
from gracewrap.linux.signals import SIGKILL, SIGTERM
from gracewrap.policy import held_up_looks, model
from gracewrap.report.wording import listed

# Commands for which SIGTERM is the wrong stop signal: what they want, and what SIGTERM does.
WANTED = {
    "nginx": ("QUIT", "cuts requests"),
    "unicorn": ("QUIT", "cuts requests"),
    "php-fpm": ("QUIT", "cuts requests"),
    "haproxy": ("USR1", "cuts requests"),
    "starman": ("QUIT", "cuts requests"),
    "httpd": ("WINCH", "cuts requests"),
    "apache2": ("WINCH", "cuts requests"),
    **dict.fromkeys(("apachectl", "apache2ctl"), ("WINCH", "cuts requests")),
    "parallel": ("HUP", "kills its running jobs"),
    "postgres": ("INT", "waits until every client has gone"),
    **dict.fromkeys(("huey_consumer", "huey_consumer.py"), ("INT", "loses its running tasks")),
}
# The STOPSIGNAL of their official images, which `docker stop` sends.
STOPSIGNALS = {
    "nginx": "QUIT",
    "openresty": "QUIT",
    "php-fpm": "QUIT",
    "httpd": "WINCH",
    "httpd-foreground": "WINCH",
    "apache2": "WINCH",
    "apache2-foreground": "WINCH",
    "haproxy": "USR1",
}
KILLS_BY_ITSELF = {"su", "runuser", "script"}  # 2 s after they have passed SIGTERM on
_OF_SU = 'set user = "..." instead, or use setpriv or gosu'
_SCRIPT = ("script", "/usr/bin/script")  # ./script is likely to be something else
_INSTEAD = {"script": "do without it"}
# What that signal needs besides.
NEEDS = {
    "php-fpm": (
        ", and process_control_timeout in its configuration, the seconds that a request may take: "
        "with 0, the default, QUIT cuts them too"
    ),
}
# Squid waits all of shutdown_lifetime, also when no client is there.
SQUID_WAITS = 30.0
CLOSES_ITS_PAGES = {
    "nginx",
    "haproxy",
}  # their status pages are refused as soon as they stop, while they still serve
KEEPS_CONNECTIONS = {"node", "nodejs", "bun", "npm", "npx", "pnpm", "yarn"}
SHELLS = model.SHELLS - {"busybox"}  # which is many a program
RUNNERS = {"npm", "npx", "pnpm", "yarn"}  # they start the server beside themselves, in a shell
NODES = {"node", "nodejs"}
_REPORTS = re.compile(r"--report-on-signal\b")
# What ends these servers.
MEANS_STOP = {
    **dict.fromkeys(
        ("nginx", "unicorn", "php-fpm", "gunicorn", "uwsgi", "postgres", "starman"), ("QUIT",)
    ),
    "haproxy": ("USR1",),
}
_ENDS = ("ABRT", "SEGV", "BUS", "FPE", "ILL", "TRAP", "SYS")
_OF_SUPERVISORD = re.compile(  # %(h)s alone may be gunicorn's, of its log
    r"%\((?:ENV_(\w+)|program_name|group_name|process_num|numprocs|host_node_name|here)\)\d*[sd]"
)
# $PORT or ${PORT}, as a shell would fill it in, at the end of a word.
_VARIABLE = re.compile(r"\$\{?([A-Z_][A-Z0-9_]*)\}?$")
_BY_SU = re.compile(r"(?:^|[;&|\s])(su|runuser)\s+(?:-|[a-z])[^;&|\n]*\s-c\b")
# A script that replaces itself, or that handles signals, does not die of the stop signal.
_HANDLED = re.compile(r"(^|[;&|]|\bthen|\belse|\bdo)\s*(exec|trap)\s", re.MULTILINE)


def doubts(settings: Settings) -> Iterator[str]:
    """Yield what may not be meant, each in a line."""
    yield from _about_the_run(settings)
    if settings.programs:
        yield from _named(settings.programs, _about_one)
        yield from _between(settings)
    else:
        yield from _about_one(settings)


def _named(
    programs: Iterable[Settings], find: Callable[[Settings], Iterator[str]]
) -> Iterator[str]:
    """Yield what is found about each program, behind its name; what is found about several is said
    once."""
    found: dict[str, list[str]] = {}
    for one in programs:
        for text in find(one):
            found.setdefault(text, []).append(one.name)
    for text, names in found.items():
        yield f"{listed(names)}: {text}"


def _about_the_run(settings: Settings) -> Iterator[str]:
    """Yield what may not be meant of what is said for all."""
    budget = settings.shutdown_timeout
    if budget == 0:
        yield 'shutdown_timeout = "0s" kills at once; nothing is stopped gracefully'
    elif budget > 30:
        yield (
            f'shutdown_timeout = "{show_duration(budget)}" is longer than what Docker (10 s), '
            "Kubernetes and ECS (30 s) grant: "
            "raise their limit too (docker stop -t, terminationGracePeriodSeconds, stopTimeout)"
        )
    yield from _stopsignals(settings)
    if settings.report_termination_log and settings.report_termination_log == settings.report_file:
        yield (
            "report.file and report.termination_log are the same file; the second one written wins"
        )
    for key in ("log.file", "report.file", "report.termination_log", "report.prometheus_textfile"):
        file = getattr(settings, key.replace(".", "_"))
        if file and not os.path.isdir(os.path.dirname(file)):
            yield f'{key} = "{file}" cannot be written here: its directory does not exist'
    file = settings.report_prometheus_textfile
    if file and not file.endswith(".prom"):
        yield (
            f'report.prometheus_textfile = "{file}" does not end in .prom, and node_exporter '
            "reads no other files"
        )


def _stopsignals(settings: Settings) -> Iterator[str]:
    """Yield which images are stopped by a signal that is no stop request here."""
    found: dict[str, list[str]] = {}
    for one in settings.each:
        program = foreground.program_of(one.command[0]) if one.command else ""
        if program in STOPSIGNALS:
            programs = found.setdefault(STOPSIGNALS[program], [])
            programs += [program] if program not in programs else []
    for signum, programs in found.items():
        if signals.number(signum) in settings.stop_requests:
            continue
        every = "every program" if settings.programs else "the command"
        wanted = [signals.name(one).removeprefix("SIG") for one in sorted(settings.stop_requests)]
        words = ", ".join(f'"{word}"' for word in (*wanted, signum))
        yield (
            f"the official image of {listed(programs)} has STOPSIGNAL SIG{signum}, which is no "
            f"stop request here: docker stop would have it passed on to {every}, without order, "
            f"delay or budget; write stop_on = [{words}], or STOPSIGNAL SIGTERM in the Dockerfile"
        )


def _about_one(settings: Settings) -> Iterator[str]:
    """Yield what may not be meant of one program."""
    if settings.stop_signal == SIGKILL:
        yield 'stop_signal = "KILL" stops nothing gracefully: no program can handle it'
    if settings.dump_signal is not None:
        yield from _about_dumps(settings, settings.dump_signal)
    yield from _about_the_process(settings)
    yield from _about_the_rest(settings)
    asked = (("ready", settings.ready), ("live", settings.live), ("drain", settings.drain))
    for name, drain in asked:
        for probe in drain.probes if drain else ():
            yield from _about_probe(name, probe, settings)
    if settings.command:
        yield from _about_command(settings)


def _about_dumps(settings: Settings, signum: int) -> Iterator[str]:
    """Yield what may not be meant of dump_signal."""
    short = signals.name(signum).removeprefix("SIG")
    said = f'dump_signal = "{short}"'
    if signum == settings.stop_signal or signum in {sent for _, sent in settings.escalation}:
        yield f"{said} is a signal of the stop too, and would be sent to it once more"
    if settings.stop_timeout is not None and settings.stop_timeout < held_up_looks.SHORT:
        least = f"{held_up_looks.SHORT:g} s"
        yield f"{said} is never sent: with less than {least} to stop nobody looks at it"
    program = foreground.program_of(settings.command[0]) if settings.command else ""
    words = " ".join(settings.command)
    if program in NODES and short == "USR1":
        yield f"{said} opens the debugger of Node.js; with --report-on-signal write USR2"
    elif program in NODES and not _REPORTS.search(f"{words} {_variable(settings, 'NODE_OPTIONS')}"):
        yield f"{said}: Node.js writes a report only with --report-on-signal"
    elif program in MEANS_STOP and short in MEANS_STOP[program]:
        yield f"{said} does not make {program} write a dump: it stops by that signal"
    elif short in _ENDS:
        yield f"{said} ends a program that handles it; so it is sent just before SIGKILL only"


def _variable(settings: Settings, name: str) -> str:
    value = settings.env.get(name, os.environ.get(name, ""))
    return value if isinstance(value, str) else ""


def _between(settings: Settings) -> Iterator[str]:
    """Yield what may not be meant of several programs together."""
    waited_for = {
        needed
        for one in settings.programs
        for needed, how in one.depends_on.items()
        if how == "ready"
    }
    if silent := [
        one.name for one in settings.programs if one.name in waited_for and one.ready is None
    ]:
        first, is_ready = silent[0], "is ready" if len(silent) == 1 else "are ready"
        yield (
            f"nothing tells when {listed(silent)} {is_ready}, so what depends on it starts at "
            "once, and may find nobody there; "
            f'write ready = "tcp" (it listens) in [programs.{first}], or depends_on = {{{first} = '
            f'"started"}} where that will do'
        )
    chosen = next((one for one in settings.programs if one.name == settings.exit_code_from), None)
    if chosen is not None and chosen.oneshot:
        yield (
            f"exit_code_from = {problems.show(chosen.name)}: it is a oneshot, and when it has "
            "completed the others go on; write "
            f"oneshot = false in [programs.{chosen.name}] if its end is to be the end of all"
        )


def _about_the_process(settings: Settings) -> Iterator[str]:
    """Yield what a start would refuse here, where it may be checked for another machine, and what
    looks like a slip."""
    if settings.changes_process:
        from gracewrap.config import user_lookup

        yield from user_lookup.faults(settings)
    for name in settings.env:
        if name in BY_KEY:
            yield (
                f"env has a variable {name}, which is a setting too: all below [env] belongs to "
                "it; move it up if it does not"
            )


def _about_the_rest(settings: Settings) -> Iterator[str]:
    """Yield what may not be meant of hooks and endpoints."""
    if settings.propagation_delay and not settings.health_listen:
        yield (
            "propagation_delay without health.listen: unless others do (a service mesh), nobody "
            "tells that the stop has begun"
        )
    for key in ("pre_stop", "post_stop", "drain.start"):
        action = getattr(settings, key.replace(".", "_"))
        if isinstance(action, CommandAction):
            yield from _not_found(key, action.command)


def _not_found(key: str, command: Sequence[str]) -> Iterator[str]:
    if shutil.which(command[0]) is None:
        yield f"{key} runs {problems.show(command[0])}, which is not found or not executable here"


LOOPBACK = ("localhost", "127.", "::1")
SECRET = {"authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token"}


def _about_probe(name: str, probe: ProbeSpec, settings: Settings) -> Iterator[str]:
    """Yield what may not be meant of a probe; *name* says what for."""
    program = foreground.program_of(settings.command[0]) if settings.command else ""
    if isinstance(probe, HttpProbeSpec):
        yield from _about_url(name, probe, settings)
        if name == "drain" and program in CLOSES_ITS_PAGES:
            cut = (
                ', and with on_refused = "drained" requests are cut'
                if probe.on_refused == "drained"
                else ""
            )
            yield (
                f"{program} closes its pages when its drain starts, and still serves{cut}; write "
                "a probe by tcp instead"
            )
    elif isinstance(probe, TcpProbeSpec) and name == "drain":
        yield from _about_connections(program, probe, settings)
    elif isinstance(probe, ExecProbeSpec):
        yield from _not_found(name, probe.command)


def _about_url(name: str, probe: HttpProbeSpec, settings: Settings) -> Iterator[str]:
    """Yield what may not be meant of the URL that a probe asks, and of the headers it sends."""
    url = probe.request.url
    local = url.scheme == "unix" or url.host.startswith(LOOPBACK)
    ours = any(
        (address.path or address.port) == (url.port or url.host)
        for address in settings.health_listen
    )
    if local and ours:
        yield (
            f"{name} asks {url.shown}, and there (health.listen) gracewrap itself answers; "
            "write the command's own address"
        )
    elif not local and name == "drain":
        yield (
            f"drain asks {url.shown}: is it the drain of another machine? The command's own "
            "is at 127.0.0.1"
        )
    for header in probe.request.headers:
        if header.name.lower() in SECRET and not header.env and not header.file:
            yield (
                f'{name} has a {header.name} header in plain words; write {{env = "X"}} or '
                f'{{file = "/run/secrets/x"}}'
            )


def _about_connections(program: str, probe: TcpProbeSpec, settings: Settings) -> Iterator[str]:
    """Yield what may not be meant of a drain that looks at the connections of *program*."""
    if probe.mode == "idle" and probe.quiet > settings.shutdown_timeout:
        yield (
            f'drain.quiet = "{show_duration(probe.quiet)}" is longer than the whole budget: '
            "little would ever be drained"
        )
    held = settings.drain_when == "before-signal"  # then it is one that dies of the stop signal
    if (
        program in KEEPS_CONNECTIONS
        and not held
        and settings.drain_linger is None
        and "drain.linger" not in settings.origins
    ):
        yield (
            f"{program} often stays when a connection is kept alive, and a probe by tcp alone "
            "does not end it early: write "
            'drain.linger = "2s" if it does no work in the background'
        )


def _about_command(settings: Settings) -> Iterator[str]:
    word = settings.command[0]
    if (
        shutil.which(
            os.path.join(settings.working_dir, word)
            if settings.working_dir and "/" in word
            else word
        )
        is None
    ):
        hint = (
            "; it is one word with spaces: write the arguments as words of their own"
            if " " in word.strip()
            else ""
        )
        yield f"the command {problems.show(word)} is not found or not executable here{hint}"
    yield from _about_dollars(settings.command)
    yield from _about_supervisord(settings)
    program = foreground.program_of(word)
    signum, what = WANTED.get(program, ("", ""))
    if signum and "stop_signal" not in settings.origins:
        option = "" if settings.name else f" (--stop-signal {signum})"
        besides = NEEDS.get(program, "")
        yield f'{program} {what} on SIGTERM; write stop_signal = "{signum}"{option}{besides}'
    if program == "php-fpm" and settings.stop_signal == signals.number("QUIT"):
        yield from server_configuration.about_php_fpm(settings)
    write = foreground.advice(settings.command)
    if write and not server_configuration.keeps_in_foreground(settings):
        yield (
            f"{program} goes to the background, and a command that does so ends the run: write "
            f"{write}"
        )
    yield from _about_squid(program, settings)
    if by := _kills_by_itself(settings.command):
        yield (
            f"{by} forwards SIGTERM and sends SIGKILL 2 s later, whatever the budget: work that "
            f"takes longer is lost; {_INSTEAD.get(by, _OF_SU)}"
        )
    yield from _about_workers(program, settings)


def _about_squid(program: str, settings: Settings) -> Iterator[str]:
    """Yield why a stop of Squid takes the whole time."""
    limit = min(settings.shutdown_timeout, settings.stop_timeout or settings.shutdown_timeout)
    if program != "squid" or settings.stop_signal != SIGTERM or limit > SQUID_WAITS + 2:
        return
    found = server_configuration.text(settings, ("-f",), ("/etc/squid/squid.conf",))
    if not re.search(r"^\s*shutdown_lifetime\s", found, re.MULTILINE):
        yield (
            "squid stays for all of shutdown_lifetime (30 seconds by default) after SIGTERM, also "
            f"without a client, and is killed after {show_duration(limit)}; write "
            "shutdown_lifetime in squid.conf, some seconds below that"
        )


def _about_workers(program: str, settings: Settings) -> Iterator[str]:
    """Yield what cuts the tasks of a worker."""
    if program == "arq":
        yield (
            "arq cancels its running jobs on SIGTERM, and runs them again from the start later; "
            "set job_completion_wait in its WorkerSettings to the seconds that a job may take"
        )
    if program == "celery" and settings.kill_mode == "group":
        yield (
            "celery loses its tasks if all its processes get the stop signal; leave kill_mode at "
            '"mixed"'
        )
    if settings.preset == "celery" and not _escalates(settings):
        limit = settings.shutdown_timeout
        limit = limit if settings.stop_timeout is None else min(limit, settings.stop_timeout)
        yield (
            "the SIGQUIT of preset celery comes 20 s before the end, and is left out in "
            f"{show_duration(limit)}: what still runs then is lost by SIGKILL; write a longer "
            f'budget, or escalation = [{{after = "{show_duration(0.75 * limit)}", '
            'signal = "QUIT"}]'
        )


def _escalates(settings: Settings) -> bool:
    """Return whether there are rungs, or it is said that there are to be none."""
    return bool(settings.escalation) or "escalation" in settings.origins


def _about_dollars(command: Sequence[str]) -> Iterator[str]:
    """Yield which words hold a variable that nobody fills in."""
    if os.path.basename(command[0]) in SHELLS or "-c" in command or "-e" in command:
        return
    for word in command[1:]:
        if found := _VARIABLE.search(word):
            yield (
                f"no shell fills in the {found[0]} of {problems.show(word)}: write the value, or "
                f"run it by a shell (sh -c 'exec {os.path.basename(command[0])} ...'); in a file "
                f"${{{found[1]}}} is filled in"
            )
            return


def _about_supervisord(settings: Settings) -> Iterator[str]:
    """Yield which words hold a variable as supervisord's files have it: nobody fills it in."""
    for word in (*settings.command, *settings.env.values(), settings.working_dir or ""):
        if isinstance(word, str) and (found := _OF_SUPERVISORD.search(word)):
            cure = f"${{{found[1]}}} in a file, or the value" if found[1] else "the value"
            where = f"{found[0]} of {problems.show(word)}"
            yield f"nothing fills in supervisord's {where}: write {cure}"


def _kills_by_itself(command: Sequence[str]) -> str:
    """Return which of KILLS_BY_ITSELF a command is run by; "" if by none."""
    program = foreground.program_of(command[0])
    if program in KILLS_BY_ITSELF and (program != "script" or command[0] in _SCRIPT):
        return program
    script = _script(command) or (command[2] if program in SHELLS and len(command) > 2 else "")
    found = _BY_SU.search(script)
    return found[1] if found else ""


def exit_status(settings: Settings) -> Iterator[str]:
    """Yield what is to be said of commands whose exit status after a good stop looks like a
    failure."""
    if settings.programs:
        yield from _named(settings.programs, _failing_status)
    else:
        yield from _failing_status(settings)


def _failing_status(settings: Settings) -> Iterator[str]:
    if (
        not settings.command
        or settings.oneshot
        or settings.stop_signal != SIGTERM
        or 128 + SIGTERM in settings.success_exit_codes
    ):
        return
    program = foreground.program_of(settings.command[0])
    if program in RUNNERS:
        why = f"{program} dies of SIGTERM itself, whatever its server does"
    elif (script := _script(settings.command)) and not _HANDLED.search(script):
        why = f"{program} runs a shell script without exec or trap, which dies of SIGTERM"
    else:
        return
    write = 'success_exit_codes = ["TERM"]' if settings.name else "--success-exit-codes TERM"
    yield f"{why}: the exit status after a good stop is 143. To have it count as 0: {write}"


def _script(command: Sequence[str]) -> str:
    """Return the text of the shell script that *command* runs; "" if it is none, or cannot be
    read."""
    word, *words = command
    if foreground.program_of(word) not in SHELLS:
        text = server_configuration.first_bytes(shutil.which(word) or "")
        first = text.partition("\n")[0].split()
        return (
            text
            if first and text.startswith("#!") and SHELLS.intersection(map(os.path.basename, first))
            else ""
        )
    for position, option in enumerate(words):
        if re.fullmatch(r"-\w*c", option):
            text = "".join(words[position + 1 : position + 2])
            return (
                text if re.search(r"[;&|\n]", text.strip()) else ""
            )  # a single command takes the shell's place
        if option[:1] not in "-+":
            return server_configuration.first_bytes(option)
    return ""
