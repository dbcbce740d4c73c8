"""`gracewrap completion`: what a shell needs to complete options and subcommands, from the table of
settings."""

from __future__ import annotations

from collections.abc import Callable

from gracewrap.cli import check_against, check_agent, cmd_check, cmd_drill, cmd_plan
from gracewrap.cli.control_client import Unusable
from gracewrap.cli.help_topics import SHOWN
from gracewrap.cli.subcommand import Arguments, Subcommand
from gracewrap.config.json_schema import kind_of
from gracewrap.config.parsers.preset_names import FILES, PRESETS
from gracewrap.config.schema import TABLE
from gracewrap.config.schema_core import Setting
from gracewrap.config.subcommand_names import SUBCOMMANDS
from gracewrap.record import Record, replace

SHELLS = ("bash", "zsh", "fish")
_FILES = ("FILE", "FILE...", "DIRECTORY", "FILES", "PATH")
_METAVARS = dict.fromkeys(("FILE", "stop.svg", "stop.html", "drill.xml"), "FILE")  # of examples
# These read the words of a run too, and have options of their own, each with an example of its
# value; "": it has none.
_OWN = {
    "run": {},
    "check": {
        cmd_check.STRICT: "",
        cmd_check.JSON: "",
        check_against.AGAINST: "FILE",
        check_against.FORMAT: "FORMAT",
        check_against.FIX: "",
        check_against.CONTAINER: "NAME",
        check_agent.AGENT: "",
        check_agent.FOR: "DURATION",
    },
    "plan": cmd_plan.OPTIONS,
    "drill": cmd_drill.OPTIONS,
}
_SIGNALS = ("TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH")
_TEMPLATES = (*PRESETS, *FILES)
# Words without a dash that a subcommand takes; none: files.
_OPERANDS = {
    "presets": _TEMPLATES,
    "completion": SHELLS,
    "signal": _SIGNALS,
    "help": ("all", *SHOWN, *SUBCOMMANDS),
    "init": (),
    "report": (),
    "learn": (),
}
_VALUES = {  # of options that subcommands have
    ("init", "--for"): _TEMPLATES,
    ("check", "--format"): ("text", "json", "sarif", "github"),
    ("drill", "--balancer"): cmd_drill.BALANCERS,
    ("drill", "--compare"): cmd_drill.TWINS,
    ("drill", "--stop-after"): ("random",),
    ("drill", "--expect-exit"): ("any",),
}


class _Option(Record):
    """An option, and what its value can be; without a *metavar* it has none."""

    name: str
    help: str
    metavar: str = ""
    words: tuple[str, ...] = ()

    @property
    def takes_file(self) -> bool:
        return self.metavar in _FILES


_Load = Callable[[str], Subcommand]


def show(arguments: Arguments, load: _Load) -> int:
    """Print the script for a shell; return the exit status."""
    shell = "".join(arguments.names)
    if not shell:
        raise Unusable(
            "cannot complete for a shell that is not named; use gracewrap completion bash, zsh "
            "or fish"
        )
    if shell not in SHELLS:
        shells = ", ".join(SHELLS)
        raise Unusable(f"cannot use {shell!r} (gracewrap completion): must be one of {shells}")
    print({"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](load), end="")
    return 0


def _run_options() -> list[_Option]:
    """Return the options of a run."""
    found = [
        _Option(
            setting.option,
            setting.help,
            "" if setting.switch else setting.metavar,
            _choices(setting),
        )
        for setting in TABLE
        if setting.flag
    ]
    return [
        *found,
        _Option("--config", "Read settings from a TOML file.", "FILE"),
        _Option("--no-drain", "Leave out the drain that a file or a preset has."),
        _Option("--help", "Print the help."),
        _Option("--version", "Print the version."),
    ]


def _choices(setting: Setting) -> tuple[str, ...]:
    """Return the words that a setting can be, if they are few."""
    if setting.metavar == "SIGNAL":
        return _SIGNALS
    return tuple(word for word in kind_of(setting).get("enum", ()) if isinstance(word, str))


def _options(name: str, load: _Load) -> list[_Option]:
    """Return the options of a subcommand that a run does not have."""
    if name in _OWN:
        text = f"gracewrap help {name}."
        return [
            _Option(
                one,
                text,
                _METAVARS.get(value, "VALUE" if value else ""),
                _VALUES.get((name, one), ()),
            )
            for one, value in _OWN[name].items()
        ]
    found = [
        _Option(one.names[-1], one.help, one.metavar, _VALUES.get((name, one.names[-1]), ()))
        for one in load(name).options
    ]
    return [*found, _Option("--help", "Print this help.")]


def _sentence(text: str) -> str:
    """Return the first sentence of a help text, without what a shell would take for its own."""
    first = text.partition(". ")[0].rstrip(".")
    return "".join(letter for letter in first if letter not in "'\"[]`$\\:")


def _names(options: list[_Option]) -> str:
    return " ".join(option.name for option in options)


def _with_value(load: _Load) -> dict[str, None]:
    """Return the options that need a value, of a run and of what reads its words."""
    every = [*_run_options(), *(option for name in _OWN for option in _options(name, load))]
    return dict.fromkeys(option.name for option in every if option.metavar)


# --- bash ----------------------------------------------------------------------------------------


def _bash_value(option: _Option, of: str = "*") -> str:
    """Return the branch that completes the value of an option."""
    made = '$(compgen -f -- "$word")' if option.takes_file else ""
    if option.words:
        made = f'$(compgen -W "{" ".join(option.words)}" -- "$word")'
    return f"        {of}:{option.name}) COMPREPLY=({made}); return ;;\n"


def _bash_values(run: list[_Option], load: _Load) -> str:
    """Return the branches that complete the values of options."""
    rows = [
        _bash_value(option, name)
        for name in SUBCOMMANDS
        for option in _options(name, load)
        if option.metavar
    ]
    rows += [_bash_value(option) for option in run if option.metavar]
    return "".join(rows) + _bash_value(replace(run[-4], name="-c"))


def _bash_options(run: list[_Option], load: _Load) -> str:
    """Return the branches that say which options a subcommand has."""
    rows = ""
    for name in SUBCOMMANDS:
        words = [_names(_options(name, load))] + ([_names(run)] if name in _OWN else [])
        rows += f'        {name}) options="{" ".join(words)}" ;;\n'
    return rows


def _bash_operands() -> str:
    """Return the branches that say which words without a dash a subcommand takes."""
    return "".join(
        f'        {name}) words="{" ".join(words)}" ;;\n'
        if words
        else f'        {name}) words=$(compgen -f -- "$word") ;;\n'
        for name, words in _OPERANDS.items()
    )


def _bash(load: _Load) -> str:
    run = _run_options()
    return f"""\
# Completion of gracewrap for bash: source <(gracewrap completion bash)
_gracewrap() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} i of= options words
    if [[ $word == = ]]; then  # bash makes three words of --option=value
        word=
    elif [[ $before == = ]]; then
        before=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${{COMP_WORDS[i]}} in
            --) _gracewrap_command $((i + 1)); return ;;
            -c|{"|".join(_with_value(load))})
                if [[ ${{COMP_WORDS[i+1]}} == = ]]; then ((i++)); fi
                ((i++)) ;;
            -*) ;;
            {"|".join((*SUBCOMMANDS, "help"))})
                if [[ -n $of ]]; then _gracewrap_command "$i"; return; fi
                of=${{COMP_WORDS[i]}}
                case $of in {"|".join(_OWN)}) ;; *) break ;; esac ;;
            *) _gracewrap_command "$i"; return ;;
        esac
    done
    case $of:$before in
{_bash_values(run, load)}    esac
    case $of in
{_bash_options(run, load)}        *) options="{_names(run)}" ;;
    esac
    case $of in
{_bash_operands()}        '') words="{" ".join(SUBCOMMANDS)} help" ;;
    esac
    if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    else
        COMPREPLY=($(compgen -W "$words" -- "$word"))
        case $of:$word in
            :) ;;  # without a letter these are all commands there are
            :*|{"|".join(f"{name}:*" for name in _OWN)}) COMPREPLY+=($(compgen -c -- "$word")) ;;
        esac
    fi
}}
{_BASH_COMMAND}complete -F _gracewrap gracewrap
"""


# Completes the words of the command that is wrapped.
_BASH_COMMAND = """\
_gracewrap_command() {
    if declare -F _command_offset >/dev/null; then
        _command_offset "$1"
    else
        COMPREPLY=($(compgen -f -- "${COMP_WORDS[COMP_CWORD]}"))
    fi
}
"""


# --- zsh -----------------------------------------------------------------------------------------


def _zsh_row(option: _Option) -> str:
    """Return an option as _arguments reads it."""
    text = _sentence(option.help)
    if option.name in ("--help", "--version"):
        return f"'(- *){option.name}[{text}]'"
    if not option.metavar:
        return f"'{option.name}[{text}]'"
    action = f"({' '.join(option.words)})" if option.words else ""
    action = "_files" if option.takes_file else action
    return f"'*{option.name}=[{text}]:{option.metavar.replace(':', ' ')}:{action}'"


def _zsh(load: _Load) -> str:
    listed = " \\\n        ".join(map(_zsh_row, _run_options()))
    names = " ".join((*SUBCOMMANDS, "help"))
    cases = ""
    for name in (*SUBCOMMANDS, "help"):
        own = [] if name == "help" else _options(name, load)
        rows = " ".join(map(_zsh_row, own))
        if name in _OWN:
            cases += f"        {name}) _gracewrap_run {rows} '*::command:_normal' ;;\n"
            continue
        words = " ".join(_OPERANDS.get(name, ()))
        action = f"({words})" if words else "_files"
        cases += f"        {name}) _arguments {rows} '*: :{action}' ;;\n"
    return f"""\
#compdef gracewrap
# Completion of gracewrap for zsh: gracewrap completion zsh > a directory of $fpath, as _gracewrap
_gracewrap_first() {{
    compadd -- {names}
    _command_names -e
}}
_gracewrap_rest() {{
    case $words[1] in
{cases}        *) _normal ;;
    esac
}}
_gracewrap_run() {{
    _arguments -S "$@" \
        {listed}
}}
_gracewrap() {{
    _gracewrap_run '1: :_gracewrap_first' '*::arguments:_gracewrap_rest'
}}
if [ "$funcstack[1]" = "_gracewrap" ]; then
    _gracewrap "$@"
else
    compdef _gracewrap gracewrap
fi
"""


# --- fish ----------------------------------------------------------------------------------------


def _fish_row(option: _Option, of: str) -> str:
    """Return what completes an option, and its value, of a run or of subcommands."""
    value = " -r" if option.metavar else ""
    value += " -f" if option.metavar and not option.takes_file else ""
    value += f" -a '{' '.join(option.words)}'" if option.words else ""
    short = " -s c" if option.name == "--config" else ""
    return (
        f"complete -c gracewrap -n '__gracewrap_in {of}'{short} -l {option.name[2:]}{value} "
        f"-d '{_sentence(option.help)}'"
    )


def _fish_in(load: _Load) -> str:
    """Return the function that finds out which subcommand the words before the cursor name."""
    return f"""\
# Completion of gracewrap for fish: gracewrap completion fish | source
function __gracewrap_in -d 'Is the cursor behind one of these subcommands (none: before one)?'
    set -l of none
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
        else if contains -- $word -c {" ".join(_with_value(load))}
            set skip 1
        else if test $word = --
            set of command
            break
        else if string match -q -- '-*' $word
            continue
        else if test $of = none; and contains -- $word {" ".join((*SUBCOMMANDS, "help"))}
            set of $word
            contains -- $of {" ".join(_OWN)}; or break
        else
            set of command
            break
        end
    end
    contains -- $of $argv
end"""


def _fish(load: _Load) -> str:
    rows = [
        _fish_in(load),
        f"complete -c gracewrap -n '__gracewrap_in none {' '.join(_OWN)}' "
        "-a '(__fish_complete_command)'",
    ]
    for name in SUBCOMMANDS:
        text = f"gracewrap {name}" if name in _OWN else " ".join(load(name).summary.split())
        rows.append(
            f"complete -c gracewrap -n '__gracewrap_in none' -a {name} -d '{_sentence(text)}'"
        )
        rows += [_fish_row(option, name) for option in _options(name, load)]
    rows.append("complete -c gracewrap -n '__gracewrap_in none' -a help -d 'Print help'")
    rows += [
        f"complete -c gracewrap -n '__gracewrap_in {name}' -f -a '{' '.join(words)}'"
        for name, words in _OPERANDS.items()
        if words
    ]
    rows += [_fish_row(option, f"none {' '.join(_OWN)}") for option in _run_options()]
    return "\n".join(rows) + "\n"


def declared(load: _Load) -> Subcommand:
    """Return the declaration; *load* returns those of the others."""
    return replace(COMPLETION, run=lambda arguments: show(arguments, load))


COMPLETION = Subcommand(
    "completion",
    """\
gracewrap completion prints what a shell needs to complete the options,
subcommands and presets of gracewrap.
""",
    ("bash|zsh|fish",),
    (),
    """\
source <(gracewrap completion bash)
gracewrap completion bash > /etc/bash_completion.d/gracewrap
gracewrap completion zsh > "${fpath[1]}/_gracewrap"
gracewrap completion fish > ~/.config/fish/completions/gracewrap.fish
""",
    """\
  0    it is printed
  125  there is no completion for this shell
""",
    lambda arguments: 125,
    ("SHELL", "bash, zsh or fish."),
    1,
)
