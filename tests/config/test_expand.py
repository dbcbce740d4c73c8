"""${NAME} in a file: where it is filled in, where it is not, and what is said if it cannot be."""

from __future__ import annotations

from pathlib import Path

from gracewrap.config.command_line import read_command_line
from gracewrap.config.load import resolve
from gracewrap.config.settings import FromFile


def expanded(tmp_path: Path, text: str, **env: str) -> tuple[object, list[str]]:
    (tmp_path / "g.toml").write_text(text)
    settings, problems = resolve(
        read_command_line(["--config", str(tmp_path / "g.toml")]),
        {name.encode(): value.encode() for name, value in env.items()},
    )
    return settings, [problem.text for problem in problems]


def test_what_is_filled_in(tmp_path):
    text = """
    command = ["server", "--port=${PORT:-3000}", "$HOME", "$${X}", "kill $$$$",
               "${EMPTY}", "${EMPTY:-else}"]
    user = "${RUN_AS}"
    working_dir = "/srv/${APP}"
    env = {URL = "http://${HOST:-localhost}:${PORT:-80}/", KEY = {file = "/run/${APP}"}}
    pre_stop = {http = "http://${HOST:-127.0.0.1}/x"}
    post_stop = ["say", "${A B:-x}"]
    report.file = "/tmp/${APP}.json"
    [drain]
    http = "http://127.0.0.1:${PORT}/drain"
    text = '(a)$$'
    """
    settings, problems = expanded(tmp_path, text, PORT="1", RUN_AS="www", APP="a p", EMPTY="")
    assert (
        settings is None
        and len(problems) == 1
        and "${A B:-x} is neither ${NAME} nor" in problems[0]
    )
    settings, problems = expanded(
        tmp_path, text.replace("A B", "AB"), PORT="1", RUN_AS="www", APP="a p", EMPTY=""
    )
    assert problems == []
    assert settings.command == ("server", "--port=1", "$HOME", "${X}", "kill $$", "", "else")
    assert (settings.user, settings.working_dir, settings.report_file) == (
        "www",
        "/srv/a p",
        "/tmp/a p.json",
    )
    assert settings.env == {"URL": "http://localhost:1/", "KEY": FromFile("/run/a p")}
    assert (settings.pre_stop.request.url.host, settings.post_stop.command) == (
        "127.0.0.1",
        ("say", "x"),
    )
    assert settings.drain_http.port == 1 and settings.drain_text == "(a)$$"


def test_what_is_missing_has_its_line(tmp_path):
    text = '\ncommand = [\n  "x",\n  "${NONE}",\n]\n\n[env]\nA = "1"\nB = "${NOT_THERE} $"\n'
    _, problems = expanded(tmp_path, text)
    assert [problem.partition("; ")[0] for problem in problems] == [
        f"cannot use command ({tmp_path}/g.toml, line 4): there is no variable NONE in the "
        "environment",
        f"cannot use env ({tmp_path}/g.toml, line 9): there is no variable NOT_THERE in the "
        "environment",
    ]
    _, (problem,) = expanded(tmp_path, 'command = ["${X"]\n', X="1")
    assert "line 1): ${X is neither" in problem


def test_a_command_in_one_string_is_not_filled_in(tmp_path):
    """What a variable holds must not become several words."""
    _, (problem,) = expanded(tmp_path, 'command = ["x"]\npre_stop = "rm ${X}"\n', X="a b")
    assert "gracewrap runs no shell to read its ${" in problem
