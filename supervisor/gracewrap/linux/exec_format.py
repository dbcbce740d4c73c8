"""Why the kernel does not take a file for a program (ENOEXEC), and why the shell must not either:
execvp(3) would have it run a binary as a script.

Source: elf(5); the numbers of machines are those of linux/elf-em.h.
"""

from __future__ import annotations

import posix

_MACHINES = {
    3: "x86 (i386)",
    8: "MIPS",
    20: "PowerPC",
    21: "ppc64le",
    22: "s390x",
    40: "arm (arm/v7)",
    62: "x86_64 (amd64)",
    183: "aarch64 (arm64)",
    243: "riscv64",
    258: "loongarch64",
}
_KERNEL = {"i686": 3, "x86_64": 62, "aarch64": 183, "riscv64": 243, "s390x": 22, "ppc64le": 21}
_HEAD = 256


def why_not_run(file: str | bytes, depth: int = 0) -> str:
    """Return why *file* cannot be run, also not by the shell; "": it may be a script without a
    first line."""
    head = _head(file)
    if head.startswith(b"\x7fELF") and len(head) >= 20:
        return _other_machine(head)
    if head.startswith(b"#!") and depth < 4:  # then it is the interpreter that has another format
        words = head[2:].partition(b"\n")[0].split()
        why = why_not_run(words[0], depth + 1) if words else ""
        return why and f"its interpreter {words[0].decode(errors='replace')!r}: {why}"
    if b"\0" in head.partition(b"\n")[0]:
        return "it is a binary, but not a program for Linux"
    return ""


def _other_machine(head: bytes) -> str:
    number = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    machine = posix.uname().machine
    if _KERNEL.get(machine) == number:
        return f"it is a damaged program, or one that this kernel ({machine}) cannot run"
    built = _MACHINES.get(number, f"another machine (ELF {number})")
    return (
        f"it is built for {built}, and this machine is {machine}: build or pull the image for this "
        "platform (docker build --platform, docker run --platform)"
    )


def _head(file: str | bytes) -> bytes:
    try:
        fd = posix.open(file, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
        try:
            return posix.read(fd, _HEAD)
        finally:
            posix.close(fd)
    except OSError:
        return b""
