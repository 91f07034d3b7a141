"""Notes of messages to send: in order, until they are sent or expire."""

from __future__ import annotations

from datetime import timedelta

from opentrail.core.trail import stored_time
from opentrail.ports.control import Put
from opentrail.trails.outbox import (
    NOTICE,
    STREAM,
    Outbox,
    SinkStatus,
    is_empty,
    note_of,
    removals_of,
)
from tests.factories import MOMENT
from tests.fakes import MemoryControl, asynchronous

DAY = timedelta(days=1)
SINCE = stored_time(MOMENT)


async def noted(control: MemoryControl, uid: str, *numbers: int, kind: str = NOTICE) -> None:
    await control.apply([note_of(kind, uid, n, SINCE, {"number": n}) for n in numbers])


@asynchronous
async def test_notes_wait_in_the_order_of_their_files() -> None:
    control = MemoryControl()
    await noted(control, "one", 10, 9, 100)
    await noted(control, "two", 1)
    outbox = Outbox(control, NOTICE, DAY)
    waiting = await outbox.waiting("one")
    assert [note.document["number"] for note in waiting] == [9, 10, 100]
    await outbox.finish("one", waiting[:2], SinkStatus("a", "b", None))
    assert [note.document["number"] for note in await outbox.waiting("one")] == [100]
    assert len(await outbox.waiting("two")) == 1


@asynchronous
async def test_the_outcome_is_stored() -> None:
    outbox = Outbox(MemoryControl(), NOTICE, DAY)
    assert await outbox.status("one") == SinkStatus()
    await outbox.finish("one", [], SinkStatus("then", None, "NotFound"))
    assert await outbox.status("one") == SinkStatus("then", None, "NotFound")
    assert await outbox.status("two") == SinkStatus()


@asynchronous
async def test_a_note_expires() -> None:
    control = MemoryControl()
    await noted(control, "one", 1)
    outbox = Outbox(control, NOTICE, DAY)
    (note,) = await outbox.waiting("one")
    assert not outbox.is_over(note, MOMENT + DAY)
    assert outbox.is_over(note, MOMENT + DAY + timedelta(seconds=1))


@asynchronous
async def test_a_changed_note_stays_where_it_is() -> None:
    control = MemoryControl()
    await noted(control, "one", 1, 2)
    outbox = Outbox(control, NOTICE, DAY)
    first, _ = await outbox.waiting("one")
    first.document["sent"] = 5
    await outbox.store("one", first, SinkStatus("then", "then", None))
    assert [note.document.get("sent") for note in await outbox.waiting("one")] == [5, None]
    assert (await outbox.status("one")).latest == "then"


@asynchronous
async def test_a_forgotten_trail_leaves_nothing() -> None:
    control = MemoryControl()
    await control.apply([Put("other", "one/1", {})])
    for kind in (NOTICE, STREAM):
        await noted(control, "one", 1, 2, kind=kind)
        await noted(control, "two", 1, kind=kind)
        await Outbox(control, kind, DAY).finish("one", [], SinkStatus("then"))
    assert not await is_empty(control, "one")
    await control.apply(await removals_of(control, "one"))
    assert await is_empty(control, "one")
    assert not await is_empty(control, "two")
    assert sorted(control.disk) == [
        ("notice", "two/000000000001"),
        ("other", "one/1"),
        ("stream", "two/000000000001"),
    ]
