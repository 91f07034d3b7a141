"""Blocks of files in S3: verified, bounded, and found after a restart."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from opentrail.adapters.data_directory.sealed_file_names import SCHEME
from opentrail.adapters.duckdb.block_cache import BlockCache, SharedFileSystem
from opentrail.adapters.duckdb.file_index import BLOCK_BYTES
from opentrail.adapters.duckdb.seal import seal
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.errors import FilesUnreachable, StorageFailed
from tests.adapters.duckdb.shared_folder import SharedFolder
from tests.factories import some_new_entries
from tests.fakes import run

#: Records of a file, and the number of files.
RECORDS = 30
FILES = 3


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Sealed files."""
    folder = tmp_path_factory.mktemp("sealed")

    async def fill() -> None:
        journal = SqliteJournal(folder)
        await journal.append(some_new_entries(RECORDS * FILES))
        await journal.close()

    run(fill())
    firsts = range(1, RECORDS * FILES, RECORDS)
    source = SqliteJournalSource(folder)
    return [seal(source, folder, first, first + RECORDS - 1)[0] for first in firsts]


@pytest.fixture
def s3(tmp_path: Path, sealed: list[Path]) -> SharedFolder:
    """Copies of them, and a cache of three blocks."""
    made = SharedFolder(tmp_path, max_bytes=3 * BLOCK_BYTES)
    copies = []
    for path in sealed:
        copy = tmp_path / path.name
        copy.write_bytes(path.read_bytes())
        copies.append(copy)
    for file in made.take(copies):
        made.cache.add(str(file.name))
    return made


def names(s3: SharedFolder) -> list[str]:
    return sorted(path.name for path in s3.folder.iterdir())


def content(s3: SharedFolder, name: str) -> bytes:
    return (s3.folder / name).read_bytes()


@pytest.mark.slow
def test_any_part_of_a_file_is_read_unchanged(s3: SharedFolder) -> None:
    name, chance = names(s3)[0], random.Random(1)
    whole = content(s3, name)
    assert s3.cache.read(name, 0, 10 * len(whole)) == whole
    for _ in range(50):
        first, length = chance.randrange(len(whole)), chance.randrange(3 * BLOCK_BYTES)
        assert s3.cache.read(name, first, length) == whole[first : first + length]
    assert s3.cache.read(name, len(whole), 100) == b""


@pytest.mark.slow
def test_newest_blocks_are_kept_up_to_the_limit(s3: SharedFolder) -> None:
    one, two, _ = names(s3)
    for name in names(s3):
        s3.cache.read(name, 0, len(content(s3, name)))
        assert 0 < s3.cached_bytes <= 3 * BLOCK_BYTES
    s3.cache.read(one, 0, 1)
    s3.cache.read(two, 0, 2 * BLOCK_BYTES)  # leaves one block of the first file
    before = s3.reads
    s3.cache.read(one, 0, 1)
    assert s3.reads == before
    s3.cache.read(two, 0, 1)
    assert s3.reads == before


def test_a_restart_keeps_blocks_and_deletes_other_files(s3: SharedFolder) -> None:
    one, two, _ = names(s3)
    for name in (one, two):
        s3.cache.read(name, 0, 1)
    (s3.cached / one / "1.77.tmp").write_bytes(b"half of a block")
    (s3.cached / f"{Path(one).stem}.whole").write_bytes(b"half of a file")
    before = s3.reads
    restarted = BlockCache(s3.cached, 3 * BLOCK_BYTES, s3.read)
    restarted.open({one})
    restarted.add(one)
    assert restarted.read(one, 0, 1)
    assert s3.reads == before
    assert sorted(path.name for path in s3.cached.glob("*/*")) == ["0"]
    assert sorted(path.name for path in s3.cached.iterdir()) == [one, f"{Path(one).stem}.index"]


def test_a_smaller_limit_deletes_blocks(s3: SharedFolder) -> None:
    s3.cache.read(names(s3)[0], 0, 3 * BLOCK_BYTES)
    BlockCache(s3.cached, BLOCK_BYTES, s3.read).open(names(s3))
    assert s3.cached_bytes <= BLOCK_BYTES


@pytest.mark.slow
@pytest.mark.parametrize("kept", [b"", b"\0" * BLOCK_BYTES])
def test_an_incomplete_block_is_downloaded_again(s3: SharedFolder, kept: bytes) -> None:
    name = names(s3)[0]
    s3.cache.read(name, 0, 1)
    (s3.cached / name / "0").write_bytes(kept)
    assert s3.cache.read(name, 0, 100) == content(s3, name)[:100]


def test_damaged_s3_blocks_are_refused_and_not_cached(s3: SharedFolder) -> None:
    name = names(s3)[0]
    whole = content(s3, name)
    (s3.folder / name).write_bytes(whole[:100] + b"x" + whole[101:])
    with pytest.raises(FilesUnreachable, match=f"block 0 of the history file {name} in S3"):
        s3.cache.read(name, 0, 10)
    failure = s3.cache.failure()
    assert isinstance(failure, FilesUnreachable)
    assert s3.cache.failure() is None
    assert s3.cached_bytes == 0
    (s3.folder / name).write_bytes(whole)
    assert s3.cache.read(name, 0, 10) == whole[:10]


def test_a_full_disk_fails_no_lookup(s3: SharedFolder) -> None:
    name = names(s3)[0]
    (s3.cached / name).write_bytes(b"no folder")  # makes writing into it impossible
    assert s3.cache.read(name, 0, 10) == content(s3, name)[:10]
    assert s3.cache.read(name, 0, 10) == content(s3, name)[:10]


@pytest.mark.slow
def test_concurrent_reads_are_right_within_the_limit(s3: SharedFolder) -> None:
    contents = {name: content(s3, name) for name in names(s3)}

    def read(seed: int) -> int:
        chance, most = random.Random(seed), 0
        for _ in range(1_000):
            name = chance.choice(list(contents))
            first = chance.randrange(len(contents[name]))
            assert s3.cache.read(name, first, 1_000) == contents[name][first : first + 1_000]
            most = max(most, s3.cache.bytes)
        return most

    with ThreadPoolExecutor(5) as threads:
        assert max(threads.map(read, range(5))) <= 3 * BLOCK_BYTES
    assert s3.cached_bytes <= 3 * BLOCK_BYTES


def test_each_thread_has_a_position(s3: SharedFolder) -> None:
    name, content = next((path.name, path.read_bytes()) for path in s3.folder.iterdir())
    s3.cache.add(name)
    file = SharedFileSystem(s3.cache).open(f"{SCHEME}://{name}")
    file.seek(8)

    def elsewhere() -> bytes:
        file.seek(5_000)
        return bytes(file.read(7))

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(elsewhere).result() == content[5_000:5_007]
    assert file.read(4) == content[8:12] == b"DUCK"


@pytest.mark.parametrize("kept", [0, 3, 40, 300])
def test_cut_index_is_an_error_with_its_name(s3: SharedFolder, kept: int) -> None:
    name = next(path.name for path in s3.folder.iterdir())
    index = (s3.cached / name).with_suffix(".index")
    index.write_bytes(index.read_bytes()[:kept])
    with pytest.raises(StorageFailed, match=f"the index {index.name} is damaged"):
        s3.cache.add(name)
