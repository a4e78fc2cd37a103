"""
All the faults of a JSON value against a type, each with its pointer.

msgspec stops at the first fault. When it found one, this walks value and type side by side: slower, and only then.
"""

import re
import types
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from gatepost.domain.errors import Fault
from gatepost.mime.checks import pointer

_MOST = 100
_PLACE = re.compile(r" - at `(?:key in )?\$?([^`]*)`$")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_QUOTED = re.compile(r"`([^`]*)`")
_NAMES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
    "null": "null",
}


def faults_of(value: Any, kind: Any) -> list[Fault]:
    """Find at most 100 faults of a decoded JSON value; empty where it fits."""
    found: list[Fault] = []
    _walk(value, kind, "", found)
    return found


def place_of(error: msgspec.ValidationError, at: str = "") -> Fault:
    """Write what msgspec says about a value as a fault, with the place as a pointer."""
    text = str(error)
    where = _PLACE.search(text)
    if where is not None:
        text = text[: where.start()]
        at += "".join(pointer(name or int(number)) for name, number in _STEP.findall(where[1].partition("[...]")[0]))
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", text, re.DOTALL)
    if unknown:
        return _unknown(at + pointer(unknown[1][:100]))
    missing = re.fullmatch(r"Object missing required field `(.*)`", text)
    if missing:
        return _missing(at + pointer(missing[1]))
    return Fault(at, "wrong_type" if ", got `" in text else "out_of_range", _words(text))


def _unknown(at: str) -> Fault:
    return Fault(at, "unknown_field", "there is no such field")


def _missing(at: str) -> Fault:
    return Fault(at, "required", "the field is missing")


def _words(text: str) -> str:
    plain = _QUOTED.sub(lambda found: " or ".join(_NAMES.get(name.strip(), name.strip()) for name in found[1].split("|")), text)
    return plain[:1].lower() + plain[1:]


def _walk(value: Any, kind: Any, at: str, found: list[Fault]) -> None:
    if len(found) >= _MOST:
        return
    before = len(found)
    member = _member(kind, value)
    walker = _walker(member)
    if walker is not None:
        walker(value, member, at, found)
    if len(found) == before:
        _convert(value, kind, at, found)


def _convert(value: Any, kind: Any, at: str, found: list[Fault]) -> None:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        found.append(place_of(error, at))
    except RecursionError:
        found.append(Fault(at, "out_of_range", "it is nested too deeply"))


def _walker(member: Any) -> "Callable[[Any, Any, str, list[Fault]], None] | None":
    if _is_struct(member):
        return _walk_struct
    return {list: _walk_list, dict: _walk_dict}.get(get_origin(member))


def _walk_struct(value: Any, member: Any, at: str, found: list[Fault]) -> None:
    fields, hints = _fields(member)
    found += [_unknown(at + pointer(name[:100])) for name in value if name not in fields][: _MOST - len(found)]
    found += [_missing(at + pointer(name)) for name, field in fields.items() if field.required and name not in value]
    for name, field in fields.items():
        if name in value:
            _walk(value[name], hints[field.name], at + pointer(name), found)


def _walk_list(value: Any, member: Any, at: str, found: list[Fault]) -> None:
    (item_kind,) = get_args(member)
    for n, item in enumerate(value):
        _walk(item, item_kind, f"{at}/{n}", found)


def _walk_dict(value: Any, member: Any, at: str, found: list[Fault]) -> None:
    item_kind = get_args(member)[1]
    for name, item in value.items():
        _walk(item, item_kind, at + pointer(name[:100]), found)


def _member(kind: Any, value: Any) -> Any:
    """Pick the part of a union that a JSON value is meant for."""
    kind = _bare(kind)
    members = [_bare(one) for one in get_args(kind)] if get_origin(kind) in {Union, types.UnionType} else [kind]
    if isinstance(value, list):
        return next((one for one in members if get_origin(one) is list), None)
    if isinstance(value, dict):
        return next((one for one in members if get_origin(one) is dict or _is_struct(one)), None)
    return None


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


@lru_cache(maxsize=64)
def _fields(struct: Any) -> tuple[dict[str, msgspec.structs.FieldInfo], dict[str, Any]]:
    return {field.encode_name: field for field in msgspec.structs.fields(struct)}, get_type_hints(struct, include_extras=True)
