"""A TOML file: read it with care (it may be a directory, a gigabyte, not UTF-8), find its keys and their lines."""

from __future__ import annotations

import os
import select
import stat
import tomllib

from gracewrap.config.hints import unknown_key
from gracewrap.config.lines import find_line
from gracewrap.config.sources import Given, Problem
from gracewrap.config.table import BY_KEY, TABLE

LARGEST = 1 << 20  # bytes; a large configuration has a few thousand
PIPE_WAIT = 5.0  # seconds for `--config <(...)`; we cannot be interrupted here, so it must end

TABLES = {setting.key.rpartition(".")[0] for setting in TABLE} - {""}


def read_toml(path: str) -> tuple[list[Given], list[Problem]]:
    """Return the settings in the file, each with its line, and what is wrong with the others."""
    try:
        content = _read(path)
    except OSError as error:
        return [], [Problem(f"cannot read {path!r}: {error.strerror}{_remedy(path, error)}")]
    except ValueError as fault:
        return [], [Problem(f"cannot read {path!r}: {fault}")]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return [], [
            Problem(f"cannot read {path!r}, line {line}: not UTF-8 (byte 0x{content[error.start]:02x}); save it as UTF-8")
        ]
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return [], [Problem(f"cannot read {path!r}: not TOML: {error or 'nested too deeply'}{_toml_remedy(text)}")]
    return _flatten(path, text, tree)


def _read(path: str) -> bytes:
    """Return the content of a file or pipe.

    Raises:
        OSError: If it cannot be opened or read.
        ValueError: If it is something else, or too large; the text says what to do.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        info = os.fstat(fd)
        if stat.S_ISDIR(info.st_mode):
            raise ValueError("it is a directory; name the file in it")
        if not stat.S_ISREG(info.st_mode) and not stat.S_ISFIFO(info.st_mode):
            raise ValueError("it is no regular file")
        if info.st_size > LARGEST:
            raise ValueError(f"it has {info.st_size} bytes, and a configuration at most {LARGEST}; is it the right file?")
        content = b""
        while len(content) <= LARGEST:
            if stat.S_ISFIFO(info.st_mode) and not select.select([fd], [], [], PIPE_WAIT)[0]:
                raise ValueError(f"nothing came out of the pipe for {PIPE_WAIT:g} s")
            part = os.read(fd, 1 << 16)
            if not part:
                return content
            content += part
        raise ValueError(f"it has more than {LARGEST} bytes; is it the right file?")
    finally:
        os.close(fd)


def _remedy(path: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "; gracewrap init writes one" if os.path.isdir(os.path.dirname(path) or ".") else "; its directory does not exist"
    if isinstance(error, PermissionError):
        return f" for user {os.geteuid()}; chmod or chown it"
    return ""


def _toml_remedy(text: str) -> str:
    """Tell the reader of a file in another language what TOML looks like."""
    first = next((line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    if first.startswith("{") or (":" in first and "=" not in first):
        return '; TOML is written like this: shutdown_timeout = "25s"'
    return ""


def _flatten(path: str, text: str, tree: dict[str, object]) -> tuple[list[Given], list[Problem]]:
    """Walk the tables; *tree* holds settings, and tables of settings one level down."""
    given: list[Given] = []
    problems: list[Problem] = []

    def origin(keys: list[str]) -> str:
        line = find_line(text, keys)
        return f"{path}, line {line}" if line else path

    def add(keys: list[str], value: object) -> None:
        key = ".".join(keys)
        if key in BY_KEY:
            given.append(Given(key, value, origin(keys)))
        elif len(keys) == 1 and key in TABLES and isinstance(value, dict):
            for inner, inner_value in value.items():
                add([key, inner], inner_value)
        elif keys == ["programs"]:
            fault = "this version runs one command; write command = [...], or a gracewrap each"
            problems.append(Problem(f"cannot use [programs] ({origin(keys)}): {fault}"))
        else:
            problems.append(Problem(f"cannot use {key} ({origin(keys)}): {unknown_key(key, BY_KEY)}"))

    for name, value in tree.items():
        add([name], value)
    return given, problems
