"""Manifests of each kind, as people write them: what is found stands behind the line, or in a file
beside it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from gracewrap.config.command_line import read_command_line
from gracewrap.manifests import check, formats, parse_text, wrapped
from gracewrap.manifests.model import ERROR, Container
from gracewrap.manifests.rules_table import RULES

DATA = Path(__file__).parent / "data"
FILES = sorted(path for path in DATA.iterdir() if path.suffix != ".expect")


def options(path: Path) -> list[str]:
    """Return the words that the first line of a manifest gives to the check."""
    first = path.read_text().partition("\n")[0]
    return shlex.split(first.partition("# gracewrap:")[2])


def expected(path: Path) -> list[tuple[int, str]]:
    """Return the lines and rules that are to be found."""
    beside = path.with_name(path.name + ".expect")
    if beside.exists():
        pairs = (line.split() for line in beside.read_text().splitlines() if line.strip())
        return sorted((int(line), rule) for line, rule in pairs)
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found += [(number, rule) for rule in line.partition("# -> ")[2].split()]
    return sorted(found)


def asked(words: list[str]) -> check.Asked:
    return check.Asked(read_command_line(words))


def findings(path: Path) -> check.Result:
    return check.check([str(path)], asked(options(path)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_finding_has_its_rule_and_its_line(path):
    found = sorted((one.line, one.rule) for one in findings(path).findings)
    assert found == expected(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_can_be_mended_is_mended(path):
    """The patched manifest has none of the findings that have an edit; the other lines stay."""
    result = findings(path)
    left = check.patched(result, asked(options(path)))
    assert not any(one.edits for one in left.findings)
    before = {one.rule for one in result.findings if not one.edits}
    assert {one.rule for one in left.findings} == before
    lines, old = left.files[0].text.splitlines(), path.read_text().splitlines()
    assert sum(line in lines for line in old) >= len(old) - 3 * len(result.findings)
    if not any(one.edits for one in result.findings):
        assert lines == old


SMALL = ["--shutdown-timeout", "6s", "--propagation-delay", "1s"]  # as it may be learnt


@pytest.mark.parametrize("more", [[], SMALL], ids=["as it is", "small"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_mended_has_no_other_error(path, more):
    words = asked([*options(path), *more])
    result = check.check([str(path)], words)
    left = check.patched(result, words)
    before = {one.rule for one in result.findings}
    assert not {one.rule for one in left.findings if one.level == ERROR} - before
    for was, now in zip(result.containers, left.containers, strict=True):
        assert served(now, words) >= served(was, words)


def served(one: Container, words: check.Asked) -> float:
    """Return for how long a container serves at least when it is stopped: nothing adds up, for the
    two wait for the same thing."""
    known = wrapped.effective(one, words.line, words.default).settings
    hook = (one.pre_stop.seconds or 0.0) if one.pre_stop is not None else 0.0
    return max(hook, *(each.propagation_delay for each in known.each)) if known else hook


@pytest.mark.parametrize("more", [[], SMALL], ids=["as it is", "small"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_is_advised_is_accepted(path, more):
    """Each alternative by itself, the first ones of all, and the last ones of all."""
    words = asked([*options(path), *more])
    result = check.check([str(path)], words)
    for one in result.containers:
        advice = [found.remedy.split("; or ") for found in result.findings
                  if found.container == one.title and found.rule != "restart-policy"]  # fmt: skip
        singles = [[each] for remedies in advice for each in remedies]
        for followed in (*singles, [each[0] for each in advice], [each[-1] for each in advice]):
            follows(one, words, "; ".join(followed))


ADVISED = re.compile(r"(?:GRACEWRAP_([A-Z_]+)=|set --([a-z-]+)[ =]|set ([a-z_]+) = )\"?([\w:,]*\w)")
GRANTED = re.compile(r"set (?:terminationG|stop_?g|stopT|StopT|kill_)\w+: (\d+)")


def follows(one: Container, words: check.Asked, advice: str) -> None:
    """Assert that a run takes all that is advised, and that the times then fit."""
    known = wrapped.effective(one, words.line, words.default)
    if known.settings is None:
        return
    now: dict[str, str] = {}
    for variable, flag, key, value in ADVISED.findall(advice):
        name = (variable or flag or key).lower().replace("-", "_")
        assert now.setdefault(name, value) == value, advice
    now = {"health.listen" if key == "health_listen" else key: now[key] for key in now}
    settings = known.with_values(now)
    assert settings is not None, advice
    granted = [float(grace) for grace in GRANTED.findall(advice)]
    assert len(set(granted)) <= 1, advice
    grace = granted[0] if granted else one.grace.seconds
    stays = one.pre_stop is not None and one.pre_stop.counts and "remove preStop" not in advice
    hook = (one.pre_stop.seconds or 0.0) if stays and one.pre_stop is not None else 0.0
    longer = settings.shutdown_timeout - known.settings.shutdown_timeout
    if grace is not None and (granted or longer > 0):
        assert settings.shutdown_timeout + hook + 1 <= grace, advice


LEARNT = """apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
    - name: web
      command: [gracewrap, --, node, server.js]
      ports: [{containerPort: 8080}]
      readinessProbe: {httpGet: {path: /health, port: 8080}, periodSeconds: 10}
      lifecycle: {preStop: {exec: {command: [sleep, "10"]}}}
"""


def test_a_delay_that_is_proposed_comes_with_the_budget_for_it(tmp_path):
    """And without preStop it serves for no less time than with it."""
    (tmp_path / "learnt.toml").write_text('shutdown_timeout = "6s"\npropagation_delay = "1s"\n')
    (tmp_path / "web.yaml").write_text(LEARNT)
    words = "--config", "learnt.toml", "--against", "web.yaml"
    found = json.loads(run(*words, "--format", "json", cwd=tmp_path).stdout)["findings"]
    remedies = {one["rule"]: one["fix"] for one in found}
    assert remedies["propagation-short"] == "set periodSeconds: 3 in readinessProbe"
    assert remedies["two-delays"] == (
        'set propagation_delay = "10s" in learnt.toml, and set shutdown_timeout = "15s" in '
        "learnt.toml, and remove preStop"
    )
    mended = run(*words, "--fix", cwd=tmp_path).stdout
    assert "preStop" in mended  # the rest of it is in another file
    (tmp_path / "web.yaml").write_text(
        LEARNT.replace("--, node", "--shutdown-timeout=6s, --propagation-delay=1s, --, node")
    )
    mended = run("--against", "web.yaml", "--fix", cwd=tmp_path).stdout
    assert "[gracewrap, --shutdown-timeout=15s, --propagation-delay=10s, --, node" in mended
    assert "preStop" not in mended and "periodSeconds: 3" in mended


def test_a_platform_that_grants_little_gets_a_budget_with_the_delay():
    web = {"Name": "web", "Driver": "docker", "KillSignal": "SIGTERM", "KillTimeout": 5_000_000_000,
           "Env": {"GRACEWRAP_SHUTDOWN_TIMEOUT": "4s"},
           "Config": {"image": "web", "entrypoint": ["gracewrap", "--", "./web"]}}  # fmt: skip
    group = {"Name": "web", "Tasks": [web], "Services": [{"Name": "web", "PortLabel": "http"}]}
    text = json.dumps({"Job": {"Name": "web", "TaskGroups": [group]}})
    result = check.checked([parse_text.parse("web.json", text.encode())], [], asked([]))
    assert [one.rule for one in result.findings] == ["propagation-missing"]
    left = check.patched(result, asked([]))
    assert left.findings == ()
    assert '"GRACEWRAP_SHUTDOWN_TIMEOUT": "9s"' in left.files[0].text
    assert '"KillTimeout": 14000000000' in left.files[0].text


def test_there_are_enough_of_each_kind():
    assert len(FILES) >= 40
    used = {rule for path in FILES for _, rule in expected(path)}
    assert set(RULES) - used == {"unreadable", "not-merged"}


def test_each_rule_has_its_paragraph():
    page = (Path(__file__).parents[2] / "docs" / "manifests.md").read_text()
    headings = re.findall(r"^### `([a-z0-9-]+)`$", page, re.MULTILINE)
    assert sorted(headings) == sorted(RULES)


# --- formats -------------------------------------------------------------------------------------


def run(
    *words: str | Path, stdin: str = "", cwd: Path | None = None
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "gracewrap", "check", *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
    )


BAD = DATA / "k8s-deployment-bad.yaml"


def test_text_names_file_line_rule_container_and_remedy():
    done = run("--health-listen", ":9000", "--against", BAD)
    assert done.returncode == 1
    assert f"{BAD}:15: error: grace-period (Deployment web, container web)" in done.stdout
    assert "fix: set terminationGracePeriodSeconds: 30" in done.stdout
    assert done.stdout.endswith("warnings (1 container checked)\n")


def test_json_and_github_and_sarif_say_the_same():
    of_json = json.loads(run("--against", BAD, "--format", "json").stdout)
    places = [(one["line"], one["rule"]) for one in of_json["findings"]]
    log = json.loads(run("--against", BAD, "--format=sarif").stdout)
    results = log["runs"][0]["results"]
    assert log["version"] == "2.1.0"
    assert places == [
        (one["locations"][0]["physicalLocation"]["region"]["startLine"], one["ruleId"])
        for one in results
    ]
    (uri,) = {one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in results}
    assert uri == BAD.as_uri()
    rules = log["runs"][0]["tool"]["driver"]["rules"]
    assert all(rules[one["ruleIndex"]]["id"] == one["ruleId"] for one in results)
    lines = run("--against", BAD, "--format", "github").stdout.splitlines()
    assert len(lines) == len(places)
    assert f"::error file={BAD},line=15,title=gracewrap%3A grace-period::" in "\n".join(lines)


def test_several_files_and_standard_input():
    good = DATA / "compose-good.yaml"
    assert run("--against", good).returncode == 0
    assert run("--against", good, BAD).returncode == 1
    assert run("--against", "-", stdin=good.read_text()).stdout == "-: ok (1 container checked)\n"


def test_fix_prints_the_manifest_and_the_rest_goes_to_stderr():
    done = run("--health-listen", ":9000", "--against", BAD, "--fix")
    assert "terminationGracePeriodSeconds: 30" in done.stdout
    assert "rollout" in done.stderr
    assert "grace-period" not in done.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("containers:\n  - image: a\n", "terminationGracePeriodSeconds: 70\n  containers:"),
        ("containers: [{image: a, name: b}]\n", "terminationGracePeriodSeconds: 70\n  containers:"),
        ("# why\n  hostNetwork: true\n  containers: [{image: a}]\n", "# why\n  terminationGrace"),
    ],
)
def test_an_edit_keeps_comments_and_indentation(old, new):
    text = f"apiVersion: v1\nkind: Pod\nspec:\n  {old}"
    file = parse_text.parse("x.yaml", text.encode())
    words = asked(["--shutdown-timeout", "65s"])
    result = check.checked([file], [], words)
    assert new in check.patched(result, words).files[0].text


POD = """# ü 😀
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 20  # 😀
  containers:
    - name: web
      command: [gracewrap, --shutdown-timeout, 40s, --, ./web]
      ports: [{containerPort: 80}]
"""


@pytest.mark.parametrize(
    ("old", "env"),
    [
        (POD, "    - env:\n        - name: GRACEWRAP_PROPAGATION_DELAY\n"),
        (
            POD.replace("\n", "\r\n"),
            "    - env:\r\n        - name: GRACEWRAP_PROPAGATION_DELAY\r\n",
        ),
        ("\ufeff" + POD, "    - env:\n        - name: GRACEWRAP_PROPAGATION_DELAY\n"),
        (json.dumps(yaml.safe_load(POD)), '"env": [{"name": "GRACEWRAP_PROPAGATION_DELAY", '),
        (yaml.safe_dump(yaml.safe_load(POD), default_flow_style=True), "env: [{"),
        (POD.replace(": 20", ":"), "    - env:\n"),  # null is the default
        (POD.replace("20", "~"), "    - env:\n"),
    ],
    ids=["block", "crlf", "bom", "json", "flow", "empty", "null"],
)
def test_a_mended_manifest_passes_whatever_it_is_written_in(old, env):
    result = check.checked([parse_text.parse("x.yaml", old.encode())], [], asked([]))
    left = check.patched(result, asked([]))
    assert left.findings == ()
    assert "terminationGracePeriodSeconds: 4" in left.files[0].text.replace('"', "")
    assert env in left.files[0].text
    assert parse_text.parse("x.yaml", left.files[0].text.encode()).documents


def test_a_rollout_is_mended_so_that_kubernetes_takes_it():
    """Both 0 are refused, and so is "0" in quotes, and 0 for a StatefulSet."""
    result = findings(DATA / "k8s-max-unavailable-of-kinds.yaml")
    text = check.patched(result, asked([])).files[0].text
    assert "{maxUnavailable: 0, maxSurge: 1}" in text
    found = [one["spec"] for one in yaml.safe_load_all(text)]
    assert [one["updateStrategy"]["rollingUpdate"]["maxUnavailable"] for one in found[1:]] == [1, 1]


def test_a_budget_and_an_autoscaler_in_other_files_count(tmp_path):
    """As `--against k8s/*.yaml`; each finding names the file in which it is."""
    scaled = (DATA / "k8s-helm-rendered.yaml").read_text().split("---\n")
    for name, kind, old, new in (
        ("pdb.yaml", "PodDisruptionBudget", "minAvailable: 1", "minAvailable: 90%"),
        ("hpa.yaml", "HorizontalPodAutoscaler", "", ""),
        ("web.yaml", "kind: Deployment\nmetadata", "", ""),
    ):
        (part,) = (one for one in scaled if kind in one)
        (tmp_path / name).write_text(part.replace(old, new) if old else part)
    names = [str(tmp_path / name) for name in ("web.yaml", "hpa.yaml", "pdb.yaml")]
    result = check.check(names, asked([]))
    (budget,) = (one for one in result.findings if one.rule == "disruption-budget")
    assert (budget.file, budget.line) == (names[2], 7)
    assert "lets none of 3 replicas go" in budget.why
    assert "rollout" not in {one.rule for one in result.findings}


@pytest.mark.parametrize(
    ("selector", "selects"),
    [
        ("{}", True),
        ("{matchExpressions: [{key: app, operator: In, values: [web, api]}]}", True),
        ("{matchExpressions: [{key: app, operator: In, values: [api]}]}", False),
        ("{matchExpressions: [{key: app, operator: NotIn, values: [api]}]}", True),
        ("{matchExpressions: [{key: app, operator: Exists}], matchLabels: {app: web}}", True),
        ("{matchExpressions: [{key: app, operator: Exists}], matchLabels: {app: api}}", False),
        ("{matchExpressions: [{key: app, operator: DoesNotExist}]}", False),
        ("{matchExpressions: [{key: app, operator: Gt}]}", False),
        ("", False),
    ],
)
def test_a_disruption_budget_selects_as_kubernetes_does(selector, selects):
    text = f"""
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: all}}
spec: {{maxUnavailable: 0, selector: {selector}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: web, image: web}}]}}
"""
    result = check.checked([parse_text.parse("x.yaml", text.encode())], [], asked([]))
    assert ("disruption-budget" in {one.rule for one in result.findings}) is selects


@pytest.mark.parametrize(
    "entry", ["web.env", "[none.env, web.env]", "[{path: ./web.env, required: false}]"]
)
def test_variables_in_a_file_beside_a_compose_file_count(entry, tmp_path):
    (tmp_path / "web.env").write_text("# why\nGRACEWRAP_SHUTDOWN_TIMEOUT=9s\nTOKEN=x\n")
    path = tmp_path / "compose.yaml"
    path.write_text(f"""
services:
  web: {{image: web, env_file: {entry}}}
  late: {{image: web, env_file: {entry}, environment: {{GRACEWRAP_SHUTDOWN_TIMEOUT: 12s}}}}
""")
    result = check.check([str(path)], asked([]))
    assert [(one.rule, one.line) for one in result.findings] == [("grace-period", 4)]


def test_a_service_that_is_extended_in_another_file_counts(tmp_path):
    (tmp_path / "common.yaml").write_text("""
services:
  base: {image: web, entrypoint: [gracewrap, --], stop_grace_period: 30s, environment: [A=b]}
  app: {extends: base, stop_signal: SIGQUIT}
""")
    path = tmp_path / "compose.yaml"
    path.write_text("services:\n  web:\n    extends: {file: common.yaml, service: app}\n")
    result = check.check([str(path)], asked([]))
    assert [(one.rule, one.line, one.edits) for one in result.findings] == [("stop-signal", 3, ())]


PART = "services:\n  db: {ports: [1:1]}\n  web: {stop_grace_period: 60s}\n"


def test_compose_files_that_go_together_have_to_be_merged(tmp_path):
    """Each by itself would be judged by what the other one changes."""
    for name, text in (
        ("compose.yaml", "services: {web: {image: web, entrypoint: [gracewrap, --]}}"),
        ("override.yaml", PART),
        ("other.yaml", "services: {web: {build: ., entrypoint: [gracewrap, --]}}"),
    ):
        (tmp_path / name).write_text(text)
    base, part, other = (tmp_path / f"{one}.yaml" for one in ("compose", "override", "other"))
    (only,) = check.check([str(base), str(part)], asked([])).findings
    assert (only.rule, only.file, only.line) == ("not-merged", str(part), 3)
    assert f"docker compose -f {base} -f {part} config | gracewrap check" in only.remedy
    found = check.check([str(base), str(other)], asked([])).findings
    assert [one.rule for one in found] == ["grace-period", "grace-period"]  # two of one name


@pytest.mark.timeout(30)
@pytest.mark.parametrize("content", [b"no line", b"\xff\0", None])
def test_a_file_of_variables_that_cannot_be_read_does_not_matter(content, tmp_path):
    if content is not None:
        (tmp_path / "web.env").write_bytes(content)
    text = (
        "services: {web: {image: web, stop_grace_period: 30s, env_file: [web.env, '.', /dev/zero]}}"
    )
    (tmp_path / "compose.yaml").write_text(text)
    assert check.check([str(tmp_path / "compose.yaml")], asked([])).findings == ()


def test_names_do_not_reach_the_terminal_as_they_are():
    text = POD.replace("- name: web", '- name: "\\e[2Jweb\\n::error::x"')
    result = check.checked([parse_text.parse("x.yaml", text.encode())], [], asked([]))
    assert "\x1b" not in formats.text(result)
    assert "container \\x1b[2Jweb\\n::error::x)" in formats.text(result)
    assert "\n::error::x" not in formats.github(result)


def test_a_container_can_be_chosen():
    path = DATA / "k8s-sidecar.yaml"
    done = run("--against", path, "--container", "nobody")
    assert done.returncode == 1
    assert "there is no container nobody; there are: app, cloud-sql-proxy" in done.stdout
    assert "1 container checked" in run("--against", path, "--container", "app").stdout


def test_settings_that_cannot_be_used_hide_nothing_about_processes(tmp_path):
    """An option that is mistyped in a shell's text hid that the shell keeps the stop signal."""
    text = POD.replace("[gracewrap, --shutdown-timeout, 40s, --, ./web]",
                       '[sh, -c, "gracewrap --shutdwn-timeout 9s -- ./web"]')  # fmt: skip
    text = text.replace("spec:\n", "spec:\n  shareProcessNamespace: true\n", 1)
    result = check.checked([parse_text.parse("x.yaml", text.encode())], [], asked([]))
    found = {one.rule: one for one in result.findings}
    assert set(found) == {"settings", "shell-form", "pid-namespace"}
    assert "check again" in found["settings"].remedy


def test_variables_of_gracewrap_say_that_the_image_starts_it():
    text = (
        POD
        + """    - name: worker
      image: worker
      env: [{name: GRACEWRAP_SHUTDOWN_TIMEOUT, value: 60s}]
    - {name: cron, image: cron}
"""
    )
    result = check.checked([parse_text.parse("x.yaml", text.encode())], [], asked([]))
    assert [one.name for one in result.containers] == ["web", "worker"]


def test_the_readiness_probe_that_is_advised_is_not_blind():
    text = LEARNT.replace("--, node", "--propagation-delay=10s, --, node")
    result = check.checked([parse_text.parse("x.yaml", text.encode())], [], asked([]))
    (advice,) = (one.remedy for one in result.findings if one.rule == "readiness-not-503")
    assert "set the variable GRACEWRAP_READY=tcp" in advice
    knows = text.replace("[gracewrap, ", "[gracewrap, --ready, tcp, ")
    result = check.checked([parse_text.parse("x.yaml", knows.encode())], [], asked([]))
    (advice,) = (one.remedy for one in result.findings if one.rule == "readiness-not-503")
    assert "READY=" not in advice


def test_the_settings_file_counts(tmp_path):
    (tmp_path / "web.toml").write_text('command = ["node"]\nshutdown_timeout = "10s"\n')
    manifest = DATA / "k8s-config-in-image.yaml"
    done = run("--config", "web.toml", "--against", manifest, cwd=tmp_path)
    assert done.stdout == f"{manifest}: ok (1 container checked)\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--against",), "cannot use --against (command line): it needs a value"),
        (("--against", BAD, "--format", "xml"), "must be one of text, json, sarif, github"),
        (("--fix",), "without a manifest; write --against deployment.yaml"),
        (("--against", BAD, "--drain-tpc", "auto"), "cannot use --drain-tpc (command line)"),
    ],
)
def test_wrong_options_are_125(words, said):
    done = run(*words)
    assert (done.returncode, said in done.stderr) == (125, True), done.stderr


# --- what is no manifest -------------------------------------------------------------------------

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    ("content", "said", "line"),
    [
        (BOMB, "its aliases expand to more than", 6),
        ("a: &a\n  - b\n  - *a\n", "stands inside of what it means", 3),
        ("a: *b\n", "alias *b has no anchor", 1),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", 'the key "b" is there twice, also in line 2', 4),
        ("[" * 5000, "nest", 1),
        ("- " * 5000, "nested deeper than", 1),
        ("a: [1\nb: 2\n", "neither YAML nor JSON", 2),
        ("a:\n\tb: 1\n", "neither YAML nor JSON", 2),
        (b"\x7fELF\0\0\0", "it is not text", 1),
        (b"a: 1\nb: \xff\xfe\n", "it is not UTF-8", 2),
        ("", "nothing in it that runs containers", 1),
        ("just words\n", "nothing in it that runs containers", 1),
        ("name: CI\non: push\n", "nothing in it that runs containers", 1),
        ("replicas: {{ .Values.replicas }}\nx: {{ y }\n", "helm template", 1),
    ],
    ids=lambda value: None if isinstance(value, int) else str(value)[:20],
)
def test_what_cannot_be_read_is_an_error_at_once(content, said, line, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    began = time.process_time()
    result = check.check([str(path)], asked([]))
    assert time.process_time() - began < 1
    (only,) = result.findings
    assert (only.rule, only.level, only.line) == ("unreadable", "error", line)
    assert said in only.why
    assert all(show(result) for show in formats.FORMATS.values())


def test_a_gigabyte_is_not_read(tmp_path):
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 1 << 30)
    began = time.process_time()
    with pytest.raises(parse_text.Unreadable, match="1073741824 bytes"):
        parse_text.read(str(path))
    assert time.process_time() - began < 1


def test_hcl_directories_and_missing_files_say_what_to_do(tmp_path):
    hcl = tmp_path / "web.nomad"
    hcl.write_text('job "web" {}\n')
    for name, said in ((hcl, "nomad job run -output"), (tmp_path, "directory"),
                       (tmp_path / "no.yaml", "No such file")):  # fmt: skip
        with pytest.raises(parse_text.Unreadable, match=said):
            parse_text.read(str(name))


def test_without_pyyaml_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(parse_text.Unreadable, match="pip install PyYAML"):
        parse_text.read(str(BAD))


def test_many_objects_take_no_longer_each(tmp_path):
    """Config maps and budgets are looked up, not searched for each workload."""
    one = """apiVersion: v1
kind: ConfigMap
metadata: {name: a%d}
---
apiVersion: v1
kind: Pod
metadata: {name: a%d}
spec: {containers: [{name: a}]}
---
"""

    def steps(count: int) -> int:
        """Return the lines of Python that a check of so many objects runs."""
        file = parse_text.parse("x.yaml", "".join(one % (n, n) for n in range(count)).encode())
        ran = 0

        def trace(_frame: object, event: str, _value: object) -> object:
            nonlocal ran
            ran += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            assert len(check.checked([file], [], asked([])).containers) == count
        finally:
            sys.settrace(before)
        return ran

    assert steps(200) < 1.1 * 4 * steps(50)


@pytest.mark.parametrize(
    "variable", ["GRACEWRAP_SHUTDOWN_TIMEOUT: 8x", "GRACEWRAP_SHUTDOWN_TIMOUT: 8s"]
)
def test_a_wrong_variable_is_named_with_its_own_line(variable, tmp_path):
    file = tmp_path / "compose.yaml"
    file.write_text(
        "services:\n  web:\n    image: a\n    entrypoint: [gracewrap, --]\n"
        f"    environment:\n      A: b\n      {variable}\n"
    )
    (found,) = json.loads(run("--against", file, "--format", "json").stdout)["findings"]
    assert (found["rule"], found["line"]) == ("settings", 7)
