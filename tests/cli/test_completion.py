"""Shell completion and the manual page, made from the table of settings."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from gracewrap.config.schema import TABLE
from gracewrap.config.subcommand_names import SUBCOMMANDS
from processes import GRACEWRAP, environment, require


def printed(*words: str) -> str:
    done = subprocess.run(
        [*GRACEWRAP, *words], capture_output=True, text=True, timeout=60, env=environment()
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory):
    require(shutil.which("bash"), "bash")
    file = tmp_path_factory.mktemp("bash") / "gracewrap"
    file.write_text(printed("completion", "bash"))
    return file


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["undra"], {"undrain"}),
        (["--preset", "ngi"], {"nginx"}),
        (["--log-level", "w"], {"warning", "warn"}),
        (["--kill-mode", ""], {"mixed", "group", "process"}),
        (["--drain-tc"], {"--drain-tcp"}),
        (["check", "--drain-tc"], {"--drain-tcp"}),
        (["run", "--drain-tc"], {"--drain-tcp"}),
        (["--stop-timeout", "5s", "--drain-tc"], {"--drain-tcp"}),
        (["stop", "--no"], {"--no-wait"}),
        (["--config", "/etc/host"], {"/etc/hostname", "/etc/hosts"}),
        (["--stop-timeout", "5"], set()),
        (["--log-level", "=", "w"], {"warning", "warn"}),  # so bash cuts --log-level=w
        (["--log-level", "=", "warn", "--drain-tc"], {"--drain-tcp"}),
        (["check", "--str"], {"--strict"}),
        (["check", "--log-level", "w"], {"warning", "warn"}),
        (["drill", "--jun"], {"--junit"}),
        (["signal", "web", "HU"], {"HUP"}),
        (["plan", "--drain-tc"], {"--drain-tcp"}),
        (["check", "--aga"], {"--against"}),
        (["check", "--format", "sa"], {"sarif"}),
        (["check", "--against", "/etc/host"], {"/etc/hostname", "/etc/hosts"}),
        (["drill", "--comp"], {"--compare"}),
        (["drill", "--url", "http://x/", "--balancer", "re"], {"readiness"}),
        (["presets", "ngi"], {"nginx", "nginx-php-fpm"}),
        (["init", "--for", "cel"], {"celery"}),
        (["init", "--fo"], {"--for", "--force"}),
        (["report", "/etc/host"], {"/etc/hostname", "/etc/hosts"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
        (["help", "proc"], {"process"}),
        (["--stop-signal", "Q"], {"QUIT"}),
        ([""], {*SUBCOMMANDS, "help"}),
    ],
)
def test_bash_completes(bash_script, words, found):
    line = " ".join(f"'{word}'" for word in ["gracewrap", *words])
    script = (
        f'source "{bash_script}"; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _gracewrap; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    got = set(done.stdout.split())
    assert found <= got if found and "/" in "".join(found) else found == got, done.stderr


# A line, and a word that the shell itself completes it with.
LINES = {
    "gracewrap che": "check",
    "gracewrap --log-level warni": "warning",
    "gracewrap stop --no": "--no-wait",
    "gracewrap check --drain-tc": "--drain-tcp",
    "gracewrap check --str": "--strict",
    "gracewrap --stop-timeout 5s --stop-signal TER": "TERM",
    "gracewrap init --for ngi": "nginx",
    "gracewrap presets ngi": "nginx-php-fpm",
    "gracewrap completion z": "zsh",
    "gracewrap drill --comp": "--compare",
    "gracewrap help proc": "process",
    "gracewrap -- whoa": "whoami",
    "gracewrap ls --drain-tc": "",  # it is an option of ls
}


def test_fish_completes(tmp_path):
    require(shutil.which("fish"), "fish")
    (tmp_path / "script").write_text(printed("completion", "fish"))
    shown = "; ".join(f"echo LINE; complete -C '{line}'" for line in LINES)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {tmp_path}/script; {shown}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment(HOME=str(tmp_path)),
    )
    found = [part.split("\n") for part in done.stdout.split("LINE\n")[1:]]
    for (line, word), rows in zip(LINES.items(), found, strict=True):
        words = [row.partition("\t")[0] for row in rows]
        if line == "gracewrap -- whoa":
            continue  # fish offers files there
        assert word in words, (line, words)


# A zsh on a terminal of its own: Tab is typed behind a line, and what is offered is said.
ZSH = r"""
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z 'PROMPT=; autoload -U compinit; compinit -u -D; source $SCRIPT
compadd () {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
    typeset -a __h; builtin compadd -A __h "$@"
    for one in $__h; do print "OFFERED $one"; done
    builtin compadd "$@"
}
last () { print THE END }
tab () { comppostfuncs=(last); zle complete-word }; zle -N tab; bindkey "^I" tab
print "GO" "ON"'
while zpty -r z said; do [[ $said == *"GO ON"* ]] && break; done
for line in "${(@f)TYPED}"; do
    zpty -w -n z $'\x15'"$line"$'\t'
    print "LINE"
    while zpty -r z said; do
        [[ $said == *"OFFERED "* ]] && print -r -- "${${said##*OFFERED }%%$'\r'*}"
        [[ $said == *"THE END"* ]] && break
    done
done
zpty -d z
"""


def test_zsh_completes(tmp_path):
    require(shutil.which("zsh"), "zsh")
    (tmp_path / "script").write_text(printed("completion", "zsh"))
    chosen = {line: word for line, word in LINES.items() if word}
    done = subprocess.run(
        ["zsh", "-f", "-c", ZSH],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=environment(TYPED="\n".join(chosen), SCRIPT=str(tmp_path / "script"), TERM="dumb"),
    )
    found = [part.split("\n") for part in done.stdout.split("LINE\n")[1:]]
    for (line, word), words in zip(chosen.items(), found, strict=True):
        assert word in words, (line, words)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_option_and_subcommand_is_there(shell):
    script = printed("completion", shell)
    for setting in TABLE:
        if setting.flag:
            wanted = setting.option if shell != "fish" else f"-l {setting.option[2:]} "
            assert wanted in script
    for name in SUBCOMMANDS:
        assert name in script
    if shutil.which(shell):
        done = subprocess.run(
            [shell, "-n"], input=script, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_another_shell():
    done = subprocess.run(
        [*GRACEWRAP, "completion", "tcsh"], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 125 and "must be one of bash, zsh, fish" in done.stderr


def test_the_manual_page():
    page = printed("man")
    for setting in TABLE:
        if setting.flag:
            assert setting.option.replace("-", r"\-") in page
    if shutil.which("groff"):
        done = subprocess.run(
            ["groff", "-Tutf8", "-man", "-ww"], input=page, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        # Bold is an overstrike or an escape sequence.
        assert "EXIT STATUS" in re.sub(r".\x08|\x1b\[[0-9;]*m", "", done.stdout)
