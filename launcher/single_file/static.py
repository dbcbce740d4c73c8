"""Builds OpenSSL, zlib and CPython as static libraries for musl, once: they are kept in a cache.

    python launcher/single_file/static.py [MACHINE]

That is GRACEWRAP_DIST_CACHE, or else ~/.cache/gracewrap-dist.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import sources
from sources import Source

# Where it is made; for others it is cross-built, by what CPython and OpenSSL call them.
HERE = "x86_64"
OTHERS = ("aarch64",)
# The kernel's headers, which musl does not have: without them Python has no netlink, no pidfd.
KERNEL = {
    "linux": ("/usr/include/linux",),
    "asm-generic": ("/usr/include/asm-generic",),
    "asm": ("/usr/include/x86_64-linux-gnu/asm", "/usr/include/asm"),
}
SMALL = "-Os -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables"
# https probes need a client of TLS 1.2 and 1.3 and nothing else.
TLS = (
    *("no-shared", "no-dso", "no-engine", "no-afalgeng", "no-async", "no-tests", "no-legacy"),
    *("no-module", "no-ui-console", "no-autoload-config", "no-comp", "no-srp", "no-ssl3"),
    *("no-tls1", "no-tls1_1", "no-dtls", "no-sctp", "no-cms", "no-ct", "no-ocsp", "no-ts"),
    *("no-idea", "no-seed", "no-camellia", "no-bf", "no-cast", "no-rc2", "no-rc4", "no-md4"),
    *("no-mdc2", "no-whirlpool", "no-rmd160", "no-aria", "no-sm2", "no-sm3", "no-sm4", "no-des"),
    *("no-siphash", "no-gost", "no-dsa", "no-rfc3779", "no-cmp", "no-srtp", "no-deprecated"),
    "--openssldir=/etc/ssl",
)
# What gracewrap imports, of the modules that are not always in libpython.
MODULES = """\
*static*
_bisect _bisectmodule.c
_blake2 _blake2/blake2module.c _blake2/blake2b_impl.c _blake2/blake2s_impl.c
_contextvars _contextvarsmodule.c
_datetime _datetimemodule.c
_heapq _heapqmodule.c
_json _json.c
_md5 md5module.c
_opcode _opcode.c
_posixsubprocess _posixsubprocess.c
_queue _queuemodule.c
_random _randommodule.c
_sha1 sha1module.c
_sha256 sha256module.c
_sha3 _sha3/sha3module.c
_sha512 sha512module.c
_socket socketmodule.c
_struct _struct.c
array arraymodule.c
binascii binascii.c
fcntl fcntlmodule.c
grp grpmodule.c
math mathmodule.c
mmap mmapmodule.c
resource resource.c
select selectmodule.c
termios termios.c
unicodedata unicodedata.c
zlib zlibmodule.c -I{zlib} -L{zlib} -lz
"""

# configure takes Debian's multiarch name for glibc's: it is told none.
COMPILER = """\
#!/bin/sh
[ "$1" = --print-multiarch ] && exit 0
exec musl-gcc -idirafter "{headers}" "$@"
"""
# Zig has musl and the kernel's headers.  It keeps musl in the cache, and what else it compiles in
# the current directory, which is removed.  It forbids __DATE__, which CPython says of itself.
CROSS_COMPILER = """\
#!/bin/sh
[ "$1" = --print-multiarch ] && exit 0
export ZIG_GLOBAL_CACHE_DIR="{cache}" ZIG_LOCAL_CACHE_DIR="$PWD/.zig"
exec "{zig}" cc -target {machine}-linux-musl -Wno-date-time "$@"
"""
# What CPython's configure can only find out by running a program; else it expects the worst.
ANSWERS = (
    *("ac_cv_file__dev_ptmx=yes", "ac_cv_file__dev_ptc=no", "ac_cv_buggy_getaddrinfo=no"),
    *("ac_cv_aligned_required=no", "ac_cv_broken_sem_getvalue=no", "ac_cv_computed_gotos=yes"),
    *("ac_cv_working_tzset=yes", "ac_cv_pthread_system_supported=yes"),
)


class Failed(Exception):
    """A step failed; the text is the end of what it said."""


def run(words: list[str | Path], cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run one step quietly, and return its output.  Raises Failed."""
    done = subprocess.run(
        [*map(str, words)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise Failed(f"{' '.join(map(str, words))[:200]} failed:\n{done.stdout[-3000:]}")
    return done.stdout


@dataclass(frozen=True)
class Libraries:
    """What has been built, and from what."""

    compiler: Path
    python_source: Source
    interpreter: Path  # of this machine: with python, and the standard library, Lib/
    python: Path  # with libpython.a and include/
    openssl_source: Source
    openssl: Path  # with include/, libssl.a and libcrypto.a
    zlib_source: Source
    zlib: Path  # with zlib.h, zconf.h and libz.a


def zig() -> Path:
    """Return the directory of PyPI's ziglang.  Raises Failed."""
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        raise Failed("PyPI's ziglang is needed for another machine: pip install --group cross")
    return Path(found.origin).parent


def libraries(machine: str) -> Libraries:
    """Return all that is linked into the single file, built if need be.  Raises Failed."""
    default = Path.home() / ".cache" / "gracewrap-dist"
    cache = Path(os.environ.get("GRACEWRAP_DIST_CACHE") or default).absolute()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # somebody else may build them
        jobs = os.cpu_count() or 1
        here = Builder(cache, jobs)
        builder = here if machine == HERE else CrossBuilder(cache, jobs, here, machine)
        python, openssl, zlib = sources.get(["python3.11", "openssl", "zlib"], cache)
        return Libraries(
            compiler=builder.compiler,
            python_source=python,
            interpreter=here.python(python, zlib),
            python=builder.python(python, zlib),
            openssl_source=openssl,
            openssl=builder.openssl(openssl),
            zlib_source=zlib,
            zlib=builder.zlib(zlib),
        )


class Builder:
    """Builds into directories of *cache* that are named by all that goes into them."""

    machine = HERE
    python_flags: tuple[str, ...] = ()

    def __init__(self, cache: Path, jobs: int) -> None:
        self.cache, self.jobs = cache, jobs
        self.compiler, self._tools = self._compiler()  # _tools: not where the cache is

    def _compiler(self) -> tuple[Path, str]:
        """Make a compiler for musl that knows the kernel's headers; return what it is, too."""
        headers = self.cache / "headers"
        headers.mkdir(parents=True, exist_ok=True)
        for name, places in KERNEL.items():
            link = headers / name
            link.unlink(missing_ok=True)
            link.symlink_to(next((one for one in places if Path(one).exists()), places[0]))
        about = run(["gcc", "--version"], self.cache).splitlines()[0]
        script = self._script("cc", COMPILER.format(headers=headers))
        return script, f"{about} {COMPILER} {sorted(KERNEL)}"

    def _script(self, name: str, text: str) -> Path:
        script = self.cache / name
        script.write_text(text)
        script.chmod(0o755)
        return script

    def _place(self, source: Source, *flags: str) -> Path:
        said = "\0".join((source.name, source.version, self._tools, *flags))
        key = hashlib.sha256(said.encode()).hexdigest()[:12]
        return self.cache / f"built-{source.name}_{source.version}-{key}"

    def openssl(self, source: Source) -> Path:
        """Return a directory with include/, libssl.a and libcrypto.a."""
        place = self._place(source, SMALL, *TLS)
        if place.exists():
            return place
        self._say(source)
        with tempfile.TemporaryDirectory(dir=self.cache) as folder:
            build = Path(folder) / "build"
            shutil.copytree(source.tree, build, symlinks=True)
            env = {"CC": str(self.compiler)}
            run(["./Configure", f"linux-{self.machine}", *TLS, *SMALL.split(), "-g0"], build, env)
            run(["make", "-s", f"-j{self.jobs}", "build_generated"], build)
            run(["make", "-s", f"-j{self.jobs}", "libssl.a", "libcrypto.a"], build)
            made = Path(folder) / "made"
            made.mkdir()
            shutil.copytree(build / "include", made / "include")
            for name in ("libssl.a", "libcrypto.a"):
                shutil.copy(build / name, made)
            made.rename(place)
        return place

    def zlib(self, source: Source) -> Path:
        """Return a directory with zlib.h, zconf.h and libz.a."""
        place = self._place(source, SMALL)
        if place.exists():
            return place
        self._say(source)
        with tempfile.TemporaryDirectory(dir=self.cache) as folder:
            build, made = Path(folder) / "build", Path(folder) / "made"
            shutil.copytree(source.tree, build, symlinks=True)
            env = {"CC": str(self.compiler), "CFLAGS": f"{SMALL} -g0"}
            run(["./configure", "--static"], build, env)
            run(["make", "-s", f"-j{self.jobs}", "libz.a"], build)
            made.mkdir()
            for name in ("zlib.h", "zconf.h", "libz.a"):
                shutil.copy(build / name, made)
            made.rename(place)
        return place

    def python(self, source: Source, zlib: Source) -> Path:
        """Return a directory with python, libpython.a, include/ and the standard library, Lib/."""
        flags = [
            f"CFLAGS={SMALL} -g0",
            "LDFLAGS=-static",
            "PKG_CONFIG=false",  # it would find glibc's libraries
            *("--disable-shared", "--disable-test-modules", "--without-doc-strings"),
            *("--without-ensurepip", "--without-readline", "--with-pymalloc"),
            *self.python_flags,
        ]
        place = self._place(source, MODULES, zlib.version, *flags)
        if place.exists():
            return place
        modules = MODULES.format(zlib=self.zlib(zlib))
        self._say(source)
        with tempfile.TemporaryDirectory(dir=self.cache) as folder:
            build, made = Path(folder) / "build", Path(folder) / "made"
            build.mkdir()
            more = self._interpreter_for(source, zlib, Path(folder))
            run([source.tree / "configure", "-q", f"CC={self.compiler}", *flags, *more], build)
            (build / "Modules" / "Setup.local").write_text(modules)
            run(["make", "-s", f"-j{self.jobs}", "python"], build)
            (made / "include").mkdir(parents=True)
            shutil.copytree(source.tree / "Include", made / "include", dirs_exist_ok=True)
            shutil.copy(build / "pyconfig.h", made / "include")
            shutil.copy(build / "python", made)
            shutil.copy(next(build.glob("libpython*.a")), made / "libpython.a")
            without = shutil.ignore_patterns("test", "tests", "idlelib", "tkinter", "ensurepip")
            shutil.copytree(source.tree / "Lib", made / "Lib", ignore=without)
            made.rename(place)
        return place

    def _interpreter_for(self, source: Source, zlib: Source, folder: Path) -> list[str]:
        """Return options by which configure finds the interpreter that the build runs."""
        del source, zlib, folder
        return []  # the one that it makes

    def _say(self, source: Source) -> None:
        about = f"{source.name} {source.version} for {self.machine}"
        print(f"building {about}, once", file=sys.stderr, flush=True)


class CrossBuilder(Builder):
    """Builds for another machine, with Zig's compiler and what *here* has built."""

    def __init__(self, cache: Path, jobs: int, here: Builder, machine: str) -> None:
        self.here, self.machine = here, machine
        super().__init__(cache, jobs)
        self.python_flags = (f"--host={machine}-linux-musl", f"--build={HERE}-linux-gnu", *ANSWERS)

    def _compiler(self) -> tuple[Path, str]:
        words = {"cache": self.cache / "zig", "zig": zig() / "zig", "machine": self.machine}
        script = self._script(f"cc-{self.machine}", CROSS_COMPILER.format(**words))
        version = importlib.metadata.version("ziglang")
        return script, f"ziglang {version} {self.machine} {CROSS_COMPILER}"

    def _interpreter_for(self, source: Source, zlib: Source, folder: Path) -> list[str]:
        """Lay the interpreter out as it finds its library without being told."""
        place, home = self.here.python(source, zlib), folder / "here"
        for name in ("bin", "lib"):
            (home / name).mkdir(parents=True)
        shutil.copy(place / "python", home / "bin")
        (home / "lib" / source.name).symlink_to(place / "Lib")
        # The plain name is refused, as one for this machine only.
        readelf = shutil.which("readelf")
        return [f"--with-build-python={home / 'bin' / 'python'}", f"READELF={readelf}"]


if __name__ == "__main__":
    libraries(*sys.argv[1:2] or [HERE])
