"""
Secrets at the start: where the master key comes from, and options that are sealed under it.

Arrives: the settings as they stand in file and environment. Leaves: master keys; settings with every `sealed:` value opened.
Only what a process works with is opened: what shows settings shows the sealed value.
Not here: how master keys wrap (store.master_key), rotation (store.rotation).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from gatepost.settings import InvalidSettings, Loaded
from gatepost.store.errors import SealBroken
from gatepost.store.key_file import FILE_NAME, KeyFile
from gatepost.store.master_key import CREDENTIAL, PREFIX, GivenKeys, open_option, option_master


def master_keys(loaded: Loaded, environ: Mapping[str, str] | None = None) -> GivenKeys | KeyFile:
    """
    Find the master keys: the option, its file, systemd's credential, else a file in the data directory, made at need.

    Raises:
        MasterKeyRefused: `secrets.master_key` holds no key.
    """
    environ = os.environ if environ is None else environ
    options = loaded.settings.secrets
    if options.master_key:
        return GivenKeys(options.master_key, "secrets.master_key")
    if options.master_key_file:
        return KeyFile(Path(options.master_key_file))
    if folder := environ.get("CREDENTIALS_DIRECTORY"):
        credential = Path(folder) / CREDENTIAL
        if credential.exists():
            return KeyFile(credential)
    return KeyFile(loaded.data_dir / FILE_NAME, may_make=True)


def unsealed(loaded: Loaded) -> Loaded:
    """
    Open every sealed option.

    Raises:
        InvalidSettings: One was altered, or was sealed under a master key that is not known.
        MasterKeyRefused: There are some, and the master key cannot be read.
    """
    found = sealed_options(loaded)
    if not found:
        return loaded
    keys = master_keys(loaded).all
    opened = {}
    for name, value in found.items():
        try:
            opened[value] = open_option(value, keys)
        except SealBroken as error:
            raise InvalidSettings(f"{name}: {error}") from error
    tree = _replaced(msgspec.to_builtins(loaded.settings), opened)
    settings = msgspec.convert(tree, type(loaded.settings))
    return Loaded(settings=settings, origins=loaded.origins, data_dir=loaded.data_dir)


def sealed_options(loaded: Loaded) -> dict[str, str]:
    """Map the names of sealed options to their values."""
    return dict(_sealed(msgspec.to_builtins(loaded.settings), ""))


def masters_of_options(loaded: Loaded) -> dict[str, str | None]:
    """Map the names of sealed options to the names of the master keys that they are sealed under."""
    return {name: option_master(value) for name, value in sealed_options(loaded).items()}


def _sealed(value: Any, name: str) -> list[tuple[str, str]]:
    match value:
        case str() if value.startswith(PREFIX):
            return [(name, value)]
        case dict():
            return [one for key, item in value.items() for one in _sealed(item, f"{name}.{key}" if name else str(key))]
        case list():
            return [one for n, item in enumerate(value) for one in _sealed(item, f"{name}[{n}]")]
        case _:
            return []


def _replaced(value: Any, opened: Mapping[str, str]) -> Any:
    match value:
        case str():
            return opened.get(value, value)
        case dict():
            return {key: _replaced(item, opened) for key, item in value.items()}
        case list():
            return [_replaced(item, opened) for item in value]
        case _:
            return value
