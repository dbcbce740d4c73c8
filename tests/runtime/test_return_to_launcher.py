"""What is kept while the launcher holds the command, and read by whoever takes over again."""

from __future__ import annotations

import marshal

import pytest

from gracewrap.config.settings import defaults
from gracewrap.record import replace
from gracewrap.runtime import return_to_launcher


def kept(values: dict[str, object]) -> bytes:
    return (
        b"child 7 1.5\nsettings "
        + marshal.dumps(values, return_to_launcher.FORMAT).hex().encode()
        + b"\n"
    )


@pytest.mark.parametrize("more", [{}, {"of_a_later_version": 1}])
@pytest.mark.parametrize("missing", [(), ("flush_timeout",)])
def test_settings_that_another_version_has_kept_are_read(more, missing):
    """The package has been replaced: reading the file once more would find another one, or none,
    for the directory is another by now."""
    plain = defaults(("sleep", "9"))
    settings = replace(plain, shutdown_timeout=2.0, stop_signal=10, report_file="/report")
    values = {name: value for name, value in vars(settings).items() if name not in missing}
    assert return_to_launcher.kept_settings(kept({**values, **more})) == settings
