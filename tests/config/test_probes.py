"""Probes, actions, URLs and addresses: what is accepted, what is refused and in which words, and
what goes together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gracewrap.cli.check_warnings import doubts
from gracewrap.cli.explain_stop import story
from gracewrap.cli.format_settings import as_written, shown
from gracewrap.config import problems as problems_
from gracewrap.config import values
from gracewrap.config.command_line import CommandLine, read_command_line
from gracewrap.config.load import resolve
from gracewrap.config.origins import RawValue
from gracewrap.config.parsers import answer_selectors, commands, hooks, http_request, probes, urls
from gracewrap.config.probe_specs import (
    Address,
    CheckSpecs,
    CommandAction,
    ExecProbeSpec,
    Expect,
    FileProbeSpec,
    Header,
    HttpAction,
    HttpProbeSpec,
    NotifyProbeSpec,
    ProbeSpecs,
    Request,
    TcpProbeSpec,
    Url,
)
from gracewrap.config.schema import BY_KEY, FURTHER
from gracewrap.config.settings import Settings
from gracewrap.config.values import BadValue

DRAIN = Url("http", "127.0.0.1", 3000, "/drain")


def short(raw: object) -> str:
    """Return a name for a test."""
    return (
        problems_.show(raw)[:40]
        if isinstance(raw, str | int | list | dict)
        else getattr(raw, "__name__", type(raw).__name__)
    )


def given_settings(*words: str, **more: object) -> tuple[Settings | None, list[str]]:
    """Return the settings, and the problems, of flags and of keys of a file (drain_all for
    drain.all)."""
    keys = {key.field: key.key for key in BY_KEY.values()}
    line = read_command_line([*words, "--", "true"])
    from_file = tuple(RawValue(keys[field], raw, "g.toml, line 1") for field, raw in more.items())
    line = CommandLine((*from_file, *line.given), line.command, None, "run", line.problems)
    settings, problems = resolve(line, {})
    return settings, [problem.text for problem in problems]


def settings_of(*words: str, **more: object) -> Settings:
    settings, problems = given_settings(*words, **more)
    assert settings is not None and problems == [], problems
    return settings


def problem_of(*words: str, **more: object) -> str:
    settings, problems = given_settings(*words, **more)
    assert settings is None
    assert len(problems) == 1, problems
    return problems[0]


# --- values --------------------------------------------------------------------------------------

EXAMPLES = [
    (urls.url, "http://127.0.0.1:3000/drain", DRAIN),
    (urls.url, " HTTP://LocalHost ", Url("http", "localhost", 80, "/")),
    (urls.url, "https://host.example.:8443?a=b", Url("https", "host.example.", 8443, "/?a=b")),
    (urls.url, "https://host_1/a?b=http://c", Url("https", "host_1", 443, "/a?b=http://c")),
    (urls.url, "http://[::1]:3000/x:y@z", Url("http", "::1", 3000, "/x:y@z")),
    (urls.url, "http://[2001:DB8::1]", Url("http", "2001:db8::1", 80, "/")),
    (urls.url, "unix:///run/app.sock:/drain?x=1", Url("unix", "/run/app.sock", 0, "/drain?x=1")),
    (urls.url, "unix:///run/app.sock", Url("unix", "/run/app.sock", 0, "/")),
    (urls.url, "unix://run/app.sock:/drain", "the path of a socket starts with /"),
    (urls.url, "unix:///run/app.sock:drain", "after the socket comes the path of the request"),
    (urls.url, "unix:///" + "x" * 108, "no path of a socket"),
    (urls.url, "unix:/run/app.sock:/x", 'write "unix:///run/app.sock:/x"'),
    (urls.url, "localhost:3000/x", 'has no scheme; write "http://localhost:3000/x"'),
    (urls.url, ":3000/x", 'has no scheme; write "http://127.0.0.1:3000/x"'),
    (urls.url, "/drain", 'has no host; write "http://127.0.0.1:3000/drain"'),
    (urls.url, "http:/x/y", 'write "http://x/y"'),
    (urls.url, "ftp://h/", "must start with http://, https:// or unix://"),
    (urls.url, "http://u:p@h/", "names a user"),
    (urls.url, "http://h/#x", "has a fragment"),
    (urls.url, "http://h/a b", "holds a space"),
    (urls.url, "http://h/\n", DRAIN and Url("http", "h", 80, "/")),
    (urls.url, "http://h/\x00", "holds a space or another character"),
    (urls.url, "http://bücher/", "or another character"),
    (urls.url, "http:///x", 'has no host; write "http://127.0.0.1/x"'),
    (urls.url, "http://:80/x", 'has no host; write "http://127.0.0.1:80/x"'),
    (urls.url, "http://h:/x", "a port goes from 1 to 65535"),
    (urls.url, "http://h:0/x", "a port goes from 1 to 65535"),
    (urls.url, "http://h:65536/x", "a port goes from 1 to 65535"),
    (urls.url, "http://h:8٣/x", "another character"),
    (urls.url, "http://::1/x", "IPv6 address without brackets"),
    (urls.url, "http://[::1/x", "has no IPv6 address in its brackets"),
    (urls.url, "http://[::1]x/", "has no IPv6 address in its brackets"),
    (urls.url, "http://[1.2.3.4]/", "has no IPv6 address in its brackets"),
    (urls.url, "http://1.2.3/", "is no IPv4 address"),
    (urls.url, "http://1.2.3.400/", "is no IPv4 address"),
    (urls.url, "http://-a/", "neither a name nor an address"),
    (urls.url, "http://a%20b/", "neither a name nor an address"),
    (urls.url, "http://h/" + "x" * 5000, "more than 4096"),
    (urls.url, "", "is empty"),
    (urls.url, 3000, "not a URL"),
    (
        urls.addresses,
        "127.0.0.1:9000, [::1]:9001",
        (Address("127.0.0.1", 9000), Address("::1", 9001)),
    ),
    (
        urls.addresses,
        [":9000", 9001, "unix:/run/x.sock"],
        (Address("", 9000), Address("", 9001), Address(path="/run/x.sock")),
    ),
    (urls.addresses, "unix:///run/x.sock", (Address(path="/run/x.sock"),)),
    (urls.addresses, 9000, (Address("", 9000),)),
    (urls.addresses, "9000,:9000", "names an address twice"),
    (urls.addresses, "localhost:9000", 'write its address, "127.0.0.1:9000" for localhost'),
    (urls.addresses, "*:9000", "its host is neither a name nor an address"),
    (urls.addresses, "127.0.0.1", 'has no port; write "127.0.0.1:9000"'),
    (urls.addresses, "[::1]", 'has no port; write "[::1]:9000"'),
    (urls.addresses, "::1:9000", "without brackets"),
    (urls.addresses, "0", "a port goes from"),
    (urls.addresses, "unix:run/x", "starts with /"),
    (urls.addresses, "http://127.0.0.1:9000", "not an address"),
    (urls.addresses, [True], "not an address"),
    (urls.addresses, list(range(1, 12)), "more than 8"),
    (http_request.headers, {"Accept": "text/plain"}, (Header("Accept", "text/plain"),)),
    (
        http_request.headers,
        "Accept: text/plain, a/b\nX-A:b",
        (Header("Accept", "text/plain, a/b"), Header("X-A", "b")),
    ),
    (
        http_request.headers,
        {"A": {"env": "X", "prefix": "Bearer "}},
        (Header("A", "Bearer ", env="X"),),
    ),
    (http_request.headers, {"A": {"file": "/run/x"}}, (Header("A", file="/run/x"),)),
    (
        http_request.headers,
        {"A": {"file": "/x", "env": "X"}},
        "A is neither text nor a place to find it",
    ),
    (http_request.headers, {"A": {"prefix": "x"}}, "A is neither text nor a place"),
    (http_request.headers, {"A": 1}, "A is neither text nor a place"),
    (http_request.headers, {"A": "x\r\nB: y"}, "holds what no header can"),
    (http_request.headers, {"A": {"env": "X", "prefix": "ü"}}, "holds what no header can"),
    (http_request.headers, {"A": {"env": "X=Y"}}, "no name of a variable"),
    (http_request.headers, {"A": {"file": ""}}, "has an empty file"),
    (http_request.headers, {"A B": "x"}, "has a name that no header can have"),
    (http_request.headers, {"Connection": "x"}, "Connection is written by gracewrap"),
    (http_request.headers, {"Host": "example.org"}, (Header("Host", "example.org"),)),
    (http_request.headers, "Accept", 'write "Accept: text/plain"'),
    (http_request.headers, {"X": "1", **{f"X{n}": "1" for n in range(60)}}, "more than 50"),
    (urls.ports, True, ()),
    (urls.ports, "auto", ()),
    (urls.ports, "3000, 3001,3000", (3000, 3001)),
    (urls.ports, [3000, "3001"], (3000, 3001)),
    (urls.ports, 3000, (3000,)),
    (urls.ports, False, 'write "auto" or [3000]'),
    (urls.ports, [], "names no port"),
    (urls.ports, "auto,3000", 'write "auto" or [3000]'),
    (probes.equals, 0, 0.0),
    (probes.equals, "0", 0.0),
    (probes.equals, '"0"', "0"),
    (probes.equals, "true", True),
    (probes.equals, False, False),
    (probes.equals, "idle", "idle"),
    (probes.equals, "inf", "inf"),
    (probes.equals, float("nan"), "not a number"),
    (probes.equals, [0], "is neither a number nor a text"),
    (values.number, "1e999", "not a number"),
    (values.number, "1_0", "not a number"),
    (values.number, 1 << 20000, "not a number"),
    (values.number, "-1.5", -1.5),
    (commands.argv, "sh -c 'a && b'", ("sh", "-c", "a && b")),
    (commands.argv, r"a \& \$X", ("a", "&", "$X")),
    (commands.argv, "a '$X' x=$ 5$", ("a", "$X", "x=$", "5$")),
    (commands.argv, "a && b", "gracewrap runs no shell to read its &&"),
    (commands.argv, "a; b", "gracewrap runs no shell to read its ;"),
    (commands.argv, "a > b", "gracewrap runs no shell to read its >"),
    (commands.argv, "a | b", "gracewrap runs no shell to read its |"),
    (commands.argv, 'a "$(b)"', "gracewrap runs no shell to read its $("),
    (commands.argv, "a $HOME", "gracewrap runs no shell to read its $H"),
    (commands.argv, "a `b`", "gracewrap runs no shell to read its `"),
    (commands.argv, "a\nb", "gracewrap runs no shell to read its line end"),
    (commands.argv, "a 'b", "no closing quotation"),
    (commands.argv, "  ", "is empty"),
    (commands.argv, ["a b", ""], ("a b", "")),
    (urls.control_socket, " AUTO ", "auto"),
    (urls.control_socket, "/run/g.sock", "/run/g.sock"),
    (urls.control_socket, "", "is empty"),
    (urls.control_socket, "/" + "x" * 107, "no path of a socket"),
    (urls.gateway, "http://push:9091", Url("http", "push", 9091, "/")),
    (urls.gateway, "https://push/prefix", Url("https", "push", 443, "/prefix")),
    (urls.gateway, "http://push:9091/metrics/job/x", "the path is added by gracewrap"),
    (urls.job, "a/b", "not a name of a job"),
    (values.span_or_off, "OFF", None),
    (values.span, "5ms", 'is too short; write at least "10ms"'),
    (probes.confirm, "100", 100),
    (probes.confirm, 0, "from 1 to 100"),
    (probes.confirm, True, "from 1 to 100"),
    (http_request.method, "post", "POST"),
    (http_request.method, "CONNECT", "not a method"),
    (hooks.action, ["./x", "y"], CommandAction(("./x", "y"))),
    (hooks.action, "./x 'a b'", CommandAction(("./x", "a b"))),
    (hooks.action, "http://127.0.0.1:3000/drain", HttpAction(Request(DRAIN, "POST"))),
    (hooks.action, "unix:///a:/b", HttpAction(Request(Url("unix", "/a", 0, "/b"), "POST"))),
    (hooks.action, "curl http://127.0.0.1/", CommandAction(("curl", "http://127.0.0.1/"))),
    (hooks.action, "HTTPS://h/", HttpAction(Request(Url("https", "h", 443, "/"), "POST"))),
    (hooks.action, "ftp://h/", "must start with http://"),
    (hooks.action, "a && b", "gracewrap runs no shell to read its &&"),
    (hooks.action, {"command": "./x y", "timeout": "5s"}, CommandAction(("./x", "y"), 5.0)),
    (
        hooks.action,
        {
            "http": "http://127.0.0.1:3000/drain",
            "method": "put",
            "headers": {"A": "b"},
            "body": "ü",
            "timeout": "1s",
        },
        HttpAction(Request(DRAIN, "PUT", (Header("A", "b"),), "ü".encode()), 1.0),
    ),
    (hooks.action, {"timeout": "5s"}, "needs command or http, one of them"),
    (hooks.action, {"command": ["a"], "http": "http://h/"}, "needs command or http, one of them"),
    (hooks.action, {"command": ["a"], "body": "x"}, "body: it is for http"),
    (hooks.action, {"command": ["a"], "timeout": "0s"}, "timeout: is too short"),
    (
        hooks.action,
        {"url": "http://h/"},
        'url: gracewrap calls this http; write {http = "http://h/"}',
    ),
    (hooks.action, {"http": "http://h/", "insecure": True}, "insecure: it applies to https only"),
    (hooks.action, 3, "is neither a command nor a URL"),
    (probes.ready, "tcp", CheckSpecs((TcpProbeSpec(mode="listening"),))),
    (probes.ready, "notify", CheckSpecs((NotifyProbeSpec("READY=1"),))),
    (probes.ready, "http://127.0.0.1:3000/drain", CheckSpecs((HttpProbeSpec(Request(DRAIN)),))),
    (probes.ready, {"tcp": 3000}, CheckSpecs((TcpProbeSpec((3000,), "listening"),))),
    (
        probes.ready,
        {"exec": ["pg_isready"]},
        CheckSpecs((ExecProbeSpec(("pg_isready",), counts=False),), every=5.0),
    ),
    (
        probes.ready,
        {"any": ["tcp", {"file": "/run/x"}]},
        CheckSpecs((TcpProbeSpec(mode="listening"), FileProbeSpec("/run/x")), "any"),
    ),
    (
        probes.ready,
        {"tcp": 80, "every": "3s", "failures": 5, "passes": 2, "timeout": "1s"},
        CheckSpecs((TcpProbeSpec((80,), "listening"),), "all", 3.0, 5, 2, 1.0),
    ),
    (
        probes.ready,
        {"any": ["tcp"], "every": "3s"},
        CheckSpecs((TcpProbeSpec(mode="listening"),), "any", 3.0),
    ),
    (
        probes.ready,
        {"exec": ["pg_isready"], "every": "1s"},
        CheckSpecs((ExecProbeSpec(("pg_isready",), counts=False),)),
    ),
    (probes.live, "tcp", CheckSpecs((TcpProbeSpec(mode="listening"),), every=10.0)),
    (
        probes.live,
        {"http": "http://127.0.0.1:3000/drain", "failures": 5},
        CheckSpecs((HttpProbeSpec(Request(DRAIN)),), every=10.0, failures=5),
    ),
    (probes.live, "notify", 'is a watchdog; write watchdog = "30s"'),
    (probes.live, {"log_line": "up"}, "log_line tells that a program is ready, not that it is"),
    (probes.ready, {"every": "1s"}, 'has no probe; add http = "http://'),
    (probes.ready, {"tcp": 80, "every": 1}, 'every: has no unit; write "1s"'),
    (probes.ready, {"tcp": 80, "every": "0s"}, "every: is too short"),
    (probes.ready, {"tcp": 80, "failures": 0}, "failures: not a number from 1 to 100"),
    (probes.ready, {"tcp": 80, "passes": "x"}, "passes: not a number from 1 to 100"),
    (
        probes.ready,
        {"all": [{"tcp": 80, "every": "1s"}]},
        "its probe 1: every: it is said once for all probes; write it beside all or any",
    ),
    (
        probes.ready,
        {"tcp": 80, "failureThreshold": 3},
        "failureThreshold: gracewrap calls this failures; write failures = 3",
    ),
    (
        probes.ready,
        {"tcp": 80, "initialDelaySeconds": 3},
        "initialDelaySeconds: it is asked from the start on, and how long that may take is "
        "ready_timeout; remove it",
    ),
    (probes.ready, {"all": ["tcp"], "tcp": True}, "has all or any, and something beside it"),
    (probes.ready, {"all": []}, "not a list of 1 to 16 probes"),
    (probes.ready, {"tcp": True, "mode": "idle"}, "mode: a program that listens is ready"),
    (
        probes.ready,
        {"http": "http://h/", "json": "/a"},
        "json: nobody can tell which value means ready",
    ),
    (probes.ready, {"http": "http://h/", "on_refused": "drained"}, "on_refused: it is for a drain"),
    (probes.ready, {"all": [{"all": []}]}, "its probe 1: all: no such key"),
    (probes.ready, {}, "is empty"),
    (probes.ready, "soon", "not a probe"),
    (
        probes.ready,
        "localhost:3000",
        'write {tcp = 3000} (it listens), or "http://localhost:3000/" (it answers 200)',
    ),
    (
        probes.ready,
        ":80",
        'not a probe; write {tcp = 80} (it listens), or "http://127.0.0.1:80/" (it answers 200)',
    ),
    (probes.ready, "tcp:80", "not a probe; write {tcp = 80}"),
    (probes.ready, "tcp://localhost:80", "not a probe; write {tcp = 80}"),
    (probes.ready, "tcp 80", "not a probe; write {tcp = 80}"),
    (probes.ready, "tcp:auto", 'not a probe; write "tcp"'),
    (probes.ready, "TCP", 'not a probe; write "tcp"'),
    (probes.ready, "80", "not a probe; write {tcp = 80}, "),
    (probes.ready, 80, "not a probe; write {tcp = 80}, "),
    (probes.ready, "http", 'not a probe; write "http://127.0.0.1:3000/"'),
    (probes.ready, "http:80", 'has no host; write "http://127.0.0.1:80/"'),
    (probes.ready, "http:/healthz", 'has no host; write "http://127.0.0.1:3000/healthz"'),
    (
        probes.ready,
        "/healthz",
        'write "http://127.0.0.1:3000/healthz" (it answers 200), {exec = ["/healthz"]}',
    ),
    (probes.ready, "127.0.0.1:80/x", 'has no scheme; write "http://127.0.0.1:80/x"'),
    (
        probes.ready,
        "redis://u:p@x:80",
        'write {tcp = 80} (it listens), or {exec = ["./script"]} that asks it',
    ),
    (probes.ready, "redis://x", "must start with http://, https:// or unix://"),
    (probes.ready, "file:/run/x", 'write {file = "/run/x"}'),
    (probes.ready, "exec:./x -y", 'write {exec = "./x -y"}'),
    (probes.ready, "log_line: up", 'write {log_line = "up"}'),
    (probes.ready, "pg_isready -q", 'write {exec = "pg_isready -q"}'),
    (probes.ready, "a && b", 'write {exec = ["sh", "-c", "a && b"]}'),
    (probes.ready, ["pg_isready", "-q"], 'write {exec = ["pg_isready", "-q"]}'),
    (probes.ready, [{"tcp": 80}], "write {all = [...]}"),
    (probes.ready, [], 'write "tcp", "notify"'),
    (probes.ready, "READY=1", 'write "notify"'),
    (probes.ready, {"port": 80}, "port: gracewrap calls this tcp; write {tcp = 80}"),
    (
        probes.ready,
        {"ports": ["80", 81]},
        "ports: gracewrap calls this tcp; write {tcp = [80, 81]}",
    ),
    (probes.ready, {"port": "x"}, 'port: gracewrap calls this tcp; write {tcp = "auto"}'),
    (
        probes.ready,
        {"host": "localhost", "port": 80},
        "host: gracewrap calls this tcp; write {tcp = 80}",
    ),
    (
        probes.ready,
        {"url": "http://u:p@h/"},
        'url: gracewrap calls this http; write {http = "http://127.0.0.1:3000/"}',
    ),
    (
        probes.ready,
        {"httpGet": {"path": "/x", "port": 80}},
        'write {http = "http://127.0.0.1:80/x"}',
    ),
    (
        probes.ready,
        {"http": {"url": "http://h/x"}},
        'http: its value is no table; write {http = "http://h/x"}',
    ),
    (probes.ready, {"http": 80}, 'http: not a URL; write "http://127.0.0.1:80/"'),
    (probes.ready, {"tcpSocket": {"port": 80}}, "write {tcp = 80}"),
    (probes.ready, {"tcp": {"port": 80}}, "tcp: its value is no table; write {tcp = 80}"),
    (
        probes.ready,
        {"tcp": "localhost:80"},
        "tcp: names a host, and it is the ports of the program that are l",
    ),
    (
        probes.ready,
        {"exec": {"command": "x y"}},
        'exec: its value is no table; write {exec = "x y"}',
    ),
    (
        probes.ready,
        {"test": ["CMD", "x", "-y"]},
        'test: gracewrap calls this exec; write {exec = ["x", "-y"]}',
    ),
    (probes.ready, {"test": ["CMD-SHELL", "x || y"]}, 'write {exec = ["sh", "-c", "x || y"]}'),
    (probes.ready, {"log": "up"}, 'log: gracewrap calls this log_line; write {log_line = "up"}'),
    (probes.ready, {"path": "/x"}, 'path: gracewrap calls this file; write {file = "/x"}'),
    (probes.ready, {"http": "http://h/", "expect": 1}, "expect: gracewrap calls this equals"),
    (
        probes.ready,
        {"tcp": 80, "interval": "1s"},
        'interval: gracewrap calls this every; write every = "1s"',
    ),
    (probes.ready, {"grpc": 80}, "grpc: no such key; there are http, "),
    (
        probes.elements,
        [{"tcp": 80, "interval": "1s"}],
        "interval: it is said once for all probes; write it in [drain]",
    ),
    (
        probes.elements,
        [{"port": 80}],
        "its probe 1: port: gracewrap calls this tcp; write {tcp = 80}",
    ),
    (
        hooks.action,
        {"exec": ["./x"]},
        'exec: gracewrap calls this command; write {command = ["./x"]}',
    ),
    (hooks.action, {"command": ["./x"], "timeout": 3}, 'timeout: has no unit; write "3s"'),
    (probes.elements, [{"tcp": True}, {"notify": True}], (TcpProbeSpec(), NotifyProbeSpec())),
    (
        probes.elements,
        [{"tcp": True}, {"tcp": 80, "http": "http://h/"}],
        "its probe 2: tcp: there is http too",
    ),
    (
        probes.elements,
        [{"tcp": True, "qiet": "1s"}],
        'its probe 1: qiet: no such key; did you mean "quiet"?',
    ),
    (probes.elements, {"tcp": True}, "not a list"),
    (probes.elements, [{"tcp": True}] * 17, "not a list of 1 to 16"),
]


@pytest.mark.parametrize(("parse", "raw", "wanted"), EXAMPLES, ids=short)
def test_examples(parse, raw, wanted):
    try:
        found = parse(raw)
    except BadValue as wrong:
        assert isinstance(wanted, str) and wanted in str(wrong)
    else:
        assert found == wanted and type(found) is type(wanted)


@given(
    st.sampled_from(["http://", "https://", "unix:///", "", "http://[", "http://h:"]),
    st.text(max_size=30),
)
def test_any_text_is_a_url_or_refused_and_what_is_shown_parses_back(start, rest):
    try:
        url = urls.url(start + rest)
    except BadValue as wrong:
        assert str(wrong)
    else:
        assert urls.url(url.shown) == url


@given(st.text(max_size=40))
def test_any_text_is_words_or_refused(text):
    try:
        assert commands.split_words(text)
    except BadValue as wrong:
        assert str(wrong)


# --- selectors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", ()),
        ("/", ("",)),
        ("/a/b~1c~0d/0", ("a", "b/c~d", "0")),
        ("/a b/ü", ("a b", "ü")),
        ("/~01", ("~1",)),
    ],
)
def test_pointers(text, keys):
    assert answer_selectors.parse_pointer(text) == keys


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("active.jobs", 'write "/active/jobs"'),
        ("$.a[0].b", 'write "/a/0/b"'),
        ("#/a", 'write "/a"'),
        ("/a~2", '"~2" is neither'),
        ("/a~", '"~" is neither'),
        ("/" * 2000, "more than 1000"),
    ],
)
def test_no_pointers(text, said):
    with pytest.raises(ValueError) as caught:
        answer_selectors.parse_pointer(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "name", "matchers"),
    [
        ("a:b_1", "a:b_1", ()),
        ("a{}", "a", ()),
        (' a { x="1", y != "2" ,} ', "a", (("x", "=", "1"), ("y", "!=", "2"))),
        ("a{x=~'b|c',y!~\"d.*\"}", "a", (("x", "=~", "b|c"), ("y", "!~", "d.*"))),
        (r'a{x="\"}\\\n,"}', "a", (("x", "=", '"}\\\n,'),)),
    ],
)
def test_selectors(text, name, matchers):
    assert answer_selectors.parse_selector(text) == (name, matchers)


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "not a metric"), ("a b", "not a metric"), ("1a", "not a metric"), ("a{", "its } is "
                                                                                   "missing"),
     ('a{x="1"} 3', "its } is"),
     ("a{x}", "cannot read x"), ("a{x=1}", "cannot read x=1"), ('a{x="1" y="2"}', "cannot read"),
     ('a{x=~"("}', "not a regular expression"), ("a" * 2000, "more than 1000")],
)  # fmt: skip
def test_no_selectors(text, said):
    with pytest.raises(ValueError) as caught:
        answer_selectors.parse_selector(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(", "not a regular expression"),
        ("", "is empty"),
        ("(a+)+b", "can take for ever"),
        ("(?:x*y*)*", "can take for ever"),
        ("a{99999999999999}", "not a regular expression"),
    ],
)
def test_no_regular_expressions(text, said):
    with pytest.raises(ValueError) as caught:
        answer_selectors.check_regex(text)
    assert said in str(caught.value)


@pytest.mark.parametrize("text", [r"active: (\d+)", "(?:ab){2,9}+", "[[a]", "(a++)*b", "x*y*"])
def test_regular_expressions(text):
    answer_selectors.check_regex(text)


@given(st.text(max_size=30) | st.text("abx/~{}=!\"',() \\*+|[]", max_size=30))
def test_any_text_is_a_selector_or_refused(text):
    for parse in (
        answer_selectors.parse_pointer,
        answer_selectors.parse_selector,
        answer_selectors.check_regex,
    ):
        try:
            parse(text)
        except ValueError as wrong:
            assert str(wrong)


# --- together ------------------------------------------------------------------------------------

URL = "http://127.0.0.1:3000/drain"
PROBES = [
    ({"drain_http": URL}, HttpProbeSpec(Request(DRAIN))),
    (
        {"drain_http": URL, "drain_status": 204, "drain_method": "HEAD"},
        HttpProbeSpec(Request(DRAIN, "HEAD"), Expect(status=204)),
    ),
    (
        {
            "drain_http": URL,
            "drain_json": "/a",
            "drain_unit": "jobs",
            "drain_on_refused": "drained",
        },
        HttpProbeSpec(Request(DRAIN), Expect("json", "/a"), "drained", "jobs"),
    ),
    (
        {"drain_http": URL, "drain_json": "/a", "drain_equals": "idle"},
        HttpProbeSpec(Request(DRAIN), Expect("json", "/a", equals="idle")),
    ),
    (
        {"drain_http": URL, "drain_metric": "a", "drain_at_most": 2, "drain_absent": "zero"},
        HttpProbeSpec(Request(DRAIN), Expect("metric", "a", at_most=2.0, absent="zero")),
    ),
    (
        {"drain_http": URL, "drain_text": r"n: (\d+)"},
        HttpProbeSpec(Request(DRAIN), Expect("text", r"n: (\d+)")),
    ),
    (
        {"drain_http": "https://h/", "drain_insecure": True, "drain_headers": {"A": "b"}},
        HttpProbeSpec(
            Request(Url("https", "h", 443, "/"), headers=(Header("A", "b"),), insecure=True)
        ),
    ),
    (
        {"drain_http": "https://h/", "drain_ca": "/c"},
        HttpProbeSpec(Request(Url("https", "h", 443, "/"), ca="/c")),
    ),
    ({"drain_tcp": True}, TcpProbeSpec()),
    (
        {"drain_tcp": [80], "drain_mode": "no-connections", "drain_unit": "clients"},
        TcpProbeSpec((80,), "no-connections", unit="clients"),
    ),
    ({"drain_tcp": "auto", "drain_quiet": "5s"}, TcpProbeSpec(quiet=5.0)),
    ({"drain_tcp": "auto", "drain_outgoing": "quiet"}, TcpProbeSpec(outgoing="quiet")),
    ({"drain_exec": ["a", "b"]}, ExecProbeSpec(("a", "b"))),
    ({"drain_file": "/f", "drain_contains": "x"}, FileProbeSpec("/f", "exists", "x")),
    ({"drain_file": "/f", "drain_file_is": "absent"}, FileProbeSpec("/f", "absent")),
    ({"drain_notify": True}, NotifyProbeSpec()),
    ({"drain_notify": False, "drain_insecure": False, "drain_tcp": 80}, TcpProbeSpec((80,))),
]


@pytest.mark.parametrize(("more", "probe"), PROBES)
def test_a_probe_from_the_keys_of_the_drain(more, probe):
    assert settings_of(**more).drain == ProbeSpecs((probe,))
    # And the same as the one of several.
    table = {key.removeprefix("drain_"): raw for key, raw in more.items()}
    assert settings_of(drain_any=[table]).drain == ProbeSpecs((probe,), "any")


LINGERS = [
    ({"drain_http": URL}, 2.0),
    ({"drain_exec": ["x"]}, 2.0),
    ({"drain_file": "/x"}, 2.0),
    ({"drain_notify": True}, 2.0),
    ({"drain_tcp": True}, None),
    ({"drain_all": [{"tcp": True}, {"notify": True}]}, 2.0),
    ({"drain_all": [{"tcp": 1}, {"tcp": 2}]}, None),
    ({"drain_any": [{"tcp": True}, {"notify": True}]}, None),
    ({"drain_any": [{"file": "/x"}, {"notify": True}]}, 2.0),
    ({"drain_tcp": True, "drain_linger": "1s"}, 1.0),
    ({"drain_http": URL, "drain_linger": "off"}, None),
    ({"drain_start": ["x"]}, None),
]


@pytest.mark.parametrize(("more", "linger"), LINGERS)
def test_linger_is_off_where_the_verdict_may_rest_on_tcp_alone(more, linger):
    assert settings_of(**more).drain_linger == linger


@pytest.mark.parametrize(
    ("more", "notify"),
    [
        ({"drain_notify": True}, True),
        ({"drain_any": [{"notify": True}]}, True),
        ({"ready": "notify"}, True),
        ({"watchdog": "1s"}, True),
        ({"notify": True}, True),
        ({"drain_tcp": True}, False),
        ({"notify": False}, False),
    ],
)
def test_notify_is_on_where_something_needs_it(more, notify):
    assert settings_of(**more).notify is notify


def test_the_job_of_a_push_is_the_command():
    assert settings_of(report_pushgateway="http://h:9091").report_pushgateway_job == "true"
    assert (
        settings_of(
            report_pushgateway="http://h:9091", report_pushgateway_job="web"
        ).report_pushgateway_job
        == "web"
    )
    line = CommandLine(
        (
            RawValue("report.pushgateway", "http://h", ""),
            RawValue("command", ["/usr/bin/node", "x"], ""),
        ),
        (),
        None,
        "run",
        (),
    )
    settings, problems = resolve(line, {}, needs_command=False)
    assert settings is not None and settings.report_pushgateway_job == "node" and problems == []


@pytest.mark.parametrize(
    ("more", "needed"),
    [
        ({}, False),
        ({"health_listen": [":90"]}, False),
        ({"control_socket": "off"}, False),
        ({"drain_tcp": True}, True),
        ({"drain_start": ["x"]}, True),
        ({"pre_stop": ["x"]}, True),
        ({"post_stop": ["x"]}, True),
        ({"ready": "tcp"}, True),
        ({"live": "tcp"}, True),
        ({"watchdog": "9s"}, True),
        ({"report_pushgateway": "http://h"}, True),
    ],
)
def test_whether_anything_is_done_on_the_side(more, needed):
    assert settings_of(**more).needs_errands is needed


WRONG = [
    (
        {"drain_http": URL, "drain_tcp": True},
        "drain.tcp (g.toml, line 1): there is http too; write all = [{http = ...}, {tcp = ...}]",
    ),
    (
        {"drain_json": "/a"},
        "drain.json (g.toml, line 1): there is no probe that it could belong to; write http = ",
    ),
    (
        {"drain_quiet": "1s"},
        "drain.quiet (g.toml, line 1): there is no probe that it could belong to; write tcp = "
        '"auto" beside it',
    ),
    ({"drain_tcp": True, "drain_json": "/a"}, "a probe by tcp does not look at json"),
    (
        {"drain_http": URL, "drain_quiet": "1s"},
        'a probe by http does not look at quiet; remove it, or write tcp = "auto" instead',
    ),
    ({"drain_file": "/x", "drain_unit": "jobs"}, "a probe by file counts nothing"),
    (
        {"drain_exec": ["x"], "drain_contains": "y"},
        'a probe by exec does not look at contains; remove it, or write file = "/run',
    ),
    ({"drain_notify": True, "drain_unit": "jobs"}, "a probe by notify counts nothing"),
    (
        {"drain_http": URL, "drain_json": "/a", "drain_equals": 0, "drain_at_most": 1},
        "drain.at_most (g.toml, line 1): equals is set too",
    ),
    (
        {"drain_http": URL, "drain_equals": 0},
        "drain.equals (g.toml, line 1): it needs json, metric or text to read a value from",
    ),
    (
        {"drain_http": URL, "drain_at_most": 0},
        "drain.at_most (g.toml, line 1): it needs json, metric or text",
    ),
    (
        {"drain_http": URL, "drain_status": 200, "drain_json": "/a"},
        "drain.json (g.toml, line 1): status is set too",
    ),
    ({"drain_http": URL, "drain_metric": "a", "drain_json": "/a"}, "json is set too"),
    (
        {"drain_http": URL, "drain_json": "/a", "drain_absent": "zero"},
        "only a metric can be absent",
    ),
    (
        {"drain_http": URL, "drain_json": "/a", "drain_method": "HEAD"},
        "an answer to HEAD has no body to look for json in",
    ),
    ({"drain_http": URL, "drain_metric": "a", "drain_equals": "idle"}, "a metric is a number"),
    ({"drain_http": URL, "drain_ca": "/x"}, "it applies to https only"),
    (
        {"drain_http": "https://h/", "drain_ca": "/x", "drain_insecure": True},
        "insecure skips certificate verification",
    ),
    ({"drain_tcp": True, "drain_mode": "listening"}, "that is for ready"),
    (
        {"drain_tcp": True, "drain_mode": "listener-closed", "drain_quiet": "1s"},
        'it is looked at with mode = "idle" only',
    ),
    (
        {"drain_file": "/x", "drain_file_is": "absent", "drain_contains": "y"},
        "a file that is absent holds nothing",
    ),
    ({"drain_all": [{"tcp": True}], "drain_any": [{"tcp": True}]}, "drain.all is set too"),
    (
        {"drain_all": [{"tcp": True}], "drain_http": URL},
        "drain.http (g.toml, line 1): drain.all is set too (g.toml, line 1); move it",
    ),
    ({"drain_linger": "2s"}, "there is no probe in [drain]"),
    ({"drain_start": ["x"], "drain_timeout": "2s"}, "there is no probe in [drain]"),
    ({"drain_when": "before-signal"}, "there is no probe in [drain]"),
    ({"health_on_stop": "keep"}, "it has no effect without health.listen"),
    ({"report_pushgateway_job": "x"}, "it has no effect without report.pushgateway"),
    ({"on_watchdog": "ignore"}, "it has no effect without watchdog"),
    ({"on_unhealthy": "tell"}, "it has no effect without live; add live, "),
    ({"ready_timeout": "9s"}, 'it has no effect without ready; add ready, "tcp"'),
    ({"notify": False, "watchdog": "9s"}, "notify = false (g.toml, line 1): watchdog needs it"),
    ({"notify": False, "ready": "notify"}, "a probe by notify needs it"),
    (
        {"propagation_delay": "24s"},
        'together with the "2s" kept for the stop signal it is 1s longer than the whole budget, '
        "shutdown_timeout",
    ),
    (
        {"propagation_delay": "3s", "stop_timeout": "23s"},
        'together with stop_timeout = "23s" (g.toml, line 1) it is 1s longer than the whole',
    ),
    (
        {
            "drain_tcp": True,
            "drain_when": "before-signal",
            "drain_min_drain": "10s",
            "propagation_delay": "5s",
            "stop_timeout": "15s",
        },
        'propagation_delay = "5s" (g.toml, line 1) and drain.min_drain = "10s" (g.toml, line 1): '
        'together with stop_timeout = "15s" (g.toml, line 1) they are 5s longer than the whole '
        'budget, shutdown_timeout = "25s" (default)',
    ),
    (
        {"drain_tcp": True, "drain_min_drain": "25s"},
        'no answer would ever count, because the drain is over after "25s" (what is left of',
    ),
    (
        {"drain_tcp": True, "drain_min_drain": "5s", "stop_timeout": "5s"},
        'the drain is over after "5s" (stop_timeout)',
    ),
    (
        {"drain_tcp": True, "drain_min_drain": "5s", "drain_timeout": "4s"},
        'the drain is over after "4s" (drain.timeout)',
    ),
    (
        {"drain_tcp": True, "drain_interval": "3s", "drain_confirm": 11},
        '11 answers in a row, one every "3s", take longer than "25s"',
    ),
    (
        {"drain_tcp": True, "drain_when": "before-signal", "stop_timeout": "25s"},
        'because stop_timeout = "25s" (g.toml, line 1) takes all',
    ),
    (
        {"drain_tcp": True, "drain_when": "before-signal", "propagation_delay": "23s"},
        'because propagation_delay = "23s" (g.toml, line 1) t',
    ),
    (
        {"drain_tcp": True, "drain_when": "before-signal", "drain_confirm": 93},
        '93 answers in a row, one every "0.25s", take longer',
    ),
    (
        {"drain_tcp": True, "drain_timeout": "26s"},
        'it is longer than the whole budget, shutdown_timeout = "25s" (default)',
    ),
    ({"drain_tcp": True, "drain_linger": "26s"}, "it is longer than the whole budget"),
    ({"drain_tcp": True, "drain_quiet": "26s"}, "it is longer than the whole budget"),
    (
        {"pre_stop": {"command": ["x"], "timeout": "26s"}},
        'cannot use pre_stop with timeout = "26s" (g.toml, line 1): it is longer',
    ),
]


@pytest.mark.parametrize(("more", "said"), WRONG)
def test_what_does_not_go_together(more, said):
    text = problem_of(**more)
    assert text.startswith("cannot use ") and said in text


FINE = [
    {"drain_start": ["x"]},
    {"drain_start": ["x"], "drain_when": "before-signal"},
    {"propagation_delay": "23s"},
    {"propagation_delay": "5s", "stop_timeout": "20s"},
    {"drain_tcp": True, "drain_min_drain": "20s", "drain_when": "before-signal"},
    {"drain_tcp": True, "shutdown_timeout": "1s"},
    {"drain_tcp": True, "shutdown_timeout": "0s"},
    {"shutdown_timeout": "0s", "propagation_delay": "0s"},
    {"drain_http": URL, "shutdown_timeout": "1s"},
    {"drain_tcp": True, "drain_when": "before-signal", "stop_timeout": "24s"},
    {"drain_tcp": True, "shutdown_timeout": "200ms"},
]


@pytest.mark.parametrize("more", FINE)
def test_what_does(more):
    assert settings_of(**more)


def test_an_unusable_value_does_not_cause_a_second_problem():
    assert "drain.http" in problem_of(drain_http="x", drain_json="/a", drain_linger="2s")
    assert "health.listen" in problem_of(health_listen=["x"], health_on_stop="keep")
    assert "shutdown_timeout" in problem_of(
        shutdown_timeout=9, propagation_delay="50s", drain_timeout="60s", drain_tcp=True
    )


def test_flags_over_the_file():
    settings = settings_of(
        "--drain-linger=1s",
        "--drain-headers",
        "A: b, c",
        "--drain-headers=D: e",
        drain_http=URL,
        drain_linger="3s",
    )
    assert (
        settings.drain_linger == 1.0
        and settings.origins["drain.linger"] == "command line, --drain-linger"
    )
    assert settings.drain_headers == (Header("A", "b, c"), Header("D", "e"))
    assert settings_of("--drain-tcp=80", "--drain-tcp=81").drain == ProbeSpecs(
        (TcpProbeSpec((80, 81)),)
    )


# --- anything ------------------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.just(1 << 80)
)
RAW = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
)
NEARLY = st.sampled_from(
    [
        URL,
        "https://h",
        "unix:///x:/y",
        "auto",
        "80,81",
        "/a",
        "a",
        "0",
        "1s",
        "0s",
        "25s",
        "1h",
        "off",
        "true",
        "tcp",
        "notify",
        ":90",
        "before-signal",
        "GET",
        "HEAD",
        "A: b",
        "idle",
        "absent",
        "keep",
        True,
        False,
        0,
        1,
        200,
        2.5,
        [80],
        ["a", "b"],
        {},
        [],
    ]
)
TABLES = st.dictionaries(
    st.sampled_from([*probes.PARSERS, "command", "timeout", "body", "all", "any"]),
    NEARLY,
    max_size=4,
)
SEVERAL = st.lists(TABLES, max_size=3) | st.dictionaries(
    st.sampled_from(["all", "any"]), st.lists(TABLES, max_size=2), max_size=2
)
KEYS = st.sampled_from([setting.key for setting in FURTHER] + ["shutdown_timeout", "stop_timeout"])


@given(st.dictionaries(KEYS, NEARLY | RAW | TABLES | SEVERAL, max_size=7))
def test_anything_is_settings_or_problems_in_one_line(tree):
    line = CommandLine(
        tuple(RawValue(key, raw, "g.toml") for key, raw in tree.items()), ("true",), None, "run", ()
    )
    settings, problems = resolve(line, {})
    assert (settings is None) == any(not problem.warning for problem in problems)
    assert all(problem.text.isprintable() and problem.text for problem in problems)
    if settings is not None:
        # And gracewrap check can tell them.
        assert all(row for row in (*doubts(settings), *story(settings)))
        assert all(shown(getattr(settings, setting.field), setting.key) for setting in FURTHER)
        assert settings.drain is None or settings.drain.probes
        assert hash(settings.drain) and settings.drain_confirm >= 1 and settings.drain_interval > 0


@given(
    st.dictionaries(st.sampled_from([f"drain.{key}" for key in probes.PARSERS]), NEARLY, max_size=5)
)
def test_any_keys_of_a_probe_are_one_or_a_problem_that_says_what_to_write(tree):
    line = CommandLine(
        tuple(RawValue(key, raw, "g.toml") for key, raw in tree.items()), ("true",), None, "run", ()
    )
    settings, problems = resolve(line, {})
    for problem in problems:
        assert problem.text.startswith("cannot use drain.") and "(g.toml): " in problem.text
    if settings is not None and settings.drain is not None:
        (probe,) = settings.drain.probes
        # What check shows of it means the same, but for the values of headers.
        if not (isinstance(probe, HttpProbeSpec) and probe.request.headers):
            assert probes.elements(as_written((probe,), "drain.all")) == (probe,)
