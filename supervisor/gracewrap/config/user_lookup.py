"""From settings to what the child is to be: users are looked up, files of variables are read.
Before the start, as ourselves.

Loaded only where a setting asks for it.  A lookup of a user may take its time (NSS): nothing is
running yet.
"""

from __future__ import annotations

import posix
import sys

from gracewrap.config import env_file
from gracewrap.config.safe_read import Unreadable, read, remedy
from gracewrap.config.settings import FromFile
from gracewrap.linux import spawn
from gracewrap.linux.between_fork_and_exec import ExecContext, Limit
from gracewrap.record import TYPE_CHECKING, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from gracewrap.config.settings import Settings

    T = TypeVar("T")

_EACCES = 13


class Unusable(Exception):
    """A setting that cannot be used here; the text says which, why, and what to do."""


def resolve_exec_context(settings: Settings) -> ExecContext:
    """Return what the command is to be.

    Raises:
        Unusable: With a message for people.
    """
    found = ExecContext(
        environment={},
        umask=settings.umask,
        nice=settings.nice,
        no_stdin=settings.stdin == "null",
    )
    for part in _PARTS:
        found = part(settings, found)
    return found


def faults(settings: Settings) -> Iterator[str]:
    """Yield everything that process() would refuse."""
    found = ExecContext(environment={})
    for part in _PARTS:
        try:
            found = part(settings, found)
        except Unusable as fault:
            yield str(fault)


def _unusable(settings: Settings, key: str, value: str, why: str) -> Unusable:
    shown = f" = {value}" if value else ""
    return Unusable(f"cannot use {key}{shown} ({settings.origins.get(key, 'default')}): {why}")


# --- users ---------------------------------------------------------------------------------------


def _with_user(settings: Settings, found: ExecContext) -> ExecContext:
    """Look up user and groups.  The user's own groups are had as after a login: initgroups(3)."""
    uid, gid, groups, name = None, None, None, ""
    if settings.user:
        import pwd

        entry = _lookup(settings.user, pwd.getpwuid, pwd.getpwnam)
        if entry is not None:
            uid, gid, name = entry.pw_uid, entry.pw_gid, entry.pw_name
        elif settings.user.isdigit():
            # Its group must not stay ours: root's may write a good deal.  Most users have one of
            # their own number.
            uid = gid = int(settings.user)
        else:
            why = "there is no such user here; write one of /etc/passwd, or a number"
            raise _unusable(settings, "user", f'"{settings.user}"', why)
    if settings.group:
        gid = _group(settings, "group", settings.group)
    if settings.user:
        assert gid is not None
        groups = tuple(posix.getgrouplist(name, gid)) if name else (gid,)
        if uid == posix.geteuid() and gid == posix.getegid():
            groups = None  # we are it already, and may not be allowed to change anything
    if settings.supplementary_groups:
        more = (
            _group(settings, "supplementary_groups", one) for one in settings.supplementary_groups
        )
        groups = tuple(dict.fromkeys((*(posix.getgroups() if groups is None else groups), *more)))
    return replace(
        found, uid=uid, gid=gid, groups=groups, user=settings.user or "", group=settings.group or ""
    )


def _group(settings: Settings, key: str, word: str) -> int:
    import grp

    entry = _lookup(word, grp.getgrgid, grp.getgrnam)
    if entry is not None:
        return int(entry.gr_gid)
    if word.isdigit():
        return int(word)
    raise _unusable(
        settings,
        key,
        f'"{word}"',
        "there is no such group here; write one of /etc/group, or a number",
    )


def _lookup(word: str, by_number: Callable[[int], T], by_name: Callable[[str], T]) -> T | None:
    """Return the entry of a user or a group, or None."""
    try:
        return by_number(int(word)) if word.isdigit() else by_name(word)
    except (
        KeyError,
        OSError,
        ValueError,
    ):  # not there; a database that fails; a name that cannot be encoded
        return None


# --- the environment -----------------------------------------------------------------------------


def _with_environment(settings: Settings, found: ExecContext) -> ExecContext:
    """Put the environment together: ours, what belongs to the user, the files, env; later ones
    count."""
    env = {} if settings.clear_env else dict(spawn.environment())
    if found.uid is not None:
        _name_user(env, found.uid)
    for path in settings.env_file:
        try:
            env.update(env_file.parse(_content(settings, "env_file", path, f'"{path}"')))
        except env_file.BadLine as fault:
            raise _unusable(settings, "env_file", f'"{path}"', str(fault)) from None
    for name, value in settings.env.items():
        env[_bytes(name)] = (
            _secret(settings, name, value.path) if isinstance(value, FromFile) else _bytes(value)
        )
    return replace(found, environment=env)


def _name_user(env: dict[bytes, bytes], uid: int) -> None:
    """Set what a login would: those of ours are another's.  As systemd does for User=; a user
    without an entry has / (Docker)."""
    import pwd

    for name in (b"HOME", b"USER", b"LOGNAME", b"SHELL"):
        env.pop(name, None)
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        env[b"HOME"] = b"/"
        return
    name = _bytes(entry.pw_name)
    env |= {
        b"HOME": _bytes(entry.pw_dir or "/"),
        b"USER": name,
        b"LOGNAME": name,
        b"SHELL": _bytes(entry.pw_shell or "/bin/sh"),
    }


def _secret(settings: Settings, name: str, path: str) -> bytes:
    """Return what is in a file, without the line end at its end, which editors and echo(1) add."""
    content = (
        _content(settings, "env", path, f'{{{name} = {{file = "{path}"}}}}')
        .removesuffix(b"\n")
        .removesuffix(b"\r")
    )
    if b"\0" in content or len(name) + len(content) + 2 > env_file.LONGEST:
        why = (
            "it holds a NUL character"
            if b"\0" in content
            else f"it has more than {env_file.LONGEST >> 10} KiB"
        )
        raise _unusable(
            settings, "env", f'{{{name} = {{file = "{path}"}}}}', f"{why}, and no variable can"
        )
    return content


def _content(settings: Settings, key: str, path: str, shown: str) -> bytes:
    try:
        return read(path, "variables")
    except OSError as error:
        raise _unusable(
            settings, key, shown, f"cannot read it: {error.strerror}{remedy(path, error)}"
        ) from None
    except Unreadable as fault:
        raise _unusable(settings, key, shown, str(fault)) from None


def _bytes(text: str) -> bytes:
    try:
        return text.encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())
    except UnicodeEncodeError:  # a file is UTF-8, and our locale is not
        return text.encode(errors="surrogateescape")


# --- directory and limits ------------------------------------------------------------------------


def _with_directory(settings: Settings, found: ExecContext) -> ExecContext:
    """See that the directory is there; whether the user may enter it, only the user can tell."""
    path = settings.working_dir
    if path is None:
        return found
    try:
        why = "" if posix.stat(path).st_mode & 0o170000 == 0o040000 else "it is not a directory"
    except OSError as error:
        why = "" if error.errno == _EACCES else error.strerror or "not there"
    if why:
        raise _unusable(
            settings, "working_dir", f'"{path}"', f"{why}; write a directory that is there"
        )
    return replace(found, working_dir=path)


def _with_limits(settings: Settings, found: ExecContext) -> ExecContext:
    if not settings.rlimits:
        return found
    import resource

    limits = []
    for name, (soft, hard) in settings.rlimits.items():
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is None:
            raise _unusable(settings, "rlimits", "", f"this system has no limit {name}; remove it")
        limits.append(Limit(name, number, soft, hard))
    return replace(found, limits=tuple(limits))


_PARTS: tuple[Callable[[Settings, ExecContext], ExecContext], ...] = (
    _with_user,
    _with_environment,
    _with_directory,
    _with_limits,
)
