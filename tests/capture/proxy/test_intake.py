"""What clients send is taken at once, or together while the loop is busy; always in order."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import hypothesis.strategies as st
from hypothesis import given

from opentrail.capture.proxy.intake import BUSY_SHARE, MANY_CALLS, WINDOW_SECONDS, Intake
from tests.fakes import asynchronous, eventually

LINES = MANY_CALLS * 2
Taken = list[tuple[str, bytes]]


class Machine:
    """A clock, and how long the loop has worked, both set by hand."""

    def __init__(self) -> None:
        self.time = self.work = 0.0
        self.taken: Taken = []
        self.intake = Intake(lambda: self.time, lambda: self.work)
        self.lines = [Line(self.taken, f"line {number}") for number in range(LINES)]

    def spend(self, seconds: float, share: float) -> None:
        self.time += seconds
        self.work += seconds * share

    def make_busy(self) -> None:
        """Has a busy window pass in which all lines are used."""
        for line in self.lines:
            self.intake.add(line, b"")
        self.intake.release()
        self.spend(WINDOW_SECONDS, 0.9)
        self.taken.clear()


class Line:
    def __init__(self, taken: Taken, name: str, fails: bool = False) -> None:
        self._taken, self._name, self._fails = taken, name, fails
        self.aborted = False

    def take(self, data: bytes) -> None:
        if self._fails:
            raise RuntimeError("a mistake of ours")
        self._taken.append((self._name, data))

    def abort_transport(self) -> None:
        self.aborted = True


@asynchronous
async def test_an_idle_loop_takes_all_at_once() -> None:
    machine = Machine()
    for number in range(100):
        machine.spend(WINDOW_SECONDS, BUSY_SHARE / 2)
        machine.intake.add(machine.lines[number % LINES], b"%d" % number)
        assert len(machine.taken) == number + 1


@asynchronous
async def test_a_busy_loop_takes_together_what_comes_in_time() -> None:
    machine = Machine()
    machine.make_busy()
    sent = [(f"line {number}", b"%d" % number) for number in range(MANY_CALLS - 1)]
    for line, (_, data) in zip(machine.lines, sent, strict=False):
        machine.intake.add(line, data)
        assert machine.taken == []
    await eventually(lambda: machine.taken)
    assert machine.taken == sent


@asynchronous
async def test_many_calls_wait_for_no_more() -> None:
    machine = Machine()
    machine.make_busy()
    for line in machine.lines[:MANY_CALLS]:
        assert machine.taken == []
        machine.intake.add(line, b"1")
    assert len(machine.taken) == MANY_CALLS


@asynchronous
async def test_nobody_waits_for_lines_whose_calls_are_under_way() -> None:
    machine = Machine()
    machine.make_busy()
    with ExitStack() as calls:
        for _ in range(LINES * 3 // 4 - 1):
            calls.enter_context(machine.intake.under_way())
        machine.intake.add(machine.lines[-1], b"1")
        assert machine.taken == [(f"line {LINES - 1}", b"1")]
    machine.intake.add(machine.lines[0], b"2")
    assert len(machine.taken) == 1


@asynchronous
async def test_a_line_that_is_alone_never_waits() -> None:
    machine = Machine()
    for number in range(1, 20):
        machine.spend(WINDOW_SECONDS, 0.9)
        machine.intake.add(machine.lines[0], b"")
        assert len(machine.taken) == number


@asynchronous
async def test_a_loop_that_is_no_longer_busy_takes_at_once_again() -> None:
    machine = Machine()
    machine.make_busy()
    machine.intake.add(machine.lines[0], b"1")
    machine.spend(WINDOW_SECONDS, 0.1)
    machine.intake.add(machine.lines[0], b"2")
    assert machine.taken == []  # what is sent later is not taken before what waits
    machine.intake.release()
    machine.intake.add(machine.lines[1], b"3")
    assert [data for _, data in machine.taken] == [b"1", b"2", b"3"]


@asynchronous
async def test_a_long_silence_does_not_count_as_work() -> None:
    machine = Machine()
    machine.make_busy()
    machine.spend(3600.0, 0.0)
    machine.intake.add(machine.lines[0], b"1")
    assert machine.taken == [("line 0", b"1")]


@asynchronous
async def test_one_that_fails_is_cut_off_and_the_others_are_taken() -> None:
    machine = Machine()
    machine.make_busy()
    bad = Line(machine.taken, "bad", fails=True)
    machine.intake.add(bad, b"1")
    machine.intake.add(machine.lines[0], b"2")
    machine.intake.release()
    assert machine.taken == [("line 0", b"2")]
    assert bad.aborted


Steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, LINES - 1)),
        st.tuples(st.just("spend"), st.floats(0, 0.2)),
        st.tuples(st.just("release"), st.just(0)),
    ),
    max_size=200,
)


@given(Steps, st.floats(0, 1))
def test_everything_is_taken_once_and_in_the_order_it_came(
    steps: list[tuple[str, float]], share: float
) -> None:
    async def play() -> None:
        machine, sent = Machine(), Taken()
        for number, (what, value) in enumerate(steps):
            if what == "add":
                machine.intake.add(machine.lines[int(value)], b"%d" % number)
                sent.append((f"line {int(value)}", b"%d" % number))
            elif what == "spend":
                machine.spend(value, share)
            else:
                machine.intake.release()
            assert machine.taken == sent[: len(machine.taken)]
        await eventually(lambda: len(machine.taken) == len(sent))
        assert machine.taken == sent

    asyncio.run(play())
