"""Whose an orphan is: real processes below a subreaper of their own, in which only posix/ runs."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from processes import BOUND, ROOT, require_root

# {fd} is where they say their pid; STRANGER has nothing by which it could be known.
MEMBERS = """
MEMBER = "sh -c 'echo $$ >&{fd}; exec sleep 1000' & "
DAEMON = "setsid sh -c 'echo $$ >&{fd}; exec sleep 1000' & "
STRANGER = "setsid env -i PATH=$PATH sh -c 'echo $$ >&{fd}; exec sleep 1000' & "
"""
SCRIPT = """
import json, os, posix, signal, sys
sys.path.insert(0, sys.argv[1])
from gracewrap.linux import prctl, process_owners as owners, process_tree as tree, spawn

prctl.prctl(prctl.PR_SET_CHILD_SUBREAPER, 1)
told, tells = os.pipe()
os.set_inheritable(tells, True)
names = ["web", "db"]
them = owners.ProcessOwners(names, [os.geteuid()] * 2)

def program(i, text):
    words = ["sh", "-c", text.replace("{fd}", str(tells))]
    pid = spawn.spawn(words, None, {b"GRACEWRAP_PROGRAM": names[i].encode()})[0]
    them.spawned(pid, i)
    return pid

def hear():
    line = b""
    while not line.endswith(b"\\n"):
        line += os.read(told, 1)
    return int(line)

def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    them.reaped(pid)

def pids(i):
    return [one.pid for one in them.look(i)]

try:
    print(json.dumps(case()))
finally:
    for one in tree.descendants():
        os.kill(one.pid, signal.SIGKILL)
"""


def found(case: str) -> object:
    """Return what *case*, the body of a function that SCRIPT calls, finds out."""
    head, middle, tail = SCRIPT.partition("try:\n")
    script = f"{MEMBERS}{head}def case():\n{textwrap.indent(case, '    ')}\n{middle}{tail}"
    argv = [sys.executable, "-c", script, str(ROOT / "supervisor")]
    done = subprocess.run(argv, stdout=subprocess.PIPE, timeout=BOUND, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["MEMBER", "DAEMON", "STRANGER"])
def test_what_is_below_a_leader_is_its_programs(kind):
    assert found(f"""
web, db = program(0, {kind} + "wait"), program(1, {kind} + "wait")
members = {{hear(), hear()}}
of = {{tree.parent_of(pid): pid for pid in members}}
return [pids(0) == [web, of[web]], pids(1) == [db, of[db]]]
""") == [True, True]


@pytest.mark.parametrize("kind", ["MEMBER", "DAEMON"])
def test_an_orphan_is_known_by_its_variable_or_its_group(kind):
    assert found(f"""
web = program(0, {kind} + "wait")
orphan = hear()
db = program(1, "exec sleep 1000")
end(web)
them.sort()
return [pids(0) == [orphan], pids(1) == [db], them.left(0)]
""") == [True, True, True]


def test_an_orphan_is_known_by_its_group_where_its_environment_says_nothing():
    assert found("""
web = program(0, STRANGER.replace("setsid", "") + "wait")
orphan = hear()
db = program(1, "exec sleep 1000")
end(web)
them.sort()
return [pids(0) == [orphan], pids(1) == [db]]
""") == [True, True]


def test_an_orphan_is_known_by_where_it_was_seen():
    assert (
        found("""
web = program(0, STRANGER + "wait")
orphan = hear()
program(1, "exec sleep 1000")
them.look(0)
end(web)
them.sort()
return pids(0) == [orphan]
""")
        is True
    )


def test_an_orphan_that_nothing_tells_is_of_the_leader_that_has_just_gone():
    assert found("""
web = program(0, STRANGER + "wait")
orphan = hear()
program(1, "exec sleep 1000")
end(web)
them.sort([0])
return [pids(0) == [orphan], orphan in pids(1)]
""") == [True, False]


def test_an_orphan_is_of_a_leader_that_is_still_to_be_reaped():
    """Somebody may look between a leader's end and the moment it is reaped."""
    assert found("""
web = program(0, STRANGER + "wait")
orphan = hear()
program(1, "exec sleep 1000")
os.kill(web, signal.SIGKILL)
os.waitid(os.P_PID, web, os.WEXITED | os.WNOWAIT)
them.sort()
end(web)
them.sort([0])
return [pids(0) == [orphan], orphan in pids(1)]
""") == [True, False]


def test_an_orphan_of_a_leader_that_ends_just_now_is_not_given_to_another():
    assert (
        found("""
web, db = program(0, "exec sleep 1000"), program(1, STRANGER + "wait")
orphan = hear()
end(web)
os.kill(db, signal.SIGKILL)
os.waitid(os.P_PID, db, os.WEXITED | os.WNOWAIT)
them.sort([0])
return orphan in pids(0)
""")
        is False
    )


def test_what_is_nobodys_is_the_last_ones():
    assert found("""
web, db = program(0, STRANGER + "wait"), program(1, "exec sleep 1000")
orphan = hear()
end(web)
end(db)
them.sort([0, 1])
nobodys = not them.left(0) and not them.left(1)
them.gone(1)
return [nobodys, them.left(0), pids(0) == [orphan]]
""") == [True, True, True]


def test_of_what_has_gone_nothing_is_left():
    assert found("""
web = program(0, "exec sleep 1000")
there = them.left(0)
end(web)
them.sort([0])
return [there, them.left(0), pids(0)]
""") == [True, False, []]


def test_an_orphan_is_known_by_its_user():
    """Where nothing else tells, and each program has a user of its own."""
    require_root()
    assert found("""
them._users = {34567: 0, os.geteuid(): 1}
alone = STRANGER.replace("env -i", "setpriv --reuid=34567 --clear-groups env -i")
web = program(0, alone + "wait")
orphan = hear()
db = program(1, "exec sleep 1000")
end(web)
them.sort()
return [pids(0) == [orphan], pids(1) == [db]]
""") == [True, True]
