"""Makes gracewrap as one file for any image: the launcher with a Python and the package inside.

    python launcher/single_file TARGET [MACHINE]

It needs musl-tools, make, dpkg-dev and the kernel's headers (linux-libc-dev), and as Python one in
which gracewrap's own dependencies are installed; for another MACHINE (aarch64), ziglang too.  What
takes minutes, CPython and OpenSSL, is kept in GRACEWRAP_DIST_CACHE, or else in
~/.cache/gracewrap-dist: a change of our own code alone takes seconds.  Beside TARGET it writes what
is inside, TARGET.spdx.json, and the licences, TARGET.NOTICE.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import static
from inventory import Component, of_python_package, of_source, write
from static import Failed, Libraries, run

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("h11", "rich", "tomli_w", "PyYAML")
MODULES = ("h11", "rich", "tomli_w", "yaml")
WARN = ("-std=c11", "-Wall", "-Wextra", "-Werror")
TOOLS = {"musl-gcc": "musl-tools", "gcc": "gcc", "make": "make", "dpkg-source": "dpkg-dev"}


def main(target: Path, machine: str = static.HERE) -> None:
    """Make everything."""
    if platform.machine() != static.HERE or machine not in (static.HERE, *static.OTHERS):
        known = " and ".join((static.HERE, *static.OTHERS))
        sys.exit(f"cannot make the single file: it is made on {static.HERE}, for {known}")
    if missing := [package for tool, package in TOOLS.items() if not shutil.which(tool)]:
        sys.exit(f"cannot make the single file: apt-get install {' '.join(missing)}")
    made = static.libraries(machine)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="gracewrap-dist-") as folder:
        freeze(Path(folder), made.interpreter)
        link(Path(folder), target, made)
    inside: list[Component] = [
        of_source(made.python_source, "PSF-2.0", "LICENSE"),
        of_source(made.openssl_source, "Apache-2.0", "LICENSE.txt"),
        of_source(made.zlib_source, "Zlib", "LICENSE"),
        *(musl() if machine == static.HERE else musl_of_zig()),
        *map(of_python_package, PACKAGES),
    ]
    write(target, inside, ROOT)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


def musl() -> list[Component]:
    """Return what the compiler of this machine links in."""
    version = run(["dpkg-query", "-W", "-f", "${Version}", "musl-dev"], ROOT)
    return [Component("musl", version, "MIT", "/usr/share/doc/musl-dev/copyright")]


def musl_of_zig() -> list[Component]:
    """Return what Zig's compiler links in: musl, with parts of its own."""
    version, own = importlib.metadata.version("ziglang"), static.zig()
    library = own / "lib" / "libc" / "musl"
    of_musl = (library / "src" / "internal" / "version.h").read_text().split('"')[1]
    return [
        Component("musl", of_musl, "MIT", library / "COPYRIGHT", f"pkg:generic/musl@{of_musl}"),
        Component("ziglang", version, "MIT", own / "LICENSE", f"pkg:pypi/ziglang@{version}"),
    ]


def freeze(folder: Path, interpreter: Path) -> None:
    """Write modules.c and modules.bin to *folder*."""
    # By themselves: what else is installed beside them is not to be found.
    packages = [folder / "packages" / name for name in ("gracewrap", *MODULES)]
    packages[0].parent.mkdir()
    for package, place in zip(
        packages, (ROOT / "supervisor" / "gracewrap", *map(_folder_of, MODULES))
    ):
        package.symlink_to(place)
    (folder / "commit").write_text(_commit())
    files = [f"commit.txt={folder / 'commit'}"]
    files += [f"presets/{file.name}={file}" for file in sorted((ROOT / "configs").glob("*.toml"))]
    agent = ROOT / "supervisor/gracewrap/agents/node"
    files += [f"agents/node/{file.name}={file}" for file in sorted(agent.glob("*.cjs"))]
    library = interpreter / "Lib"
    words = [
        # Without the columns of each instruction: a traceback has no source to point at.
        *(interpreter / "python", "-S", "-X", "frozen_modules=on", "-X", "no_debug_ranges"),
        *(Path(__file__).with_name("freeze.py"), folder, library, *packages, "--", *files),
    ]
    run(words, folder, {"PYTHONPATH": str(library)})


def link(folder: Path, target: Path, libraries: Libraries) -> None:
    """Compile the launcher and what is frozen, and link all that is inside to *target*."""
    python, openssl, tree = libraries.python, libraries.openssl, libraries.python_source.tree
    made, launcher = folder / "gracewrap", ROOT / "launcher"
    compiler = [libraries.compiler, "-Os", "-ffunction-sections", "-fdata-sections"]
    compiler += [f"-I{python}/include"]
    # Python's own module, which is not in libpython: OpenSSL is renewed without CPython.
    places = [python / "include" / "internal", tree / "Modules", openssl / "include"]
    core = [
        "-DPy_BUILD_CORE_BUILTIN",
        "-DOPENSSL_NO_TLS1_2_METHOD",
        *(f"-I{place}" for place in places),
    ]
    run([*compiler, *core, "-c", tree / "Modules" / "_ssl.c", "-o", "_ssl.o"], folder)
    run(
        [
            *(*compiler, *WARN, "-static", "-s", "-Wl,--gc-sections", "-o", made),
            # The launcher and its part of musl side by side: the kernel maps 64 KiB around each
            # page that is used.
            *(launcher / "launch.c", "-lc", launcher / "embed.c", "modules.c", "_ssl.o"),
            *(python / "libpython.a", openssl / "libssl.a", openssl / "libcrypto.a"),
            *(libraries.zlib / "libz.a", "-lm"),
        ],
        folder,
    )
    made.chmod(0o755)
    beside = target.with_name(f".{target.name}.new")
    shutil.copy(made, beside)
    beside.rename(target)  # it may be running


def _folder_of(module: str) -> Path:
    found = __import__(module).__file__
    assert found is not None
    return Path(found).parent


def _commit() -> str:
    if not shutil.which("git"):
        return ""  # as in the Dockerfile, which has no history either
    done = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]).absolute(), *sys.argv[2:])
    except (Failed, importlib.metadata.PackageNotFoundError) as fault:
        sys.exit(f"cannot make the single file: {fault}")
