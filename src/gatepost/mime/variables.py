"""
Variables in subject, text and HTML: `Hi {{ name }}`, with `if`, `for` and a few filters.

Arrives: a template and the variables of a request. Leaves: text; values are escaped where it is HTML.
Only a part of the template language is taken, checked before anything is compiled: values and filters, `if`, `for`. There
is no `set`, no arithmetic, no list literal, no call and no filter whose result can be made to grow without end, so that the
output is bounded by what went in and by the fuel.
Not here: stored templates. A value is never read as a template.
Bugs: a name that looks like a link (`evil.example`) stays, and mail programs may make a link of it.
"""

import re
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import minijinja
import msgspec

MAX_TEMPLATE = 1_000_000
MAX_VARIABLES_BYTES = 256 * 1024
MAX_OUTPUT = 4_000_000

_CACHED = 256
_MAX_TAGS = 10_000
_MAX_DEPTH = 50
_MAX_TAG = 1_000  # the compiler recurses over operators and filters
_WORK = 32_000_000  # characters that loops may write at most, whatever the fuel
_FUEL = (300, 100_000)
_FILTERS = (
    "abs capitalize default d e escape first float int items last length count lower round safe sort string title trim "
    "unique upper urlencode"
).replace(" ", "|")
_LITERAL = r"""(?:"[^"\\]*+"|'[^'\\]*+'|-?[0-9]++(?:\.[0-9]++)?)"""
_PATH = r"[A-Za-z_][A-Za-z0-9_]*+(?:\.[A-Za-z_][A-Za-z0-9_]*+)*+"
_FILTER = rf"\s*+\|\s*+(?:{_FILTERS})\b(?:\s*+\(\s*+(?:{_LITERAL}|{_PATH})\s*+\))?+"
_OPERAND = rf"(?:{_LITERAL}|{_PATH})(?:{_FILTER})*+"
_VALUE = re.compile(rf"\s*+{_OPERAND}\s*+")
_FOR = re.compile(rf"for\s++[A-Za-z_][A-Za-z0-9_]*+(?:\s*+,\s*+[A-Za-z_][A-Za-z0-9_]*+)?\s++in\s++{_OPERAND}\s*+")
_CONDITION = re.compile(rf"(?:if|elif)\b(?:\s++|[()]|==|!=|<=|>=|<|>|{_OPERAND})++")
_BARE = re.compile(r"(?:else|endif|endfor)\s*+")
_OPEN = re.compile(r"\{[{%#]")
_CLOSE = {"{{": "}}", "{%": "%}", "{#": "#}"}


class TemplateFault(Exception):  # noqa: N818 - the caller makes a Fault with a pointer of it
    """
    A template or its variables cannot be used.

    Attributes:
        code: `template_syntax`, `template_undefined`, `template_too_large`, `variables_too_large` or `template_failed`.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class _Compiled:
    name: str
    widest: int
    """Characters of the longest literal piece within a loop."""


def render_variables(template: str, variables: dict[str, Any], *, html: bool) -> str:
    """
    Put variables into a template.

    Args:
        variables: JSON values by name.
        html: Escape values for HTML; `|safe` is the author's word that a value is HTML already.

    Raises:
        TemplateFault: With one sentence, and the line where there is one.
    """
    if "{" not in template:
        return template
    size = _size(variables)
    with _lock:  # the environment's fuel is set for one rendering at a time
        compiled = _compile(template, html=html)
        _environment.fuel = max(_FUEL[0], min(_FUEL[1], _WORK // max(compiled.widest, size, 1)))
        try:
            text = _environment.render_template(compiled.name, **variables)
        except minijinja.TemplateError as error:
            raise _fault(error) from None
    if len(text) > MAX_OUTPUT:
        raise TemplateFault("template_too_large", f"the result is longer than {MAX_OUTPUT} characters")
    return text


_lock = threading.Lock()
_cache: OrderedDict[tuple[str, bool], _Compiled] = OrderedDict()
_environment = minijinja.Environment(
    debug=False,
    undefined_behavior="strict",
    pycompat=False,
    keep_trailing_newline=True,
    auto_escape_callback=lambda name: "html" if name.endswith(".html") else False,
    path_join_callback=lambda _name, _parent: "",
    finalizer=lambda value: "" if value is None else value,
)
for _name in [*_environment.globals]:  # range, cycler and the like: a name is a variable, or it is nothing
    _environment.remove_global(_name)


def _size(variables: dict[str, Any]) -> int:
    try:
        size = len(msgspec.json.encode(variables))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        raise TemplateFault("template_failed", "the variables are not JSON values") from None
    if size > MAX_VARIABLES_BYTES:
        raise TemplateFault("variables_too_large", f"the variables are larger than {MAX_VARIABLES_BYTES} bytes")
    if any(not name.isidentifier() for name in variables):
        raise TemplateFault("template_failed", "a variable's name has letters, digits and _, and does not begin with a digit")
    return size


def _compile(template: str, *, html: bool) -> _Compiled:
    found = _cache.get((template, html))
    if found is not None:
        _cache.move_to_end((template, html))
        return found
    if len(template) > MAX_TEMPLATE:
        raise TemplateFault("template_too_large", f"the template is longer than {MAX_TEMPLATE} characters")
    compiled = _Compiled(f"{secrets.token_hex(8)}.{'html' if html else 'txt'}", _check(template))
    try:
        _environment.add_template(compiled.name, template)
    except minijinja.TemplateError as error:
        raise _fault(error) from None
    _cache[template, html] = compiled
    if len(_cache) > _CACHED:
        _environment.remove_template(_cache.popitem(last=False)[1].name)
    return compiled


def _check(template: str) -> int:
    """Refuse every tag outside the language described above; returns the length of the longest literal within a loop."""
    at, loops, widest, tags, depth = 0, 0, 0, 0, 0
    while found := _OPEN.search(template, at):
        if loops:
            widest = max(widest, found.start() - at)
        end = template.find(_CLOSE[found[0]], found.end())
        if end < 0:
            raise TemplateFault("template_syntax", f"unclosed {found[0]} at line {_line(template, found.start())}")
        at = end + 2
        tags += 1
        if tags > _MAX_TAGS or depth > _MAX_DEPTH:
            raise TemplateFault("template_too_large", f"more than {_MAX_TAGS} tags, or blocks nested deeper than {_MAX_DEPTH}")
        code = template[found.end() : end].removeprefix("-").removesuffix("-")
        if len(code) > _MAX_TAG and found[0] != "{#":
            raise TemplateFault("template_syntax", f"the tag at line {_line(template, found.start())} is longer than {_MAX_TAG} characters")
        if found[0] == "{{" and not _VALUE.fullmatch(code):
            raise _unsupported(template, found.start(), template[found.start() : at])
        if found[0] == "{%":
            code = code.strip()
            if not any(kind.fullmatch(code) for kind in (_FOR, _CONDITION, _BARE)):
                raise _unsupported(template, found.start(), template[found.start() : at])
            loops += code.startswith("for") - code.startswith("endfor")
            depth += code.startswith(("if", "for")) - code.startswith("end")
    return widest


def _unsupported(template: str, at: int, tag: str) -> TemplateFault:
    shown = tag if len(tag) <= 60 else tag[:57] + "..."
    return TemplateFault("template_syntax", f"{shown!r} at line {_line(template, at)} is not supported: values, filters, if and for are")


def _line(template: str, at: int) -> int:
    return template.count("\n", 0, at) + 1


def _fault(error: minijinja.TemplateError) -> TemplateFault:
    where = f" at line {error.line}" if error.line else ""
    if error.kind == "UndefinedError":
        return TemplateFault("template_undefined", f"a variable{where} has no value")
    if error.kind == "OutOfFuel":
        return TemplateFault("template_too_large", f"the template does too much{where}")
    code = "template_syntax" if error.kind == "SyntaxError" else "template_failed"
    return TemplateFault(code, f"{(error.detail or error.message)[:200]}{where}")
