"""The words after a subcommand: mistakes, help, and which gracewrap is meant."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from control_stub import ACTIONS, WIDTH, Done
from gracewrap.cli import app, control_client, subcommand
from gracewrap.server.control_socket import Instance
from processes import environment


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["drain", "--wiat"], "cannot use --wiat (gracewrap drain): no such option; use --wait"),
        (["health", "--watch"], "no such option; use "),
        (["status", "--pid", "x"], 'cannot use --pid = "x" (gracewrap status): not a pid; '),
        (["status", "--pid=0"], "not a pid"),
        (["status", "--pid", "9" * 5000], "not a pid"),
        (
            ["stop", "--timeout", "5"],
            'cannot use --timeout = "5" (gracewrap stop): has no unit; write "5s"',
        ),
        (["drain", "--timeout"], "it needs a value; write --timeout 20s"),
        (["drain", "--timeout", "--wait"], "it needs a value"),
        (["health", "--live=1"], "it takes no value; write --live"),
        (["status", "--socket", ""], "empty; write a path"),
        (["undrain", "now"], "gracewrap -- undrain"),
        (["stop", ""], "empty; write a NAME"),
        (["status", "a", "b"], "one at a time"),
        (["stop", "--wait", "--no-wait"], "use one of them"),
        (["restart", "--wait"], "no such option; use --no-wait"),
        (["undrain", "\x1b[2J"], r"'\\x1b[2J'"),
        (["status", "--watch", "--json"], "use one"),
        (
            ["--log-level", "debug", "status"],
            "cannot use --log-level (command line) with status: it is an option of a run",
        ),
    ],
)
def test_a_mistake_is_named_with_what_to_write_and_ends_with_125(words, said):
    done = Done(*words)
    assert (
        (done.status, done.out) == (125, "")
        and said in done.err
        and done.err.startswith("gracewrap: cannot use ")
    )
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("action", ACTIONS)
def test_help_names_every_option_and_fits_a_terminal(action):
    done = Done(action, "--pid", "x", "--help")
    assert (done.status, done.err, done.out) == (0, "", subcommand.help_text(app.load(action)))
    for word in [
        *(name for option in app.load(action).options for name in option.names),
        "Example",
        "Exit status:",
        "PID 1",
        "docker exec",
    ]:
        assert word in done.out
    assert max(map(len, done.out.splitlines())) < WIDTH


def finds(*found: Instance) -> Callable[[int | None, str | None], list[Instance]]:
    return lambda pid, explicit: [one for one in found if pid in (None, one.pid)]


def test_the_only_one_is_meant_and_of_several_the_one_with_pid_1():
    one, other, init = Instance("/a", 71), Instance("/b", 72), Instance("/c", 1)
    assert control_client.choose(None, None, find=finds(one)) == one
    assert control_client.choose(None, None, find=finds(one, init, other)) == init
    assert control_client.choose(72, None, find=finds(one, other)) == other


def test_several_are_listed_with_their_commands(stub):
    there = Instance(stub.path, 72)
    with pytest.raises(control_client.Unusable) as fault:
        control_client.choose(None, None, find=finds(there, Instance("/gone", os.getpid())))
    lines = str(fault.value).splitlines()
    assert "2 gracewraps are running" in lines[0]
    listed = {line.split()[1]: " ".join(line.split()[2:]) for line in lines[1:]}
    assert listed["72"] == "node server.js" and "pytest" in listed[str(os.getpid())]


def test_root_finds_a_pid_1_of_another_user():
    init = Instance("/c", 1)
    assert control_client.choose(None, None, find=lambda pid, _: [init] if pid == 1 else []) == init


def test_nobody_is_there(tmp_path, stub):
    with pytest.raises(control_client.NoAnswer, match="docker exec"):
        control_client.choose(None, None, find=finds())
    for words, said in (
        (["--socket", str(tmp_path / "none")], "there is no such file"),
        (["--pid", "999999999"], "no such process"),
        (["--pid", str(os.getpid())], "not gracewrap"),
    ):
        done = Done("status", *words)
        assert done.status == 1 and said in done.err
    stub.end()
    Path(stub.path).touch()
    assert "nothing listens" in Done("status", "--socket", stub.path).err


def test_a_variable_names_the_socket_and_a_pid_goes_before_it(stub):
    named = environment(GRACEWRAP_CONTROL_SOCKET=stub.path)
    assert Done("health", env=named).out == "ready\n"
    assert "no such process" in Done("health", "--pid", "999999999", env=named).out
    missing = Done("status", env=environment(GRACEWRAP_CONTROL_SOCKET="/none"))
    assert missing.status == 1 and "(environment, GRACEWRAP_CONTROL_SOCKET)" in missing.err
