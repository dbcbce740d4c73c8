"""`gracewrap drill`: rehearse the stop under load, with a verdict."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import sys

from gracewrap.cli import drill_progress, own_options, show_picture
from gracewrap.cli.wait import complain
from gracewrap.config import command_line, load
from gracewrap.config.settings import COMMAND_LINE
from gracewrap.config.values import BadValue, duration
from gracewrap.drill.model import FAIL, PASSED, Asked, Balancer, Unready
from gracewrap.linux import launcher, signals
from gracewrap.record import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gracewrap.config.settings import Settings
    from gracewrap.drill.model import Run, Verdict

OPTIONS = {
    "--url": "http://127.0.0.1:3000/",
    "--method": "POST",
    "--body": "'{}'",
    "--header": "'Accept: text/html'",
    "--load-command": "'vegeta attack -targets targets -duration 10s | vegeta encode'",
    "--job-command": "./jobs.sh",
    "--job-timeout": "30s",
    "--rate": "20",
    "--request-timeout": "30s",
    "--ready-timeout": "30s",
    "--stop-after": "2s",
    "--balancer": "lag=2s",
    "--rolling": "",
    "--repeat": "20",
    "--compare": "bare,tini",
    "--max-lost": "0",
    "--max-twice": "0",
    "--max-duration": "25s",
    "--expect-exit": "0",
    "--seed": "7",
    "--json": "",
    "--html": "drill.html",
    "--junit": "drill.xml",
    "--github": "",
}
TWINS = ("bare", "tini", "dumb-init")
BALANCERS = ("readiness", "lag", "connections", "none")


# A method, or the name of a header (RFC 9110, 5.6.2).
TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class Misused(Exception):
    """An option has an unusable value."""


def run(words: Sequence[str]) -> int:
    """Run `gracewrap drill WORDS`: 0 passed, 1 failed, 2 inconclusive, 125 it could not be held,
    128 + N if signal N ended it."""
    words, own, problem = own_options.taken(words, OPTIONS)
    problem = problem or own_options.mistyped(words, OPTIONS)
    line = command_line.read_command_line(words)
    if line.action == "help":
        print(HELP, end="")
        return 0
    if problem:
        complain(problem)
        return 125
    # Whether the options are good shows with a port in the place of {port}, whichever it will be.
    filled = command_line.read_command_line([word.replace("{port}", "1") for word in words])
    settings, problems = load.resolve(filled, os.environb)
    if len(problems) == 1 and _has_nothing(filled):
        complain("nothing to run: use gracewrap drill --url URL -- COMMAND [ARG...], or --config "
                 "FILE with a command in it")  # fmt: skip
        return 125
    if settings is None:
        for one in problems:
            complain(one.text)
        return 125
    if "--rolling" in own and any(one.key == "health.listen" for one in filled.given):
        complain(f"cannot use --rolling with --health-listen ({COMMAND_LINE}): two run at once, "
                 "and the drill gives each an address of its own; leave it out")  # fmt: skip
        return 125
    options = words[: len(words) - len(line.command)]
    options = options[:-1] if options and options[-1] == "--" else options
    try:
        asked = _asked(own, settings, tuple(options), line.command)
    except Misused as fault:
        complain(str(fault))
        return 125
    return _drill(asked, own)


def _has_nothing(line: command_line.CommandLine) -> bool:
    """Return whether there is neither a command nor a file of settings."""
    named = load.config_file(line, os.environb)[0] or load.found_file(line, os.environb)
    return not (line.command or line.problems or named)


def _drill(asked: Asked, own: dict[str, list[str]]) -> int:
    if launcher.is_single_file():
        complain(
            "cannot hold the drill: the single file does not have what makes the load; use "
            "gracewrap in a Python with httpx"
        )
        return 125
    import asyncio

    from gracewrap.drill import rehearsal, verdict
    from gracewrap.drill.http_load import require

    try:
        if asked.urls:
            require()
        with drill_progress.shown() as tell:
            runs = asyncio.run(rehearsal.run(asked, tell))
    except Unready as fault:
        complain(f"cannot hold the drill: {fault}")
        return 125
    except rehearsal.Interrupted as fault:
        complain(f"ended by {signals.name(fault.signum)}; all that the drill started is gone")
        return 128 + fault.signum
    except KeyboardInterrupt:  # before anything was started
        complain("interrupted")
        return 130
    judged = verdict.judge(asked, runs)
    try:
        _show(asked, runs, judged, own)
    except OSError as fault:
        complain(f"cannot write {fault.filename}: {fault.strerror}")
        return 125
    return {PASSED: 0, FAIL: 1}.get(judged.outcome, 2)


def _show(asked: Asked, runs: Sequence[Run], judged: Verdict, own: dict[str, list[str]]) -> None:
    """Write all that is asked for.  Raises OSError."""
    from gracewrap.drill import formats, page

    as_json = "--json" in own
    width = shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else None
    chart = None if width is None or as_json else formats.timeline(runs[0])
    if chart is not None:
        show_picture.show((chart,))
        print()
    told = formats.as_json(runs, judged) if as_json else formats.text(runs, judged, width)
    sys.stdout.write(told)
    if as_json:  # which is a file, more often than not
        verdict = f"{judged.outcome}: {'; '.join(judged.reasons)}"
        print(f"gracewrap drill: {verdict}", file=sys.stderr, flush=True)
    if "--github" in own or os.environ.get("GITHUB_ACTIONS") == "true":
        # The runner reads both streams; JSON goes to a program.
        (sys.stderr if as_json else sys.stdout).write(formats.github(runs, judged))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with open(summary, "a", encoding="utf-8") as file:
            file.write(formats.markdown(runs, judged))
    for path in own.get("--junit", ()):
        show_picture.write(path, formats.junit(runs, judged))
    for path in own.get("--html", ()):
        show_picture.write(path, page.html(asked, runs, judged))


def _asked(
    own: dict[str, list[str]], settings: Settings, options: tuple[str, ...], command: Sequence[str]
) -> Asked:
    """Return what is asked for.  Raises Misused."""
    urls = tuple(own.get("--url", ()))
    for url in urls:
        if wrong := _wrong_url(url):
            raise _misused("--url", url, wrong)
    job_command = _job_command(own)
    if not urls and not job_command:
        raise Misused(f"cannot hold a drill without --url ({COMMAND_LINE}): write --url "
                      f"{OPTIONS['--url']}, where the command answers, or --job-command for a "
                      "worker")  # fmt: skip
    compare = tuple(word for word in ",".join(own.get("--compare", ())).split(",") if word)
    for word in compare:
        if word not in TWINS:
            raise _misused("--compare", word, f"it must be one of {', '.join(TWINS)}")
    if compare and not command:
        raise Misused("cannot use --compare without a command after --: twins read no file")
    # Two that run at once cannot have one address; the variable goes before the file.
    listen = [one for one in settings.health_listen if one.port and "--rolling" not in own]
    _can_be_written(own)
    asked = Asked(
        tuple(command),
        options,
        urls,
        load_command=_last(own, "--load-command", ""),
        job_command=job_command,
        method=_method(own),
        body=_last(own, "--body", ""),
        headers=_headers(own),
        rolling="--rolling" in own,
        compare=compare,
        budget=settings.shutdown_timeout,
        preset=next((one.preset for one in settings.each if one.preset), ""),
        held=all(one.drain_when == "before-signal" for one in settings.each),
        health=f"{listen[0].host.strip('*') or '127.0.0.1'}:{listen[0].port}" if listen else "",
    )
    _go_together(asked)
    return _with_numbers(asked, own)


def _can_be_written(own: dict[str, list[str]]) -> None:
    """Raise Misused if a file cannot be written: better now than when the drill is over."""
    for name in ("--html", "--junit"):
        for path in own.get(name, ()):
            if os.path.isdir(path):
                raise _misused(name, path, "it is a directory")
            directory = os.path.dirname(path) or "."
            if not os.path.isdir(directory):
                raise _misused(name, path, f"there is no directory {directory}")
            if not os.access(path if os.path.exists(path) else directory, os.W_OK):
                raise _misused(name, path, "it cannot be written")


def _wrong_url(url: str) -> str:
    """Return what is wrong with a URL; "": nothing."""
    from urllib.parse import urlsplit

    if not url.startswith(("http://", "https://")):
        return "it must start with http:// or https://"
    try:
        parts = urlsplit(url.replace("{port}", "1"))
        if parts.hostname and parts.port != 0:
            return ""
    except ValueError as fault:
        return str(fault)
    return "write the host and the port where the command answers"


def _method(own: dict[str, list[str]]) -> str:
    method = _last(own, "--method", "GET").upper()
    if not TOKEN.fullmatch(method):
        raise _misused("--method", method, "it must be a word such as POST")
    return method


def _headers(own: dict[str, list[str]]) -> dict[str, str]:
    found = {}
    for header in own.get("--header", ()):
        name, colon, value = header.partition(":")
        if not colon or not TOKEN.fullmatch(name.strip()):
            raise _misused("--header", header, "it must be NAME: VALUE")
        if not value.isascii() or not value.strip().isprintable():
            raise _misused("--header", header, "its value must be printable ASCII")
        found[name.strip()] = value.strip()
    return found


def _job_command(own: dict[str, list[str]]) -> tuple[str, ...]:
    text = _last(own, "--job-command", "")
    try:
        return tuple(shlex.split(text))
    except ValueError as fault:
        raise _misused("--job-command", text, str(fault)) from None


def _go_together(asked: Asked) -> None:
    """Raise Misused if what is asked for cannot be had at once."""
    if asked.rolling and asked.urls and not any("{port}" in url for url in asked.urls):
        raise Misused(f"cannot use --rolling ({COMMAND_LINE}): two run at once; write "
                      "{port} in --url and in the command, or let it read PORT")  # fmt: skip
    if asked.load_command and asked.job_command:
        raise Misused(f"cannot use --load-command and --job-command ({COMMAND_LINE}) in one drill")
    if asked.load_command and asked.rolling:
        raise Misused(f"cannot use --rolling with --load-command ({COMMAND_LINE}): the drill "
                      "cannot send its requests to the next instance")  # fmt: skip


def _with_numbers(asked: Asked, own: dict[str, list[str]]) -> Asked:
    """Return it with what is a number or a duration."""
    exits = _last(own, "--expect-exit", "0")
    found = replace(
        asked,
        rate=_number(own, "--rate", 5.0 if asked.job_command else 20.0, 0.1),
        job_timeout=_duration(own, "--job-timeout", 30.0) or 30.0,
        max_twice=int(_number(own, "--max-twice", 0, 0)),
        repeat=int(_number(own, "--repeat", 1, 1)),
        max_lost=int(_number(own, "--max-lost", 0, 0)),
        seed=int(_number(own, "--seed", 0, 0)),
        request_timeout=_duration(own, "--request-timeout", 30.0) or 30.0,
        ready_timeout=_duration(own, "--ready-timeout", 30.0) or 30.0,
        refused_timeout=_duration(own, "--ready-timeout", None) or asked.refused_timeout,
        stop_after=_duration(own, "--stop-after", None),
        max_duration=_duration(own, "--max-duration", None),
        expect_exit=None if exits == "any" else int(_number(own, "--expect-exit", 0, 0)),
    )
    return replace(found, balancer=_balancer(own))


def _balancer(own: dict[str, list[str]]) -> Balancer:
    kind, _, lag = _last(own, "--balancer", "readiness").partition("=")
    if kind not in BALANCERS:
        raise _misused("--balancer", kind, f"it must be one of {', '.join(BALANCERS)}")
    default = {"readiness": 0.5, "lag": 1.0, "connections": 1.0}.get(kind, 0.0)
    try:
        return Balancer(kind, duration(lag) if lag else default, "--balancer" in own)
    except BadValue as fault:
        raise _misused("--balancer", lag, str(fault)) from None


def _last(own: dict[str, list[str]], name: str, default: str) -> str:
    return own[name][-1] if name in own else default


def _number(own: dict[str, list[str]], name: str, default: float, least: float) -> float:
    text = _last(own, name, f"{default:g}")
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not least <= found <= 100_000:
        raise _misused(name, text, f"it must be a number, at least {least:g}")
    return found


def _duration(own: dict[str, list[str]], name: str, default: float | None) -> float | None:
    if name not in own or own[name][-1] == "random":
        return default
    try:
        return duration(own[name][-1])
    except BadValue as fault:
        raise _misused(name, own[name][-1], str(fault)) from None


def _misused(name: str, value: str, why: str) -> Misused:
    return Misused(f'cannot use {name} = "{value}" ({COMMAND_LINE}): {why}')


HELP = """\
gracewrap drill rehearses a stop: it starts the command under gracewrap as it
would run, waits until it answers, sends it requests by the clock, stops it in
the middle, and says what became of each request. It needs httpx
(pip install httpx).

Usage:
  gracewrap drill --url URL [DRILL OPTIONS] [OPTIONS] [--] COMMAND [ARG...]
  gracewrap drill --url URL [DRILL OPTIONS] --config FILE
  gracewrap drill --job-command COMMAND [DRILL OPTIONS] [OPTIONS] -- COMMAND

Options:
  It takes all options of a run as well (gracewrap help all lists them). {port}
  in the command and in URLs is a free port, which is in PORT too.
  --url URL           Where requests go; the option can be repeated.
  --method, --body, --header 'NAME: VALUE'
                      What is sent. [default: GET]
  --rate N            Requests a second, half of them on kept-alive connections.
                      They are sent by the clock, whether the others have been
                      answered or not. [default: 20; jobs: 5]
  --load-command COMMAND
                      A load of your own, for /bin/sh, to be judged by the JSON
                      lines that it prints: vegeta attack ... | vegeta encode.
                      It ends by itself; --url says when the command is up.
  --job-command COMMAND
                      Jobs instead of requests. COMMAND enqueue ID puts a job
                      into the queue, COMMAND ask prints the IDs of those that
                      have been done, one a line, once for each time. After the
                      stop the next instance does what is left.
  --job-timeout DURATION
                      How long it may take from one to the next. [default: 30s]
  --stop-after DURATION|random
                      How long it is loaded before the stop. [default: random]
  --balancer HOW      Who takes it out of rotation: readiness[=EVERY] asks
                      /readyz; lag=TIME does after a time; connections=TIME too,
                      but open connections go on being used, as behind
                      kube-proxy; none: nobody. [default: readiness=500ms]
  --rolling           Start the next instance before, and stop as soon as that
                      is ready (/readyz); it takes what goes elsewhere.
  --repeat N          So many stops, at different moments.
  --compare bare,tini,dumb-init
                      The same without gracewrap. A drill in which these lose
                      nothing either is inconclusive.
  --max-lost N, --max-twice N
                      Requests or jobs that may be lost, and jobs that may be
                      done twice. [default: 0]
  --max-duration DURATION, --expect-exit N|any
                      Further conditions. [default: exit with 0]
  --request-timeout, --ready-timeout DURATION
                      [default: 30s; 3s for a URL that answers 4xx]
  --seed N            Of the random moments.
  --json              Print all of it for machines: each request, the report.
  --html FILE         Write a page with the picture of requests and phases.
  --junit FILE        Write JUnit XML.
  --github            Print annotations, as it does where GITHUB_ACTIONS is
                      true; where GITHUB_STEP_SUMMARY is set the summary is
                      written.
  -h, --help          Print this help.

Examples:
  gracewrap drill --url http://127.0.0.1:3000/ -- node server.js
  gracewrap drill --job-command ./jobs.sh -- celery -A tasks worker
  gracewrap drill --url http://127.0.0.1:{port}/slow --repeat 10 \\
      --compare bare --drain-tcp auto -- ./server --port {port}

Exit status:
  0    passed
  1    failed: requests were lost, or another condition is not met
  2    inconclusive: this load cannot show a loss
  125  the drill could not be held
  130, 143, 129  SIGINT, SIGTERM or SIGHUP ended it and all that it had started
"""
