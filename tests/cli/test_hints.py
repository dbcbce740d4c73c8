"""What the subcommands say to a newcomer: help that fits, and hints that name what was meant."""

from __future__ import annotations

import io
import json

import pytest

from control_stub import ask, one_of, several
from gracewrap.cli import (
    app,
    cmd_check,
    cmd_drill,
    cmd_plan,
    help,
    subcommand,
    wait_for_programs,
)
from gracewrap.cli.preset_advice import advice
from gracewrap.config import command_line, load
from gracewrap.config.closest_name import closest
from gracewrap.config.subcommand_names import SUBCOMMANDS
from gracewrap.drill import formats, verdict
from gracewrap.drill.fates import Request
from gracewrap.drill.model import Asked, Run

READ_AS_A_RUN = {"check": cmd_check, "plan": cmd_plan, "drill": cmd_drill}


@pytest.mark.parametrize("name", [name for name in SUBCOMMANDS if name != "run"])
def test_every_help_fits_80_columns_and_sends_to_a_list_that_has_all_options(name):
    if name in READ_AS_A_RUN:
        text = READ_AS_A_RUN[name].HELP
        assert "gracewrap help all lists them" in " ".join(text.split())
    else:
        text = subcommand.help_text(app.load(name), 79)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["check", "--jsn", "--", "true"], "--json"),
        (["check", "--agianst", "web.yaml"], "--against"),
        (["check", "--preset", "node", "--stric", "--", "true"], "--strict"),
        (["plan", "--svgg", "stop.svg", "--", "true"], "--svg"),
        (["drill", "--repaet=2", "--", "true"], "--repeat"),
    ],
)
def test_a_misspelt_option_of_the_subcommand_is_recognised(words, meant, capsys):
    name = words[0]
    wrong = next(word for word in words if word.startswith("--") and word != "--preset")
    assert READ_AS_A_RUN[name].run(words[1:]) == 125
    said = f"cannot use {wrong.partition('=')[0]} (command line): no such option; did you mean "
    assert capsys.readouterr().err == f"gracewrap: {said}{meant}?\n"


@pytest.mark.parametrize("name", ["check", "plan"])
@pytest.mark.parametrize(
    "words", [["--svgg-of-mine"], ["--drain-tpc", "auto"], ["--log-level", "--jsn"]]
)
def test_other_mistakes_are_told_as_those_of_a_run(name, words, capsys):
    assert READ_AS_A_RUN[name].run([*words, "--", "true", "--jsn"]) == 125
    said = capsys.readouterr().err
    assert words[0] in said and "--json" not in said and "--svg?" not in said


@pytest.mark.parametrize("name", ["report", "learn"])
def test_an_empty_standard_input_is_called_so(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    assert app.call(name, []) == 125
    assert "cannot read standard input: it is empty" in capsys.readouterr().err


def test_completion_asks_for_the_shell(capsys):
    assert app.call("completion", []) == 125
    assert "use gracewrap completion bash" in capsys.readouterr().err


def test_help_for_a_preset_says_how_to_see_it(capsys):
    assert help.show(["nginx"], app.load) == 125
    assert "use gracewrap presets nginx" in capsys.readouterr().err


def test_check_against_prints_json_for_json(tmp_path, capsys):
    file = tmp_path / "compose.yaml"
    file.write_text("services: {web: {image: a, entrypoint: [gracewrap, --], command: [b]}}\n")
    status = cmd_check.run(["--against", str(file), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["containers"] and status == int(found["errors"] > 0)


def test_after_a_restart_it_says_what_is_still_stopped():
    def program(name: str, phase: str) -> dict[str, object]:
        return {"name": name, "phase": phase, "ready": phase == "running"}

    answer = {"request": 1, "named": ["web"], "programs": ["web"], "until": "started"}
    waited = wait_for_programs.Waited(answer, ["web"])
    up = {"phase": "running", "request": {"number": 1, "state": "over"}}
    programs = [program("web", "running"), program("nginx", "stopped"), program("db", "running")]
    found = waited.judge({**up, "programs": programs}, 3.4)
    assert found is not None and found[0] == 0
    assert found[1].endswith("; still stopped: nginx (gracewrap restart nginx)")
    found = waited.judge({**up, "programs": [programs[0], programs[2]]}, 3.4)
    assert found is not None and "still stopped" not in found[1]


def test_letters_that_have_changed_places_in_a_short_word_are_recognised():
    assert closest("tpc", ["http", "tcp", "exec"]) == "tcp"
    assert closest("x", ["http", "tcp", "exec"]) is None


def test_what_was_in_flight_before_a_program_ended_is_not_in_flight(stub):
    was = {"waiting_for": "tcp: 1 of 1 connection in flight", "why": "exited with 0"}
    programs = [one_of("nginx", "stopped", pid=None, **was), one_of("web")]
    stub.say("/status", (200, several("running", *programs)))
    for words in (["status"], ["status", "nginx"]):
        said = ask(stub, *words).out
        assert "exited with 0" in said and "in flight" not in said.replace("IN FLIGHT", "")


def test_one_sentence_for_programs_of_one_kind_and_none_for_what_runs_once(tmp_path):
    file = tmp_path / "gracewrap.toml"
    file.write_text(
        """
        [programs.migrate]
        command = ["node", "migrate.js"]
        oneshot = true
        [programs.web]
        command = ["node", "server.js"]
        [programs.worker]
        command = ["node", "worker.js"]
        """
    )
    line = command_line.read_command_line(["--config", str(file)])
    settings, problems = load.resolve(line, {})
    assert settings is not None, problems
    (said,) = advice(settings)
    assert said.startswith(
        'If web and worker are HTTP servers, use preset = "node" in [programs.web] and '
        "[programs.worker]: without it, "
    )


@pytest.mark.parametrize(
    ("fate", "at", "said"),
    [
        ("refused", 0.6, "; --propagation-delay 5s lets it serve on"),
        ("reset", -0.1, "--drain-when before-signal"),
        ("refused", -0.6, ""),
        ("timed out", 0.1, ""),
    ],
)
def test_a_drill_that_lost_requests_says_what_helps(fate, at, said):
    run = Run("gracewrap", 1.0, (Request("http://x/", at, at + 0.1, fate, False),), 2.0, 0)
    told = formats.text([run], verdict.judge(Asked(()), [run]))
    assert (said in told) if said else ("  refused: " not in told and "  reset " not in told)
