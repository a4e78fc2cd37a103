"""
Where options' values come from.

Sources, weakest first: the default, `DIR/gatepost.toml`, the environment (`GATEPOST_HTTP__LISTEN`; `…_FILE` names a file
that holds the value, for secrets), command-line flags. An unknown option is refused: a typo must not silently change
how mail is sent.
"""

import datetime as dt
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from gatepost.settings.checks import InvalidSettings, check
from gatepost.settings.section import Section
from gatepost.settings.sections import Settings

_PREFIX = "GATEPOST_"
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PART = re.compile(r'"([^"]*)"|([^."]+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """
    One option with its value.

    Attributes:
        name: Dotted path such as `http.listen`.
        origin: `default`, the file's path, the variable's name, or `flag`.
    """

    name: str
    value: Any
    default: Any
    help: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings with where each option came from."""

    settings: Settings
    origins: Mapping[str, str]
    data_dir: Path


def load(data_dir: Path, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None) -> Loaded:
    """
    Read the settings of a data directory.

    Args:
        environ: The environment; None is the process's own.
        flags: Dotted option names with values, the strongest source.

    Raises:
        InvalidSettings: The file cannot be read, an option is unknown or its value is not valid.
    """
    environ = os.environ if environ is None else environ
    tree: dict[str, Any] = {}
    origins: dict[str, str] = {}
    path = data_dir / "gatepost.toml"
    if path.exists():
        _merge(tree, origins, _read_file(path), str(path))
    for name, (value, origin) in _from_environment(environ).items():
        _set(tree, name, value)
        origins[name] = origin
    for name, value in (flags or {}).items():
        _set(tree, name, value)
        origins[name] = "flag"
    return Loaded(settings=_convert(tree, origins), origins=origins, data_dir=data_dir)


def options(loaded: Loaded) -> list[Option]:
    """List every option with its value, its default and where the value came from."""
    found = []
    for section, kind in get_type_hints(Settings).items():
        group = getattr(loaded.settings, section)
        if isinstance(group, dict):
            found += [_option(loaded, f"{section}.{_quoted(name)}", type(one), one) for name, one in group.items()]
        else:
            found.append(_option(loaded, section, kind, group))
    return [option for group_options in found for option in group_options]


def _option(loaded: Loaded, prefix: str, kind: type[Struct], group: Struct) -> list[Option]:
    found: list[Option] = []
    for field in msgspec.structs.fields(kind):
        name, value = f"{prefix}.{field.name}", getattr(group, field.name)
        if isinstance(value, Section):
            found += _option(loaded, name, type(value), value)
        elif isinstance(value, dict) and value and isinstance(next(iter(value.values())), Section):
            for key, one in value.items():
                found += _option(loaded, f"{name}.{_quoted(key)}", type(one), one)
        else:
            origin = _origin(loaded.origins, name)
            found.append(Option(name=name, value=value, default=_default_of(field), help=_help_of(field.type), origin=origin))
    return found


def _origin(origins: Mapping[str, str], name: str) -> str:
    """Say where an option, or the first part of a table, came from."""
    return origins.get(name) or next((origin for key, origin in origins.items() if key.startswith(f"{name}.")), "default")


def _default_of(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else None


def _help_of(annotation: Any) -> str:
    metas = [arg for arg in get_args(annotation) if isinstance(arg, Meta)] if get_origin(annotation) is Annotated else []
    return next((meta.description for meta in metas if meta.description), "")


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidSettings(f"{path}: {error}") from error


def _merge(tree: dict[str, Any], origins: dict[str, str], values: dict[str, Any], origin: str, prefix: str = "") -> None:
    for key, value in values.items():
        name = f"{prefix}{_quoted(key)}"
        if isinstance(value, dict):
            _merge(tree, origins, value, origin, f"{name}.")
        else:
            _set(tree, name, value)
            origins[name] = origin


def _set(tree: dict[str, Any], name: str, value: Any) -> None:
    *parents, leaf = _parts(name)
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise InvalidSettings(f"{name}: {parent} is not a section")
    tree[leaf] = value


def _quoted(key: str) -> str:
    """Write a key as TOML does: one with dots, such as a site's name, stands in quotes."""
    return key if _BARE.fullmatch(key) else f'"{key}"'


def _parts(name: str) -> list[str]:
    """Split an option's name at its dots, those in quotes apart."""
    return [bare or quoted for quoted, bare in _PART.findall(name)]


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """Map `GATEPOST_A__B` to `a.b`; variables without `__` (such as GATEPOST_DATA) are not options."""
    found = {}
    for variable, text in environ.items():
        if not variable.startswith(_PREFIX) or "__" not in variable:
            continue
        name = variable.removeprefix(_PREFIX).lower().replace("__", ".")
        if name.endswith("_file") and not _is_option(name):
            found[name.removesuffix("_file")] = (parse_value(_read_secret(variable, text)), variable)
        else:
            found[name] = (parse_value(text), variable)
    return found


def _is_option(name: str) -> bool:
    """Tell whether there is an option of this name; the second part of one in a table is its entry's."""
    kind: Any = Settings
    for part in name.split("."):
        if (member := _table_of(kind)) is not None:
            kind = member
        elif isinstance(kind, type) and issubclass(kind, Struct) and part in (hints := get_type_hints(kind)):
            kind = hints[part]
        else:
            return False
    return True


def _read_secret(variable: str, path: str) -> str:
    try:
        return Path(path).read_text("utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"{variable}: {error}") from error


def parse_value(text: str) -> Any:
    """Read lists, numbers and booleans as TOML writes them; anything else is a string and needs no quotes."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _convert(tree: dict[str, Any], origins: Mapping[str, str]) -> Settings:
    try:
        # strict=False: a flag or a variable may hold "8025" where a number is meant, or 8025 where a string is.
        settings = msgspec.convert(_stringify(tree, Settings), Settings, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidSettings(_explain(str(error), origins)) from error
    check(settings)
    return settings


def _stringify(tree: dict[str, Any], kind: Any) -> dict[str, Any]:
    """Turn scalars into text where the option is text: `parse_value` cannot know that a password of digits is no number."""
    hints = get_type_hints(kind)
    shaped: dict[str, Any] = {}
    for key, value in tree.items():
        hint = hints.get(key)
        if isinstance(value, dict) and isinstance(hint, type) and issubclass(hint, Struct):
            shaped[key] = _stringify(value, hint)
        elif isinstance(value, dict) and (member := _table_of(hint)) is not None:
            shaped[key] = {name: _stringify(one, member) if isinstance(one, dict) else one for name, one in value.items()}
        else:
            is_other = isinstance(value, int | float | dt.date) and not isinstance(value, bool)
            shaped[key] = str(value) if hint is str and is_other else value
    return shaped


def _table_of(hint: Any) -> type[Struct] | None:
    """Return the kind of a table's entries, where they are sections."""
    if get_origin(hint) is not dict:
        return None
    kind = get_args(hint)[1]
    return kind if isinstance(kind, type) and issubclass(kind, Struct) else None


def _explain(text: str, origins: Mapping[str, str]) -> str:
    what, _, place = text.partition(" - at `$.")
    name = place.rstrip("`")
    origin = origins.get(name)
    return f"{name or 'settings'}: {what}" + (f" (from {origin})" if origin else "")
