"""Write what is made from code into README.md and docs/*.md: the table of settings, and the last
benchmarks.

python docs/generate.py           rewrite the files
python docs/generate.py --check   write nothing; exit with 1 if a file is not what it would be

A part is what stands between <!-- settings --> and <!-- /settings -->, or <!-- benchmarks --> and
<!-- /benchmarks -->.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from gracewrap.cli.cmd_init import value_text
from gracewrap.config.schema import SECTIONS, TABLE, section
from gracewrap.config.schema_core import Setting

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results.json"


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


PARTS = {"settings": settings, "benchmarks": benchmarks}


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
    for file in files():
        before = file.read_text(encoding="utf-8")
        after = rewritten(before)
        if after != before:
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
