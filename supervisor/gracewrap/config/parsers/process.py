"""What the command's process is to be, from what was written: its user, its variables, its limits.

Nothing is looked up here, neither a user nor a file: whether they are there is found out where the
command is started (equip).
"""

from __future__ import annotations

from gracewrap.config import closest_name, values
from gracewrap.config.settings import FromFile
from gracewrap.config.values import BadValue
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    Limit = tuple[int, int]  # soft and hard

UNLIMITED = -1  # RLIM_INFINITY, as Python has it
MOST = 1 << 62
# setrlimit(2), after RLIMIT_; locks is not enforced since Linux 2.4.25.
LIMITS = (
    *(
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
    ),
    *("sigpending", "stack"),
)
_OF_SYSTEMD = "limit"  # LimitNOFILE= is nofile here
_SECRETS = '{DB_PASSWORD = {file = "/run/secrets/db"}}'


def account(raw: object) -> str:
    """Return the name or number of a user or a group; whether there is one is looked up later."""
    if isinstance(raw, bool) or not isinstance(raw, str | int):
        raise BadValue('is neither a name nor a number; write "www-data" or 1000')
    text = values.plain(raw).strip()
    if ":" in text:
        left, _, right = text.partition(":")
        raise BadValue(f'is two; write user = "{left}" and group = "{right}"')
    if text.isascii() and text.removeprefix("-").isdigit():
        if (
            len(text) > 10 or not 0 <= int(text) < (1 << 32) - 1
        ):  # 2^32 - 1 means "leave it as it is" to setresuid(2)
            raise BadValue("a number of a user or a group goes from 0 to 4294967294")
        return str(int(text))
    if (
        not text
        or text.startswith("-")
        or not text.isprintable()
        or " " in text
        or "/" in text
        or len(text) > 256
    ):
        raise BadValue('is no name of a user or a group; write "www-data" or 1000')
    return text


def accounts(raw: object) -> tuple[str, ...]:
    """Return names or numbers of groups, from a list or "video,audio"."""
    return tuple(dict.fromkeys(account(word) for word in values.words(raw, '["video"]')))


def place(raw: object) -> str:
    """Return the absolute form of a path."""
    found = values.path(raw)
    if found is None:
        raise BadValue('is empty; write "/srv/app"')
    return found


def places(raw: object) -> tuple[str, ...]:
    """Return the absolute forms of paths, from a path or a list."""
    return tuple(place(word) for word in values.words(raw, '["/etc/app.env"]'))


def variables(raw: object) -> dict[str, str | FromFile]:
    """Return the variables of {PORT = "3000", DB_PASSWORD = {file = "/run/secrets/db"}}.

    In a flag it is one NAME=VALUE; those of a repeated flag have a NUL between them, which is in no
    argument.
    """
    if isinstance(raw, dict):
        return {_variable(str(name)): _value(str(name), value) for name, value in raw.items()}
    if isinstance(raw, str):
        raw = [word for word in raw.split("\0") if word]
    if not isinstance(raw, list):
        raise BadValue(f"not a table of variables; write {_SECRETS}")
    return {_variable(name): _value(name, value) for name, value in map(_pair, raw)}


def _pair(word: object) -> tuple[str, str]:
    name, equals, value = word.partition("=") if isinstance(word, str) else ("", "", "")
    if not equals:
        raise BadValue("each is a name and a value; write NAME=VALUE")
    return name, value


def is_variable(name: str) -> bool:
    """Return whether a variable may be called *name*."""
    return bool(name) and name.isprintable() and not set(" =\"'#").intersection(name)


def _variable(name: str) -> str:
    if not is_variable(name):
        raise BadValue('has a name that no variable should have; write {PORT = "3000"}')
    return name


def _value(name: str, value: object) -> str | FromFile:
    if isinstance(value, dict):
        if set(value) != {"file"}:
            raise BadValue(f"{name} is neither text nor a file; write {_SECRETS}")
        try:
            return FromFile(place(value["file"]))
        except BadValue as fault:
            raise BadValue(f"the file of {name}: {fault}") from None
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise BadValue(f'{name} must be a string; set {name} = "..."')
    if "\0" in values.plain(value):
        raise BadValue(f"{name} holds a NUL character, which no variable can")
    return values.plain(value)


def umask(raw: object) -> int:
    """Return the mask of "022"."""
    if not isinstance(raw, str):
        raise BadValue('is not a text, and a number could be read in two ways; write "022"')
    digits = raw.strip().lower().removeprefix("0o")
    if not digits or len(digits) > 4 or set(digits) - set("01234567") or int(digits, 8) > 0o777:
        raise BadValue('not a mask in octal digits, 000 to 777; write "022"')
    return int(digits, 8)


def nice(raw: object) -> int:
    """Return -20 (first) to 19 (last)."""
    text = (
        values.plain(raw).strip()
        if isinstance(raw, str | int) and not isinstance(raw, bool)
        else ""
    )
    digits = text.removeprefix("-").removeprefix("+" if text[:1] == "+" else "")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 3 or not -20 <= int(text) <= 19:
        raise BadValue("not a number from -20 (first) to 19 (last); write 10")
    return int(text)


def limits(raw: object) -> dict[str, Limit]:
    """Return soft and hard limits from {nofile = 65536, core = "unlimited", nproc = "100:200"} or
    "nofile=65536,core=0"."""
    found: dict[str, Limit] = {}
    for name, value in _limits(raw):
        word = name.strip().lower().removeprefix("rlimit_")
        word = word.removeprefix(_OF_SYSTEMD) if word.removeprefix(_OF_SYSTEMD) in LIMITS else word
        if word not in LIMITS:
            raise BadValue(
                f"there is no limit {name.strip()}{closest_name.close_to(word, LIMITS)}; there are "
                f"{', '.join(LIMITS)}"
            )
        found[word] = _limit(word, value)
    return found


def _limits(raw: object) -> Iterator[tuple[str, object]]:
    if isinstance(raw, dict):
        yield from ((str(name), value) for name, value in raw.items())
        return
    for word in values.words(raw, "{nofile = 65536}"):
        name, equals, value = word.partition("=") if isinstance(word, str) else ("", "", "")
        if not equals:
            raise BadValue("each is a name and a number; write nofile=65536")
        yield name, value


def _limit(name: str, value: object) -> Limit:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise BadValue(f'{name} is neither a number nor "unlimited"; write {name} = 65536')
    soft, colon, hard = values.plain(value).partition(":")
    found = _bound(name, soft), _bound(name, hard if colon else soft)
    if found[1] != UNLIMITED and (found[0] == UNLIMITED or found[0] > found[1]):
        raise BadValue(
            f'{name}: the soft limit is above the hard one; write "SOFT:HARD", as "1024:65536"'
        )
    return found


def _bound(name: str, text: str) -> int:
    word = text.strip().lower()
    if word in ("unlimited", "infinity", "-1"):
        return UNLIMITED
    if not (word.isascii() and word.isdigit()) or len(word) > 19 or int(word) > MOST:
        raise BadValue(
            f'{name} is neither a number nor "unlimited" nor "SOFT:HARD"; write {name} = 65536'
        )
    return int(word)


def shown_limit(limit: Limit) -> str | int:
    """Return a limit as it is written."""
    soft, hard = ("unlimited" if bound == UNLIMITED else bound for bound in limit)
    return soft if soft == hard else f"{soft}:{hard}"
