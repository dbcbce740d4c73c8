"""Copies the Python that runs this, and all that it needs, to a directory that works in any image.

    python3 collect.py /gracewrap

The directory must stay where it was made: its programs name their dynamic loader and their
libraries by its path, so that they never meet the C library of the image that they are copied to.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

# Nobody who wraps a command needs them: they are a third of the whole.
LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "*-packages", "config-*", "ensurepip", "idlelib", "lib2to3", "pydoc_data",
    "test", "tests", "tkinter", "turtle*", "_tkinter*", "_test*", "LICENSE.txt", "sitecustomize.py",
)  # fmt: skip


def libraries(file: Path) -> set[Path]:
    """Return the shared libraries that a file needs, the dynamic loader among them."""
    listed = subprocess.run(["ldd", file], capture_output=True, text=True, check=False).stdout
    return {Path(word) for word in listed.split() if word.startswith("/")}


def loader(file: Path) -> str:
    """Return the path of a program's dynamic loader."""
    asked = ["patchelf", "--print-interpreter", file]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def main(target: Path) -> None:
    """Copy, then let every file find its libraries in the copy."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    lib = target / "lib"
    python = target / "bin" / version
    source = Path(os.path.realpath(sys.executable))
    shutil.copytree(
        sysconfig.get_path("stdlib"), lib / version, ignore=LEFT_OUT, dirs_exist_ok=True
    )
    python.parent.mkdir(exist_ok=True)
    shutil.copy(source, python)
    modules = [*(lib / version).rglob("*.so")]
    found = {path for file in [source, *modules] for path in libraries(file)}
    its_loader = loader(source)
    for path in found:
        shutil.copy(path, lib / path.name)
    of_its_own = lib / Path(its_loader).name
    shutil.copy(its_loader, of_its_own)
    # DT_RPATH: it goes before LD_LIBRARY_PATH, and holds for what a library needs in turn.
    set_path = ["patchelf", "--force-rpath", "--set-rpath", lib]
    subprocess.run([*set_path, "--set-interpreter", of_its_own, python], check=True)
    for file in [*modules, *(lib / path.name for path in found)]:
        if file != of_its_own:
            subprocess.run([*set_path, file], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
