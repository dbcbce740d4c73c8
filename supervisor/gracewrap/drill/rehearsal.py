"""One drill: start, load, stop at a moment, look; several times, and beside twins."""

from __future__ import annotations

import asyncio
import random
import signal
import time

from gracewrap.drill.http_load import Load
from gracewrap.drill.instance import Instance, free_port
from gracewrap.drill.jobs import Jobs
from gracewrap.drill.load_command import LoadCommand
from gracewrap.drill.model import Run, Step
from gracewrap.drill.user_commands import Helpers
from gracewrap.linux.prctl import prctl
from gracewrap.record import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gracewrap.drill.model import Asked

PR_SET_CHILD_SUBREAPER = 36
EARLIEST, LATEST = 0.5, 2.0  # seconds of load before a stop at a random moment
LOOK_EVERY = 0.02  # seconds between two looks at what the balancer does next
SETTLES = 1.0  # seconds of load after the exit: what comes then goes elsewhere
GRACE = 15.0  # seconds beyond the budget until a drill gives up on a stop
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """A signal ended the drill; what it had started is gone."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"ended by signal {signum}")
        self.signum = signum


async def run(asked: Asked, tell: Callable[[Step], None]) -> list[Run]:
    """Return all runs, as _all() does; end what was started when a signal comes.

    A second signal changes nothing: what ends a drill may send several (timeout signals its child
    and then its group), and cleaning up takes a few seconds at most.

    Raises:
        Unready: The drill cannot be held.
        Interrupted: By one of STOPPING, unless that was ignored from the start (nohup).
    """
    loop, told = asyncio.get_running_loop(), list[int]()
    drill = asyncio.create_task(_all(asked, tell))

    def end(signum: int) -> None:
        if not told:
            drill.cancel()
        told.append(signum)

    heard = [one for one in STOPPING if signal.getsignal(one) is not signal.SIG_IGN]
    for signum in heard:
        loop.add_signal_handler(signum, end, signum)
    try:
        return await drill
    except asyncio.CancelledError:
        if told:
            raise Interrupted(told[0]) from None
        raise
    finally:
        if told:  # only the last words are left, and what comes late must not cut them
            signal.pthread_sigmask(signal.SIG_BLOCK, heard)
        for signum in heard:
            loop.remove_signal_handler(signum)


async def _all(asked: Asked, tell: Callable[[Step], None]) -> list[Run]:
    """Return all runs: those of gracewrap, then those of the twins.  Raises Unready.

    Args:
        asked: What to do.
        tell: Is told of each step, for who watches.
    """
    prctl(PR_SET_CHILD_SUBREAPER, 1)  # what is left behind becomes ours, and can be seen
    moments = random.Random(asked.seed)
    runs: list[Run] = []
    total = asked.repeat * (1 + len(asked.compare))
    for who in ("gracewrap", *asked.compare):
        for _ in range(asked.repeat):
            after = asked.stop_after
            if after is None:
                after = round(moments.uniform(EARLIEST, LATEST), 2)
            lost = sum(len(run.lost) + len(run.twice) for run in runs if run.who == "gracewrap")

            def said(doing: str, who: str = who, lost: int = lost) -> None:
                tell(Step(len(runs), total, who, doing, lost))

            runs.append(await _Once(asked, who, after, said).run())
    return runs


class _Once:
    """One stop."""

    def __init__(self, asked: Asked, who: str, after: float, tell: Callable[[str], None]) -> None:
        self._asked, self._who, self._after, self._tell = asked, who, after, tell
        self._instance = Instance(asked, who, self._port())
        self._next: Instance | None = None  # the second generation
        self._helpers = Helpers(self._instance.environment)
        words = [self._instance.filled(word) for word in asked.job_command]
        self._jobs = Jobs(asked, words, self._helpers) if words else None
        self._stop_at: float | None = None
        self._over = False
        self._diverted_at: float | None = None  # since then the balancer sends elsewhere

    def _port(self) -> int:
        asked = self._asked
        words = (*asked.urls, *asked.command, *asked.options, *asked.job_command)
        return free_port() if any("{port}" in word for word in words) else 0

    async def run(self) -> Run:
        """Return what happened.  Raises Unready."""
        try:
            self._tell("starts")
            await self._instance.start()
            if self._jobs is not None:
                await self._jobs.first()
                await self._instance.works(self._jobs.first_is_done)
            return await self._stopped()
        finally:
            self._helpers.close()
            for one in (self._next, self._instance):  # what came last first: each ends its own
                if one is not None:
                    await one.clean()

    async def _start_next(self) -> list[Load]:
        """Start the next instance; return the load that goes to it."""
        self._next = Instance(self._asked, self._who, self._port())
        if self._jobs is not None:  # which the two share, or it takes over
            await self._next.start()
            return []
        await self._next.start(is_next=True)
        return [Load(self._asked, self._next.urls, self._goes_to_next)]

    def _load(self) -> Load | LoadCommand | Jobs:
        asked, instance = self._asked, self._instance
        if self._jobs is not None:
            return self._jobs
        if asked.load_command:
            return LoadCommand(asked, instance.filled(asked.load_command), self._helpers)
        return Load(asked, instance.urls, self._goes_here)

    async def _stopped(self) -> Run:
        asked, instance = self._asked, self._instance
        loads: list[Load | LoadCommand | Jobs] = [self._load()]
        sending = [asyncio.create_task(loads[0].run(lambda: self._over))]
        balancing = asyncio.create_task(self._balance())
        self._tell("is loaded")
        try:
            if isinstance(loads[0], LoadCommand):
                await loads[0].begins(asked.ready_timeout)
            await asyncio.sleep(self._after)
            if asked.rolling:  # as soon as it is ready the other one has to go
                loads += await self._start_next()
                sending += [asyncio.create_task(one.run(lambda: self._over)) for one in loads[1:]]
            self._tell("stops")
            self._stop_at = time.monotonic()
            instance.stop()
            status = await instance.ended(asked.budget + GRACE)
            duration = time.monotonic() - self._stop_at
            self._tell("is looked at")
            self._divert()
            leftovers = instance.leftovers(self._next, self._helpers.pids)
            ports = instance.taken_ports()
            if self._jobs is not None and self._next is None:
                await self._start_next()  # what was not done is its work
            await asyncio.sleep(SETTLES if self._next else min(SETTLES, 5 / asked.rate))
        finally:
            self._over = True
            balancing.cancel()
            ended = await asyncio.gather(*sending, return_exceptions=True)
        for one in loads:
            await one.finish(asked.job_timeout if self._jobs else asked.request_timeout)
        for fault in ended:
            if isinstance(fault, BaseException):
                raise fault
        return self._run(loads, status, duration, leftovers, ports)

    def _run(
        self,
        loads: Sequence[Load | LoadCommand | Jobs],
        status: int | None,
        duration: float,
        leftovers: tuple[str, ...],
        ports: tuple[int, ...],
    ) -> Run:
        """Return what became of it.  Raises Unready."""
        assert self._stop_at is not None and self._diverted_at is not None
        requests = [each for one in loads for each in one.fates(self._stop_at, self._diverted_at)]
        if self._jobs is not None and self._next is not None:
            self._next.must_live("before all jobs were done, as the next instance")
        early = sum(one.lost for one in loads[-1].fates(self._stop_at, 0.0)) if loads[1:] else 0
        own = self._jobs is not None or self._asked.load_command
        played = None if own else self._asked.balancer
        diverted = None if self._jobs is not None else self._diverted_at - self._stop_at
        return Run(self._who, self._after, tuple(requests), duration, status, leftovers, ports,
                   self._instance.report(), diverted, early, played, self._asked.preset,
                   self._asked.held)  # fmt: skip

    def _divert(self) -> None:
        if self._diverted_at is None:
            self._diverted_at = time.monotonic()

    def _goes_here(self, kept: bool) -> bool:
        """Return whether the balancer sends a request to the instance that is stopped."""
        if self._diverted_at is None:
            return True
        process = self._instance.process
        alive = process is not None and process.returncode is None
        return kept and alive and self._asked.balancer.kind == "connections"

    def _goes_to_next(self, _kept: bool) -> bool:
        return self._diverted_at is not None

    async def _balance(self) -> None:
        """Take the instance out of rotation, as the balancer does.

        One that asks for readiness has done so just before the stop.  Otherwise the verdict would
        hang on which of the two came first.
        """
        balancer, times = self._asked.balancer, 1
        while self._diverted_at is None and self._jobs is None:
            await asyncio.sleep(LOOK_EVERY)
            if self._stop_at is None or balancer.kind == "none":
                continue
            if time.monotonic() < self._stop_at + times * balancer.lag:
                continue
            times += 1
            if balancer.kind != "readiness" or not await self._instance.is_ready():
                self._divert()
