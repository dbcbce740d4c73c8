"""Who sent a signal that gracewrap has received, for people."""

from __future__ import annotations

from gracewrap.linux.procfs import read_file

_FROM_A_TERMINAL = {
    1: "the terminal, which has gone",
    2: "the terminal (Ctrl-C)",
    3: "the terminal (Ctrl-\\)",
}


def sender(pid: int, uid: int, code: int, signum: int, comm: str | None = None) -> str:
    """Return who sent a signal, from its siginfo (sigaction(2)): the kernel, somebody outside, or a
    process, whose name is *comm* if that is known already."""
    if code > 0:  # SI_KERNEL
        return _FROM_A_TERMINAL.get(signum, "the kernel")
    if pid == 0:
        return "outside this PID namespace (docker stop, the kubelet)"
    found = comm
    if found is None:
        found = read_file(f"/proc/{pid}/comm").decode(errors="replace").strip()
    return f"{found + ' (' if found else ''}pid {pid}, uid {uid}{')' if found else ''}"
