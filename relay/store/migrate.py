"""Schema versions: alembic, with its scripts inside this package and no file at top level."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

_SCRIPTS = Path(__file__).parent / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    return config


SCHEMA = ScriptDirectory.from_config(_config()).get_current_head() or ""
"""The schema version this program reads and writes."""


def current_schema(engine: Engine) -> str:
    """The version of a database, empty where it has none."""
    with engine.connect() as connection:
        return schema_of(connection)


def schema_of(connection: Connection) -> str:
    """The same, by a connection to the database."""
    return MigrationContext.configure(connection).get_current_revision() or ""


def migrate(engine: Engine) -> tuple[str, str]:
    """Brings a database to SCHEMA in one transaction; (version before, version after)."""
    before = current_schema(engine)
    config = _config()
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before, current_schema(engine)
