"""The schema's versions are those of the migrations."""

from __future__ import annotations

from alembic.config import Config
from alembic.script import ScriptDirectory

from opentrail.adapters.sql import migrating, schema


def test_every_version_has_a_migration_and_they_follow_one_another() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrating._MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    found = [each.revision for each in script.walk_revisions()]
    assert tuple(reversed(found)) == schema.VERSIONS
    assert script.get_heads() == [schema.VERSIONS[-1]]
