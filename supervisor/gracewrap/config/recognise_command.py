"""Recognises a well-known program by the words of its command, and names the preset for it."""

from __future__ import annotations

from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# By the name of the program, or of the Python module after -m.
PRESET_OF = {
    # Since Node.js 24 its first thread, and so the process, calls itself MainThread.
    **dict.fromkeys(("node", "nodejs", "MainThread"), "node"),
    **dict.fromkeys(("next", "pm2-runtime", "tsx"), "node"),
    **dict.fromkeys(("npm", "npx", "yarn", "pnpm"), "npm"),
    **dict.fromkeys(("httpd", "apache2", "apache2ctl", "apachectl"), "httpd"),
    **dict.fromkeys(
        # Nothing is known of their shutdown code; a server that has some loses nothing by it.
        (
            *("python", "ruby", "rails", "php", "java", "bun", "deno", "flask", "django"),
            *("daphne", "waitress-serve"),
        ),
        "any-http-server",
    ),
    "redis-server": "redis",
    "unicorn_rails": "unicorn",
}
_SAME = frozenset(
    (
        *("celery", "dramatiq", "envoy", "gunicorn", "haproxy", "hypercorn", "nginx", "php-fpm"),
        *("postgres", "puma", "redis", "rq", "sidekiq", "unicorn", "uvicorn", "uwsgi", "vllm"),
    )
)
# What ends itself by the stop signal once all is done, as its own documentation says.
ENDS_BY_SIGNAL = frozenset(("puma", "uvicorn"))
# What stands before the program itself: how many words each takes, with its own.
_BEFORE = {
    **dict.fromkeys(("exec", "nohup", "docker-entrypoint.sh", "nice", "stdbuf", "time"), 1),
    **dict.fromkeys(("gosu", "su-exec", "bundle", "poetry", "uv", "pipenv", "pdm", "rye"), 2),
    **dict.fromkeys(("tini", "dumb-init", "catatonit", "docker-init"), 1),
}
_SHELLS = frozenset(("sh", "bash", "dash", "ash"))


def recognised(command: Sequence[str]) -> str:
    """Return the name of the preset for a command; "" if it is not known."""
    words = without_wrappers(list(command))
    if not words:
        return ""
    program = _name(words[0])
    if program == "python" and "-m" in words[1:-1]:
        module = words[words.index("-m") + 1].partition(".")[0]
        program = module if _preset(module) else program
    return _preset(program)


def _preset(program: str) -> str:
    return program if program in _SAME else PRESET_OF.get(program, "")


def _name(word: str) -> str:
    """Return a program's name without directory and version: python3.12 is python."""
    name = word.rpartition("/")[2]
    return name.rstrip("0123456789.") if name.startswith(("python", "php-fpm", "ruby")) else name


def without_wrappers(words: list[str]) -> list[str]:
    """Return a command without what only prepares it: env, a shell with one command, gosu."""
    for _ in range(8):  # more than anybody nests
        while words and ("=" in words[0] or words[0] == "--" or words[0].startswith("-")):
            words = words[1:]
        if not words:
            return words
        program = _name(words[0])
        if program in _SHELLS and words[1:2] and words[1].startswith("-") and "c" in words[1]:
            words = _of_a_shell("".join(words[2:3]))
        elif program == "env":
            words = words[1:]
        elif program in _BEFORE and len(words) > _BEFORE[program]:
            words = words[_BEFORE[program] :]
        else:
            return words
    return words


def _of_a_shell(script: str) -> list[str]:
    """Return the last command of a shell's words."""
    import shlex

    last = script.replace("&&", ";").replace("\n", ";").rstrip("; ").rpartition(";")[2]
    try:
        return shlex.split(last)
    except ValueError:
        return []
