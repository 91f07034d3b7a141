"""The tables shared by several machines, and moving a journal from files into empty ones."""

from __future__ import annotations

from functools import partial

from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.postgres.batches import create_partitions, encode, new_batch_id
from opentrail.adapters.postgres.database import SharedDatabase
from opentrail.adapters.sql.databases import Transaction
from opentrail.core.errors import DataTooNew, StorageFailed, UsageError
from opentrail.ports.journal import UNKNOWN_CHAIN, JournalSource

#: Version of the tables that this version of opentrail makes and knows.
VERSION = 1
#: The prefix of a journal's owner if several servers use the journal.
_CLUSTER = "cluster "
#: Key of the advisory lock held during the creation of tables.
_LOCK = 0x6F70656E7472
#: Not `to_regclass`, which may miss recent commits of other processes.
_EXISTS = "SELECT 1 FROM pg_tables WHERE schemaname = 'opentrail' AND tablename = 'version'"
_HAS_SCHEMA = "SELECT 1 FROM pg_namespace WHERE nspname = 'opentrail'"
_TABLES = (
    "CREATE TABLE opentrail.version (version integer NOT NULL)",
    f"INSERT INTO opentrail.version VALUES ({VERSION})",  # noqa: S608 - a number
    """
    CREATE TABLE opentrail.lease (
        name text PRIMARY KEY,
        holder text NOT NULL,
        epoch bigint NOT NULL,
        until timestamptz NOT NULL
    )
    """,
    # One row: the last position, its chain, the last trimmed position, and the owner.
    """
    CREATE TABLE opentrail.journal (
        position bigint NOT NULL,
        chain bytea NOT NULL,
        trimmed bigint NOT NULL,
        owner text
    )
    """,
    "INSERT INTO opentrail.journal VALUES (0, decode(repeat('00', 32), 'hex'), 0, NULL)",
    """
    CREATE TABLE opentrail.lost (
        first bigint PRIMARY KEY,
        last bigint,
        reason text NOT NULL
    )
    """,
    # The sequencer writes `first` and the columns after it.
    """
    CREATE TABLE opentrail.batch (
        id uuid PRIMARY KEY,
        n bigserial NOT NULL,
        node text NOT NULL,
        count integer NOT NULL,
        body bytea NOT NULL,
        first bigint,
        chain_before bytea,
        chain bytea,
        epoch bigint
    ) PARTITION BY RANGE (id)
    """,
    "CREATE INDEX batch_first ON opentrail.batch (first) WHERE first IS NOT NULL",
    "CREATE INDEX batch_unordered ON opentrail.batch (n) WHERE first IS NULL",
)
#: Writes something, to wait for standbys like other commits.
PROBE = "UPDATE opentrail.version SET version = version"
#: Marks positions as lost.
LOSE = "INSERT INTO opentrail.lost VALUES (?, ?, ?) ON CONFLICT (first) DO NOTHING"
#: Compresses bodies faster, where PostgreSQL was built with it.
_LZ4 = (
    "SELECT 1 FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY(enumvals)"
)
_USE_LZ4 = "ALTER TABLE opentrail.batch ALTER COLUMN body SET COMPRESSION lz4"


def create_tables(transaction: Transaction) -> None:
    """Creates the tables, unless they exist.

    Raises:
        DataTooNew: a newer version of opentrail made them.
    """
    if not transaction.rows(_EXISTS):
        transaction.rows("SELECT pg_advisory_xact_lock(?)", [_LOCK])
        if not transaction.rows(_EXISTS):
            # Not `IF NOT EXISTS`: the owner of the schema needs no permission to create others.
            if not transaction.rows(_HAS_SCHEMA):
                transaction.change("CREATE SCHEMA opentrail")
            for statement in _TABLES:
                transaction.change(statement)
            if transaction.rows(_LZ4):
                transaction.change(_USE_LZ4)
    ((version,),) = transaction.rows("SELECT version FROM opentrail.version")
    if version > VERSION:
        raise DataTooNew(
            f"the journal on PostgreSQL was made by a newer version of opentrail: its tables have "
            f"version {version}, this version knows up to {VERSION}; upgrade opentrail"
        )


def claim(transaction: Transaction, owner: str, data_directory: str, is_new: bool) -> None:
    """Stores the journal's owner.

    Args:
        transaction: a transaction.
        owner: the data directory of the only server that uses it, or `cluster_of` a control store.
        data_directory: the id of this server's data directory.
        is_new: whether that directory knows no journal yet. A new one may continue another data
            directory's journal; others would report their known positions as lost in the wrong
            journal.

    Raises:
        UsageError: another data directory, or another cluster, uses the journal.
    """
    ((former,),) = transaction.rows("SELECT owner FROM opentrail.journal FOR UPDATE")
    is_ours = former in (None, owner, data_directory)
    if not is_ours and former.startswith(_CLUSTER):
        raise UsageError(
            "a cluster uses the journal on PostgreSQL: set OPENTRAIL_CONTROL_STORE to the same "
            "database as OPENTRAIL_JOURNAL to join it"
        )
    if not is_ours and not is_new:
        raise UsageError(
            "the journal on PostgreSQL is of another data directory: set OPENTRAIL_JOURNAL to the "
            "database of this one, or begin with a new data directory"
        )
    transaction.change("UPDATE opentrail.journal SET owner = ?", [owner])


def cluster_of(control_store: str) -> str:
    """Returns the owner of a shared journal, by the id of its control store."""
    return f"{_CLUSTER}{control_store}"


# A journal from files

#: Maximum seconds that a move takes.
_MOVE_SECONDS = 3_600.0
#: Maximum records of a batch.
_RECORDS = 2_000
_HEAD = "SELECT position FROM opentrail.journal FOR UPDATE"
_ANY_BATCH = "SELECT 1 FROM opentrail.batch LIMIT 1"
_INSERT = (
    "INSERT INTO opentrail.batch (id, node, count, body, first, chain_before, chain, epoch)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_SET_HEAD = "UPDATE opentrail.journal SET position = ?, chain = ?, trimmed = ?"
#: Who has written the batches, and its epoch, before any sequencer.
_NODE, _EPOCH = "restore", 0


async def restore_journal(url: str, source: JournalSource, last: int) -> None:
    """Copies a journal into an empty one, in one transaction.

    Args:
        url: `postgresql://USER:PASSWORD@HOST/DATABASE`.
        source: the journal, which no server uses.
        last: its last position.

    Raises:
        UsageError: the journal on PostgreSQL is not empty, the URL is not valid, or PostgreSQL's
            driver is not installed.
        StorageFailed: the journal has lost positions, or something cannot be read or written.
    """
    first = source.first_position()
    if lost := source.lost_between(first, last):
        raise StorageFailed(
            f"the journal has lost positions {lost[0].first} to {lost[0].last}: restore it into "
            "files, start a server until event history has sealed what follows, and back it up "
            "again"
        )
    database = SharedDatabase(url)
    try:
        await database.run(create_tables)
        fill = partial(_fill, source=source, first=first, last=last)
        await database.run(fill, _MOVE_SECONDS)
    finally:
        await database.close()


def _fill(transaction: Transaction, source: JournalSource, first: int, last: int) -> None:
    ((position,),) = transaction.rows(_HEAD)
    if position or transaction.rows(_ANY_BATCH):
        raise UsageError("the journal on PostgreSQL is not empty")
    now = SystemClock().now()
    create_partitions(transaction, now.date())
    chain = source.chain_before(first) or UNKNOWN_CHAIN
    position = first - 1
    for entries in source.read_range(first, last, _RECORDS):
        before, chain, position = chain, entries[-1].chain, entries[-1].position
        batch = [new_batch_id(now), _NODE, len(entries), encode(entries)]
        transaction.change(_INSERT, [*batch, entries[0].position, before, chain, _EPOCH])
    if position != last:
        raise StorageFailed(f"the journal ends at position {position}, not at {last}")
    transaction.change(_SET_HEAD, [position, chain, first - 1])
