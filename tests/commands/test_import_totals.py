"""What came of every line."""

import io
import json
from typing import Any

from opentrail.commands.import_sources import NotSent
from opentrail.commands.import_totals import Totals
from opentrail.imports.batch import BatchFile
from opentrail.imports.records import DIGEST_FILE


def an_answer(imported: int = 0, doubled: int = 0, *rejected: str, state: str = "imported") -> Any:
    lost = [{"line": n, "reason": reason, "detail": ""} for n, reason in enumerate(rejected, 1)]
    lines = imported + doubled + len(lost)
    return {"state": state, "lines": lines, "imported": imported, "doubled": doubled,
            "rejected": lost}  # fmt: skip


def test_counts_are_added_up_and_told() -> None:
    totals = Totals()
    totals.note_sent(BatchFile("a", b""), an_answer(1200, 3, "not JSON", "no eventID", "not JSON"))
    totals.note_sent(BatchFile("b", b""), an_answer(5, state="known"))
    totals.note_not_sent(NotSent("c", "symbolic link in a folder", is_lost=False))
    totals.note_not_sent(NotSent("d", "cannot be read", "Permission denied"))
    assert totals.told().splitlines() == [
        "3 files, 1 of them imported before",
        "1,212 lines = 1,200 imported + 8 doubled + 4 rejected",
        "        2 not JSON",
        "        1 no eventID",
        "        1 cannot be read",
        "skipped",
        "        1 symbolic link in a folder",
        "a:1: not JSON",
        "a:2: no eventID",
        "a:3: not JSON",
        "d:1: cannot be read (Permission denied)",
    ]
    assert not totals.is_complete


def test_the_pieces_of_a_file_are_one_file() -> None:
    totals = Totals()
    totals.note_sent(BatchFile("a", b"", 1), an_answer(1))
    totals.note_sent(BatchFile("a", b"", 2), an_answer(1))
    totals.note_not_sent(NotSent("a", "cannot be read", line=3))
    assert totals.as_json()["files"] == 1
    assert totals.told().splitlines()[0] == "1 file"


def test_an_import_with_digest_files_only_is_complete() -> None:
    totals = Totals()
    assert totals.is_complete
    totals.note_sent(BatchFile("a", b""), an_answer(1, 0, DIGEST_FILE))
    assert totals.is_complete
    totals.note_sent(BatchFile("a", b""), an_answer(1, 0, "not JSON"))
    assert not totals.is_complete


def test_the_first_losses_are_told_and_all_are_written() -> None:
    file = io.StringIO()
    totals = Totals(file)
    totals.note_sent(BatchFile("é", b""), an_answer(0, 0, *["not JSON"] * 25))
    told = totals.told().splitlines()
    assert told[3:5] == ["é:1: not JSON", "é:2: not JSON"]
    assert told[-2:] == ["é:3: not JSON", "... and 22 more; --rejected FILE writes all of them"]
    written = [json.loads(line) for line in file.getvalue().splitlines()]
    assert [loss["line"] for loss in written] == list(range(1, 26))
    assert written[0] == {"name": "é", "line": 1, "reason": "not JSON", "detail": ""}
    assert len(totals.as_json()["first_rejected"]) == 3


def test_names_and_reasons_steer_no_terminal() -> None:
    totals = Totals()
    totals.note_sent(BatchFile("\x1b[2J\u202e", b""), an_answer(0, 0, "\x07\n"))
    assert all(line.isprintable() for line in totals.told().splitlines())


def test_counts_as_json_are_all_there() -> None:
    totals = Totals()
    totals.note_sent(BatchFile("a", b""), an_answer(2, 1, "not JSON"))
    assert totals.as_json() == {
        "files": 1,
        "known": 0,
        "lines": 4,
        "imported": 2,
        "doubled": 1,
        "rejected": 1,
        "reasons": {"not JSON": 1},
        "skipped": {},
        "first_rejected": [{"name": "a", "line": 1, "reason": "not JSON", "detail": ""}],
    }
