"""Gets Debian's source packages, and unpacks them with Debian's patches; apt checks signatures."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

# One release for all, whatever this is run on: the frozen code belongs to this Python.
RELEASE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
FRESH = 3600  # seconds for which Debian is not asked again


@dataclass(frozen=True)
class Source:
    """An unpacked source package."""

    name: str
    version: str
    tree: Path


def get(names: list[str], cache: Path) -> list[Source]:
    """Return the newest version of each package that can be had.

    Without a network that is the newest in *cache*.  It ends the program if there is none.
    """
    asked = cache / "asked"
    if asked.exists() and time.time() - asked.stat().st_mtime < FRESH:
        found = [_known(name, cache) for name in names]
        if all(found):
            return [one for one in found if one is not None]
    options = _apt(cache)
    subprocess.run(["apt-get", *options, "update", "-qq"], check=False)  # it says what fails
    sources = [_get(name, cache, options) for name in names]
    asked.touch()
    return sources


def _get(name: str, cache: Path, options: list[str]) -> Source:
    for version in _versions(name, options):
        tree = cache / f"{name}_{version}"
        if not tree.exists() and not _unpack(name, version, tree, options):
            print(f"{name} {version} is listed but cannot be fetched; an older one it is",
                  file=sys.stderr)  # fmt: skip
            continue
        tree.touch()
        return Source(name, version, tree)
    if (found := _known(name, cache)) is None:
        sys.exit(f"cannot get the source of {name}: apt-get found none, and none is in {cache}")
    return found


def _known(name: str, cache: Path) -> Source | None:
    """Return the version that was used last."""
    known = sorted(cache.glob(f"{name}_*"), key=lambda tree: tree.stat().st_mtime)
    return Source(name, known[-1].name.partition("_")[2], known[-1]) if known else None


def _apt(cache: Path) -> list[str]:
    """Return options by which apt-get uses nothing of the system's: no root, no sources.list."""
    state = cache / "apt"
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "sources.list").write_text(_archives())
    return [
        *("-o", f"Dir::Etc::SourceList={state}/sources.list"),
        *("-o", "Dir::Etc::SourceParts=/dev/null"),
        *("-o", f"Dir::State::Lists={state}/lists"),
        *("-o", f"Dir::Cache={state}"),
        *("-o", "APT::Sandbox::User="),
    ]


def _archives() -> str:
    """Return a sources.list for RELEASE, at the mirrors that the system uses for Debian."""
    asked = ("--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages", "Component: main")
    rows = subprocess.run(
        ["apt-get", "indextargets", *asked], capture_output=True, text=True, check=False
    ).stdout
    found = {f"{uri} {RELEASE}" for uri in re.findall(r"(?m)^(\S+/debian/?) ", rows)}
    secure = re.findall(r"(?m)^(\S+) \S+-security$", rows)
    found |= {f"{uri} {RELEASE}-security" for uri in secure}
    if not secure:
        print("no security archive is among apt's sources: fixes come later", file=sys.stderr)
    return "".join(f"deb-src [signed-by={KEYRING}] {one} main\n" for one in sorted(found))


def _versions(name: str, options: list[str]) -> list[str]:
    """Return the versions that are listed, the newest first."""
    listed = subprocess.run(
        ["apt-cache", *options, "showsrc", "--only-source", name],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    found = set(re.findall(r"^Version: (\S+)$", listed, re.MULTILINE))
    return sorted(found, key=_Order, reverse=True)


class _Order:
    """Orders versions as Debian does."""

    def __init__(self, version: str) -> None:
        self.version = version

    def __lt__(self, other: _Order) -> bool:
        words = ["dpkg", "--compare-versions", self.version, "lt", other.version]
        return subprocess.run(words, check=False).returncode == 0


def _unpack(name: str, version: str, tree: Path, options: list[str]) -> bool:
    """Fetch and unpack a version to *tree*; return whether it could be had."""
    # apt takes a version from the first archive that lists it, and tries no other one.
    return any(
        _unpack_from(wanted, version, tree, options)
        for wanted in (f"{name}={version}", f"{name}/{RELEASE}")
    )


def _unpack_from(wanted: str, version: str, tree: Path, options: list[str]) -> bool:
    folder = tree.with_name(f".{tree.name}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for what in (("--dsc-only", "--download-only"), ()):  # the small file first
        done = subprocess.run(
            ["apt-get", *options, "source", "-qq", *what, wanted],
            cwd=folder,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            break
    made = [one for one in folder.iterdir() if one.is_dir()]
    is_it = bool(made) and f"({version})" in (made[0] / "debian/changelog").open().readline()
    if is_it:
        made[0].rename(tree)
    shutil.rmtree(folder)
    return is_it
