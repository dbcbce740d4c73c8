"""Several programs for simulations: with given rules and bodies, or any graph of them."""

from __future__ import annotations

import random

import pytest
from hypothesis import strategies as st

from gracewrap.policy import model as m
from gracewrap.policy.model import KillProgram, Policy, ProgramPolicy, StartProgram
from simulation import Body, Hook, Simulation

TERM = 15
EPSILON = 0.01


def near(at: float) -> object:
    return pytest.approx(at, abs=EPSILON)


def rules(name: str = "", *needs: int | tuple[int, str], **settings: object) -> ProgramPolicy:
    """Return a program that depends on others, on their being started if nothing else is said."""
    depends_on = tuple((need, "started") if isinstance(need, int) else need for need in needs)
    return ProgramPolicy(name=name, depends_on=depends_on, **settings)  # type: ignore[arg-type]


def world(
    *programs: ProgramPolicy,
    bodies: dict[int, Body] | None = None,
    cold: bool = False,
    shutdown_timeout: float = 30.0,
    flush_timeout: float = 0.0,
    hooks: dict[str, Hook] | None = None,
    probes: dict[int, object] | None = None,
    **settings: object,
) -> Simulation:
    """Return a simulation of programs that are up, or, *cold*, are yet to be started."""
    policy = Policy(
        programs, shutdown_timeout=shutdown_timeout, flush_timeout=flush_timeout, **settings
    )  # type: ignore[arg-type]
    all_bodies = [(bodies or {}).get(i, Body()) for i in range(len(programs))]
    return Simulation(policy, probes, hooks, bodies=all_bodies, started=() if cold else None)  # type: ignore[arg-type]


def stop(s: Simulation, seconds: float = 60.0) -> Simulation:
    s.signal(TERM)
    s.pass_time(seconds)
    return s


def signalled(s: Simulation) -> dict[int, float]:
    """When each program was first sent its stop signal."""
    found: dict[int, float] = {}
    for at, c in s.log:
        if (
            isinstance(c, m.SendLeader | m.SendGroup)
            and c.signum == s.policy.programs[c.program].stop_signal
        ):
            found.setdefault(c.program, at)
    return found


def killed(s: Simulation) -> dict[int, float]:
    """When each program was first sent SIGKILL."""
    found: dict[int, float] = {}
    for at, c in s.log:
        if isinstance(c, KillProgram):
            found.setdefault(c.program, at)
    return found


def launched(s: Simulation) -> list[tuple[float, int]]:
    return [(at, c.program) for at, c in s.log if isinstance(c, StartProgram)]


def phases(s: Simulation) -> list[str]:
    return [type(phase).__name__ for phase in s.system.programs]  # type: ignore[union-attr]


DB, WEB, WORKER = rules("db"), rules("web", 0), rules("worker", 0)
STUCK = Body(stops=None)


def graph(
    n: int, seed: int, edges: float, budget: float, **more: object
) -> tuple[list[ProgramPolicy], list[Body]]:
    """Return programs that depend on each other without a circle, and what they do: stop in time,
    too late, or never."""
    rng = random.Random(seed)
    rank = list(range(n))
    rng.shuffle(rank)
    programs, bodies = [], []
    for i in range(n):
        lower = [j for j in range(n) if rank[j] < rank[i] and rng.random() < edges / n]
        higher = [j for j in range(n) if rank[j] > rank[i] and rng.random() < edges / n / 3]
        depends_on = tuple((j, rng.choice(["started", "ready"])) for j in lower)
        programs.append(
            ProgramPolicy(
                name=f"p{i}",
                depends_on=depends_on,
                stop_after=tuple(higher),
                stop_timeout=rng.choice([None, None, None, rng.uniform(0, budget)]),
                reserve=rng.choice([None, None, None, rng.uniform(0, budget)]),
                ready=bool(more.get("ready")) and rng.random() < 0.3,
                restart=rng.choice(["never", "on-failure", "always"])
                if more.get("restart")
                else "never",
                on_exit=rng.choice(["shutdown"] + ["ignore", "restart"] * n)
                if more.get("restart")
                else "shutdown",
                on_failure=rng.choice(["shutdown"] + ["ignore", "restart"] * n)
                if more.get("restart")
                else "shutdown",
                max_restarts=rng.choice([None, None, 0, 2]),
            )
        )
        runs = (
            tuple((rng.uniform(0, 15), rng.choice([0, 1])) for _ in range(rng.choice([0, 0, 2])))
            if more.get("restart")
            else ()
        )
        bodies.append(
            Body(
                stops=rng.choice([None, 0.0, rng.uniform(0, 2), rng.uniform(0, budget)]),
                status=rng.choice([0, 0, 1]),
                rest=rng.choice([0.0, 0.0, 0.0, rng.uniform(0, 3), None]),
                spawns=rng.uniform(0, 0.2),
                ready=rng.choice([0.0, rng.uniform(0, 5), None]),
                runs=runs,
                fails=rng.choice([0] * 9 + [1, 3]) if more.get("restart") else 0,
            )
        )
    return programs, bodies


sizes = st.integers(1, 6) | st.integers(1, 30) | st.sampled_from([50, 200])
seeds, budgets = st.integers(0, 2**32), st.floats(1, 60)
densities = st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0])
