"""The main job, for `make demo`: wrap a real HTTP server, stop it while a slow request is in
flight, show what happens; then rehearse the stop of a server that has no shutdown code, with
gracewrap and without."""

import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

SERVER = Path(__file__).with_name("slow_server.py")
WITHOUT = Path(__file__).with_name("server_without_shutdown_code.py")
GRACEWRAP = str(Path(sys.executable).with_name("gracewrap"))


def main() -> int:
    """Return 0 if no request was lost that gracewrap is to save."""
    return stop_one() or rehearse()


def stop_one() -> int:
    """Return 0 if the request in flight was answered and the server ended well."""
    command = [GRACEWRAP, "--log-format", "text", "--shutdown-timeout", "8s", "--"]
    command += [sys.executable, "-u", str(SERVER)]
    print("$", " ".join(["gracewrap", *command[1:5], "--", "python3", "slow_server.py"]))
    wrapped = subprocess.Popen(command, env={"PORT": "0"}, stdout=subprocess.PIPE, text=True)
    assert wrapped.stdout is not None
    first = wrapped.stdout.readline()
    print(first, end="", flush=True)
    answers: list[str] = []
    url = f"http://127.0.0.1:{first.rsplit(maxsplit=1)[-1]}/slow?s=1.5"
    client = threading.Thread(
        target=lambda: answers.append(urllib.request.urlopen(url, timeout=10).read().decode())
    )
    client.start()
    print(f"client: GET {url}", flush=True)
    print(
        wrapped.stdout.readline(), end="", flush=True
    )  # "working on ...": the request is in flight
    print(f"you:    kill -TERM {wrapped.pid}", flush=True)
    wrapped.send_signal(signal.SIGTERM)
    for line in wrapped.stdout:
        print(line, end="", flush=True)
    status = wrapped.wait(20)
    client.join(5)
    print(f"client: {answers[0] if answers else 'the request was cut'}", end="")
    print(f"gracewrap left with exit status {status}")
    return 0 if answers and status == 0 else 1


def rehearse() -> int:
    """Return 0 if no request was lost under gracewrap; without it, some are."""
    ways = ["bare", *filter(shutil.which, ("tini", "dumb-init"))]
    options = [
        *("--repeat", "2", "--compare", ",".join(ways)),
        *("--propagation-delay", "1s", "--drain-tcp", "auto", "--drain-when", "before-signal"),
        *("--success-exit-codes", "TERM"),
    ]
    words = ["drill", "--url", "http://127.0.0.1:{port}/", *options, "--"]
    print("\nAnd a server without shutdown code, 20 requests a second, two stops each:\n")
    print("$", " ".join(["gracewrap", *words, "python3", WITHOUT.name]), flush=True)
    done = subprocess.run([GRACEWRAP, *words, sys.executable, str(WITHOUT)], check=False)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
