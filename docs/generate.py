"""Write what is generated from code into docs/*.md: the table of settings, the log
events, and the last benchmarks; and the pictures in docs/pictures.

python docs/generate.py           rewrite the files
python docs/generate.py --check   write nothing; exit with 1 if a file is not what it would be

A part is what stands between <!-- settings --> and <!-- /settings -->; so for events and
benchmarks.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from gracewrap.cli.cmd_init import value_text
from gracewrap.config.schema import SECTIONS, TABLE, section
from gracewrap.config.schema_core import Setting
from gracewrap.policy import log_events
from gracewrap.report import probe_events, runtime_events

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "tests" / "report" / "log_lines.txt"
RESULTS = ROOT / "benchmarks" / "results.json"
PICTURES = ROOT / "docs" / "pictures"


def settings() -> str:
    """Return the tables of settings in Markdown: the key; flag and variable follow from it."""
    parts = []
    for part, (heading, sentence) in SECTIONS.items():
        rows = [_row(setting) for setting in TABLE if section(setting) == part]
        parts += [
            f"**{heading}.** {sentence}",
            "\n".join(["| setting | default | meaning |", "| --- | --- | --- |", *rows]),
        ]
    return "\n\n".join(parts)


def _row(setting: Setting) -> str:
    names = [f"`{setting.key}`", *(f"`{alias}`" for alias in setting.aliases)]
    default = f"`{value_text(setting.default)}`" if setting.default is not None else ""
    example = f" Example: `{value_text(setting.example)}`." if setting.example is not None else ""
    cells = (", ".join(names), default, setting.help + example)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def benchmarks() -> str | None:
    """Return the table of the last measurements in Markdown, or None if there are none."""
    if not RESULTS.exists():
        return None
    command = [sys.executable, "-m", "benchmarks", "--table"]
    return subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


# Events that are no records: what is written without the policy and the runtime.
OTHERS = {
    "summary": (
        "info, warning, error",
        "outcome exit_status budget_seconds used_seconds left_seconds killed interrupted "
        "drained_after_seconds orphans_reaped",
        "The last line: how the run has ended.",
        "stopped in 0.27 s of 25 s, 24.73 s left: web (pid 70) exited with 0 after SIGTERM",
    ),
    "log_file_unusable": (
        "warning",
        "",
        "The file of log.file cannot be written.",
        "cannot write the log to '/x': Permission denied; it goes to stderr",
    ),
    "report_failed": (
        "error",
        "",
        "A report, or the metrics, cannot be written.",
        "cannot write the report to '/x': No space left on device",
    ),
}


def events() -> str:
    """Return the table of log events in Markdown: from their classes, and from the lines that
    tests/report compares with what the code writes."""
    kinds = {
        kind.EVENT: kind
        for module in (runtime_events, probe_events, log_events)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, log_events.LogRecord) and kind.EVENT
    }
    lines: dict[str, list[tuple[str, dict[str, object], str]]] = {}
    for row in LINES.read_text(encoding="utf-8").splitlines():
        if row.startswith("    "):
            level, event, rest = row.split(None, 2)
            fields, end = json.JSONDecoder().raw_decode(rest)
            lines.setdefault(event, []).append((level, fields, rest[end:].strip()))
    rows = ["| event | level | fields | when | example |", "| --- | --- | --- | --- | --- |"]
    for event, (level, fields, when, example) in OTHERS.items():
        lines[event] = [(level, dict.fromkeys(fields.split()), example)]
        kinds[event] = type(event, (), {"__doc__": when})
    for event in sorted(lines):
        levels = ", ".join(dict.fromkeys(level for level, _, _ in lines[event]))
        names = sorted({name for _, fields, _ in lines[event] for name in fields} - {"program"})
        when = " ".join((kinds[event].__doc__ or "").split()) if event in kinds else ""
        cells = (
            f"`{event}`",
            levels,
            ", ".join(f"`{name}`" for name in names),
            when.replace("*", "`"),
            lines[event][0][2],
        )
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def pictures() -> dict[Path, str]:
    """Return the pictures that stand in README and docs: the plan of docs/pictures/shop.toml, and a
    stop of it, whose report is beside it."""
    made = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, words in (
            ("plan", ["plan", "--config", "shop.toml", "--grace", "15s"]),
            ("stop", ["report", "stop.json"]),
        ):
            file = Path(directory) / f"{name}.svg"
            command = [sys.executable, "-m", "gracewrap", *words, "--svg", str(file)]
            subprocess.run(command, cwd=PICTURES, check=True, stdout=subprocess.DEVNULL)
            made[PICTURES / f"{name}.svg"] = file.read_text(encoding="utf-8")
    return made


PARTS = {"settings": settings, "benchmarks": benchmarks, "events": events}


def rewritten(text: str) -> str:
    """Return *text* with all of its parts made anew."""
    for name, make in PARTS.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        made = make() if pattern.search(text) else None
        if made is not None:
            text = pattern.sub(lambda found, made=made: f"{found[1]}\n{made}\n\n{found[2]}", text)
    return text


def files() -> list[Path]:
    """Return the files that may have such parts."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def main() -> int:
    """Rewrite the files, or with --check look whether that would change them."""
    check, changed = "--check" in sys.argv[1:], False
    made = {file: rewritten(file.read_text(encoding="utf-8")) for file in files()} | pictures()
    for file, after in made.items():
        if not file.exists() or file.read_text(encoding="utf-8") != after:
            changed = True
            print(
                f"{file.relative_to(ROOT)}: "
                f"{'is not what docs/generate.py makes of it' if check else 'rewritten'}"
            )
            if not check:
                file.write_text(after, encoding="utf-8")
    return int(check and changed)


if __name__ == "__main__":
    sys.exit(main())
