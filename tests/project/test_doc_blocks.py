"""Every fenced block of the README and of docs/ that can be tried is: commands, files, manifests.

Nothing is started: commands are parsed, files are checked as `gracewrap check` does.
"""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import tomli_w
import yaml

from gracewrap.cli import app, check_agent, cmd_check, cmd_drill, cmd_plan, own_options, subcommand
from gracewrap.cli.check_against import taken as without_manifests
from gracewrap.config.command_line import read_command_line
from gracewrap.config.load import resolve
from gracewrap.config.subcommand_names import SUBCOMMANDS
from processes import ROOT

DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LANGUAGES = {"toml", "sh", "console", "text", "yaml", "dockerfile", "ini", "python"}
# What the machine that checks lacks is no mistake of the documentation.
NOT_HERE = re.compile(
    r"not found or not executable|no such file|no directory|there is no (user|group)|warning: "
    r"|nothing would be started",
    re.IGNORECASE,
)


@cache
def blocks(*languages: str) -> list[tuple[str, str, str]]:
    """Return place, language and text of the blocks in these languages; without any, of all."""
    found = []
    for file in DOCS:
        text = file.read_text()
        for match in FENCED.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            if not languages or match[1] in languages:
                found.append((f"{file.name}:{line}", match[1], match[2]))
    return found


def places(found: list[tuple[str, ...]]) -> list[object]:
    """Return these as parameters that are named by their places."""
    return [pytest.param(*one[1:], id=one[0]) for one in found]


def commands(text: str) -> Iterator[str]:
    """Return the calls of gracewrap in a block, each in one line."""
    for line in text.replace("\\\n", " ").split("\n"):
        for part in re.split(r" && | & | \| |; ", line.split("    #")[0]):
            called = re.search(r"(?:^|\s)gracewrap( .*|)$", part.split(" > ")[0])
            # A block of text has what is printed too: only what follows a prompt is a command.
            if called and "gracewrap: " not in part and "pip install" not in part:
                yield called[1].strip()


MANIFESTS = [(place, text) for place, _, text in blocks("yaml") if "uses:" not in text]
WORKFLOWS = [(place, text) for place, _, text in blocks("yaml") if "uses:" in text]
CALLS = [
    (f"{place} {call}", call)
    for place, language, text in blocks("sh", "console", "text")
    for call in commands(
        text if language != "text" else "\n".join(re.findall(r"^\$ (.*)$", text, re.MULTILINE))
    )
]
INLINE = [
    (f"{file.name} {call}", call)
    for file in DOCS
    for call in dict.fromkeys(re.findall(r"`gracewrap( -[^`]*| [a-z][^`]*)`", file.read_text()))
    if " was not running" not in call
]


def test_every_block_says_what_it_is_in():
    assert {language for _, language, _ in blocks()} <= LANGUAGES
    for file in DOCS:
        fences = re.findall(r"^```.*$", file.read_text(), re.MULTILINE)
        assert all(fence != "```" for fence in fences[::2]), file.name
        assert all(fence == "```" for fence in fences[1::2]), file.name


def test_there_is_something_to_check():
    assert len(CALLS) > 10 and len(INLINE) > 20 and len(blocks("toml")) > 5
    assert len(blocks("dockerfile")) > 2 and len(blocks("yaml")) > 2


@pytest.mark.parametrize("call", places([*CALLS, *INLINE]))
def test_a_call_is_one_that_gracewrap_takes(call: str):
    call = re.sub(r"\[-*[^]]*\]|\.\.\.", "", call)  # what may be left out
    name, *words = [*shlex.split(call.split(" | ")[0], comments=True), ""]
    words = [word for word in words if word]
    if name == "help":
        return
    if name not in SUBCOMMANDS:
        words = [name, *words]
    elif name == "check" and (with_agent := check_agent.taken(words)) is not None:
        assert not with_agent.problem or words == ["--agent"]  # the name of it alone
        return
    elif name == "check":
        words, against = without_manifests(words)
        assert not against.problem
        words = [word for word in words if word not in (cmd_check.STRICT, cmd_check.JSON)]
    elif name in ("plan", "drill"):
        options = cmd_plan.OPTIONS if name == "plan" else cmd_drill.OPTIONS
        words, _, problem = own_options.taken(words, options)
        assert not problem
    else:
        if "--help" not in words:
            subcommand.read(app.load(name), words)
        return
    if words and words[0] != "SUBCOMMAND":
        line = read_command_line(words)
        assert not [problem.text for problem in line.problems]
        assert not (line.command and line.command[0].startswith("-"))


def test_what_make_is_asked_for_is_there():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    asked = {
        target
        for _, _, text in blocks("sh")
        for target in re.findall(r"^make (\w+)", text, re.MULTILINE)
    }
    assert asked and asked <= targets


def whole(text: str) -> str:
    """Return a file that can be checked: with the commands and programs that a part leaves out."""
    tree = tomllib.loads(text)
    programs = tree.get("programs", {})
    for program in list(programs.values()):
        wanted = program.get("depends_on", []), program.get("stop_after", [])
        for other in [one for names in wanted for one in names]:
            programs.setdefault(other, {"oneshot": other == "migrate"})
    for program in programs.values():
        program.setdefault("command", ["true"])
    if not programs:
        tree.setdefault("command", ["true"])
    return tomli_w.dumps(tree)


@pytest.mark.parametrize(("language", "text"), places(blocks("toml")))
def test_a_file_is_one_that_check_accepts(language, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("DB_HOST", "APP_TOKEN", "PORT", "QUEUE"):
        monkeypatch.setenv(name, "here")
    Path("g.toml").write_text(whole(text))
    cmd_check.run(["--config", "g.toml"])
    wrong = [line for line in capsys.readouterr().err.splitlines() if not NOT_HERE.search(line)]
    assert not wrong


@pytest.mark.parametrize(("language", "text"), places(blocks("dockerfile")))
def test_a_dockerfile_has_settings_that_are_there(language, text):
    env: dict[bytes, bytes] = {}
    for line in text.replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        assert not word or word.startswith("#") or word in {
            "ARG", "FROM", "COPY", "RUN", "WORKDIR", "ENV", "ENTRYPOINT", "CMD", "HEALTHCHECK"
        }, line  # fmt: skip
        if word in ("ENTRYPOINT", "CMD"):
            assert all(isinstance(one, str) for one in json.loads(rest))
        if word == "ENV":
            pairs = [pair.split("=", 1) for pair in shlex.split(rest)]
            env |= {name.encode(): value.encode() for name, value in pairs}
    settings, problems = resolve(read_command_line(["--", "true"]), env)
    assert settings is not None, [problem.text for problem in problems]
    assert not [problem.text for problem in problems if not problem.warning]


def test_the_dockerfile_for_node_is_the_one_of_the_examples():
    file = ROOT / "examples" / "node" / "Dockerfile"
    assert file.read_text() in {text for _, _, text in blocks("dockerfile")}
    allowed = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    (copied,) = re.findall(r"^COPY (\w\S+) \.$", file.read_text(), re.MULTILINE)
    assert (ROOT / copied).is_file() and copied.split("/")[0] in allowed


def manifest(text: str) -> str:
    """Return a manifest that can be checked; one that begins with `spec:` is the part of a pod."""
    tree = yaml.safe_load(text)
    if "spec" in tree and "kind" not in tree:
        tree = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, **tree}
        for container in tree["spec"]["containers"]:
            container["image"] = "web"
    return yaml.safe_dump(tree)


@pytest.mark.parametrize("text", places(MANIFESTS))
def test_a_manifest_has_no_error(text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("m.yaml").write_text(manifest(text))
    status = cmd_check.run(["--against", "m.yaml", "--format", "json"])
    out, err = capsys.readouterr()
    assert (status, err) == (0, ""), out


@pytest.mark.parametrize("text", places(WORKFLOWS))
def test_a_workflow_gives_the_action_what_it_takes(text):
    takes = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    needed = {name for name, one in takes.items() if one.get("required")}
    used = [one for one in yaml.safe_load(text) if "gracewrap" in one.get("uses", "")]
    assert used
    for one in used:
        assert needed <= set(one["with"]) <= set(takes)
        words = shlex.split(one["with"]["drill"])
        words, _, problem = own_options.taken(words, cmd_drill.OPTIONS)
        line = read_command_line(words)
        assert not problem and not line.problems and line.command


@pytest.mark.parametrize(("language", "text"), places(blocks("python")))
def test_python_can_be_compiled(language, text):
    compile(text, "docs", "exec")


def test_files_that_are_named_are_there():
    """What CONTRIBUTING.md and docs/internals.md say of files."""
    package = ROOT / "supervisor" / "gracewrap"
    missing = {
        f"{file.name}: {name}"
        for file in (ROOT / "CONTRIBUTING.md", ROOT / "docs" / "internals.md")
        for name in re.findall(r"`([\w./]+/[\w.]*\w\.(?:py|txt|c|md))`", file.read_text())
        if "NAME" not in name
        and not (ROOT / name).exists()
        and not (package / name).exists()
        and not (package.parent / name).exists()
    }
    assert not missing
