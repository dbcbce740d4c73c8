"""Writes all modules that gracewrap may import, as C that is linked into the single file.

    python freeze.py TARGET LIBRARY PACKAGE... [-- NAME=FILE...]

It is run by the Python that they are for, because their code is marshalled.  Every module of a
PACKAGE is taken, and what these import from the standard library, which is LIBRARY.  The files are
what the package ships beside its modules: they become the module gracewrap_files.
"""

import marshal
import sys
import zlib
from importlib.machinery import SOURCE_SUFFIXES
from modulefinder import ModuleFinder
from pathlib import Path

# A drill is run where gracewrap is developed, not in an image; the entry points are for a Python
# that is started from outside.
DRILL = "gracewrap.drill."  # of it, what other modules import at once
LEFT_OUT = (
    *(f"{DRILL}instance", f"{DRILL}http_load", f"{DRILL}rehearsal"),
    *("gracewrap.__main__", "gracewrap.isolation", "gracewrap.launched"),
    *("rich.__main__", "yaml.cyaml"),
)
# Of the standard library, imported somewhere in a function that is never called here.
NOT_CALLED = [
    *("asyncio", "bz2", "concurrent", "ctypes", "curses", "distutils", "doctest", "email.test"),
    *("ftplib", "gzip", "lzma", "multiprocessing", "pdb", "pydoc", "readline"),
    *("sqlite3", "tarfile", "test", "tkinter", "unittest", "xmlrpc", "zipfile"),
    *("_pyio", "_strptime", "attr", "IPython", "ipywidgets", "httpx", "psutil", "pygments"),
    *("markdown_it", "typing_extensions", "_ctypes", "lib2to3", "logging.config", "colorama"),
]
# What a run loads, of the standard library and beside it.  The rest, three modules of four, is only
# for subcommands: it is compressed, and takes a third of the room.
OF_A_RUN = (
    *("abc", "base64", "codecs", "collections", "_collections_abc", "contextlib", "copy"),
    *("copyreg", "datetime", "encodings", "enum", "functools", "__future__", "genericpath"),
    *("gracewrap", "heapq", "importlib", "io", "json", "keyword", "operator", "os", "posixpath"),
    *("re", "reprlib", "selectors", "shlex", "signal", "socket", "ssl", "stat", "string", "struct"),
    *("threading", "tomllib", "types", "typing", "warnings", "weakref", "_weakrefset"),
    # h11, by way of dataclasses
    *("h11", "ast", "dataclasses", "dis", "inspect", "linecache", "opcode", "token", "tokenize"),
)
OF_SUBCOMMANDS = ("cli", "drill", "learn", "manifests", "picture")  # the rooms of gracewrap
# Imported by a name that no scan sees.
ENCODINGS = ("", ".aliases", ".ascii", ".idna", ".latin_1", ".unicode_escape", ".utf_8",
             ".utf_8_sig")  # fmt: skip


def modules_of(package: Path) -> list[str]:
    """Return the names of all modules of a package but those that are left out."""
    names = []
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        names.append(name)
    ours = [name for name in LEFT_OUT if name.partition(".")[0] == package.name]
    if unknown := sorted({*ours} - {*names}):
        sys.exit(f"cannot leave out {unknown[0]}: {package} has no such module")
    return [name for name in names if name not in LEFT_OUT and not name.startswith(DRILL)]


def find(library: Path, packages: list[Path]) -> dict[str, tuple[Path, bool]]:
    """Return where the source of each module is, and whether it is a package."""
    places = [str(library), *{str(package.parent) for package in packages}]
    finder = ModuleFinder(places, excludes=[*LEFT_OUT, *NOT_CALLED])
    wanted = [name for package in packages for name in modules_of(package)]
    for name in [*wanted, *(f"encodings{name}" for name in ENCODINGS)]:
        finder.import_hook(name)
    found = {
        name: (Path(module.__file__), module.__path__ is not None)
        for name, module in finder.modules.items()
        if module.__file__ and module.__file__.endswith(tuple(SOURCE_SUFFIXES))
    }
    if missing := [name for name in wanted if name not in found]:
        sys.exit(f"cannot freeze {missing[0]}: it was not found")
    return found


def compiled(source: Path, roots: list[Path]) -> bytes:
    """Return a module's code; in tracebacks it has a path of no machine."""
    root = next(one for one in roots if source.is_relative_to(one))
    shown = str(source.relative_to(root))
    return marshal.dumps(compile(source.read_bytes(), shown, "exec", optimize=2))


def packed(name: str, code: bytes) -> bytes:
    """Return what is frozen of a module: its code, or that compressed, and what executes it."""
    top, _, rest = name.partition(".")
    is_for_people = top == "gracewrap" and rest.partition(".")[0] in OF_SUBCOMMANDS
    if top in OF_A_RUN and not is_for_people:
        return code
    text = (
        "exec(__import__('marshal').loads(__import__('zlib').decompress("
        f"{zlib.compress(code, 9)!r})))"
    )
    return marshal.dumps(compile(text, "compressed", "exec"))


def main(target: Path, library: Path, packages: list[Path], files: list[str]) -> None:
    """Write modules.c and modules.bin, which that includes."""
    found = find(library, packages)
    roots = [library, *(package.parent for package in packages)]
    code: dict[str, tuple[bytes, bool]] = {}
    for name, (source, is_package) in sorted(found.items()):
        code[name] = packed(name, compiled(source, roots)), is_package
    named = [word.partition("=")[::2] for word in files]
    contents = {name: Path(file).read_bytes() for name, file in named}
    text = f"FILES = {contents!r}\n"
    code["gracewrap_files"] = marshal.dumps(compile(text, "gracewrap_files.py", "exec")), False
    rows, at = [], 0
    for name, (data, is_package) in code.items():
        rows.append(f'    {{"{name}", code + {at}, {len(data)}, {int(is_package)}, NULL}},\n')
        at += len(data)
    (target / "modules.bin").write_bytes(b"".join(data for data, _ in code.values()))
    (target / "modules.c").write_text(
        "#include <Python.h>\n"
        '__asm__(".section .rodata\\n.balign 16\\ncode: .incbin \\"modules.bin\\"\\n.text\\n");\n'
        "extern const unsigned char code[];\n"
        f"const struct _frozen gracewrap_modules[] = {{\n{''.join(rows)}    {{0}},\n}};\n"
    )
    print(f"{len(code)} modules, {at >> 10} KiB")


if __name__ == "__main__":
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    target, library, *packages = (Path(word).absolute() for word in words[:cut])
    main(target, library, packages, words[cut + 1 :])
