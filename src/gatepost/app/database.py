"""
The database engine, made from the settings; nothing is opened or connected yet.

A module of its own: most commands, and the supervisor, need this and nothing else of the house.
"""

from gatepost.app.secrets import master_keys, unsealed
from gatepost.settings import InvalidSettings, Loaded
from gatepost.store import opening
from gatepost.store.engine import Engine


def create_engine(loaded: Loaded) -> Engine:
    """
    Make the database engine that the settings ask for; nothing is opened yet.

    Raises:
        InvalidSettings: `database.url` is neither empty nor a PostgreSQL URL.
        LibraryTooOld: The SQLite library is not safe.
        MasterKeyRefused: The master key that the settings give is none.
    """
    database = unsealed(loaded).settings.database
    try:
        return opening.create_engine(database.url, loaded.data_dir, database.pool_size, master_keys(loaded))
    except ValueError as error:
        raise InvalidSettings(str(error)) from error
