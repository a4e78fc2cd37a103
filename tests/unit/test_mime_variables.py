"""Variables in templates: values go in escaped and never become template; nothing grows without end. THREATS 24, 25."""

import threading
import time
from typing import Any

import pytest

from gatepost.mime.variables import TemplateFault, render_variables

VALUES: dict[str, Any] = {
    "name": "<a href=//evil.example>Ann</a>",
    "items": [{"what": "Tea", "price": 3}, {"what": "Cups", "price": 8.5}],
    "order": {"no": "42", "items": 2},
    "nothing": None,
    "template": "{{ 7*7 }}{% include 'x' %}",
}


def _fault(template: str, values: dict[str, Any] | None = None, *, html: bool = False) -> TemplateFault:
    with pytest.raises(TemplateFault) as fault:
        render_variables(template, VALUES if values is None else values, html=html)
    return fault.value


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("no variables { x } {y}\n", "no variables { x } {y}\n"),
        ("Order {{ order.no }}", "Order 42"),
        ("{{order.items}}", "2"),
        ("{% for item in items %}{{ item.what }}: {{ item.price }}{% if not loop.last %}, {% endif %}{% endfor %}", "Tea: 3, Cups: 8.5"),
        ("{% if order.no == '42' and (nothing is none or missing) %}y{% elif missing %}z{% else %}n{% endif %}", "y"),
        ("{% if missing is defined %}y{% else %}n{% endif %}", "n"),
        ("{{ missing|default('x') }}{{ order.no|upper }}{{ items|length }}", "x422"),
        ("[{{ nothing }}]", "[]"),
        ("{# a note #}x", "x"),
        ("{% for key, value in order|items %}{{ key }}={{ value }};{% endfor %}", "no=42;items=2;"),
    ],
)
def test_values_are_put_in(template: str, text: str) -> None:
    """Values, attributes, filters, if and for."""
    assert render_variables(template, VALUES, html=False) == text


def test_values_are_escaped_in_html_only() -> None:
    """A name cannot bring a link into HTML; in text and subject it stays as it is; `safe` is the author's word."""
    assert render_variables("Hi {{ name }}", VALUES, html=True) == "Hi &lt;a href=&#x2f;&#x2f;evil.example&gt;Ann&lt;&#x2f;a&gt;"
    assert render_variables('<a title="{{ q }}">', {"q": "\" onclick='x'"}, html=True) == '<a title="&quot; onclick=&#x27;x&#x27;">'
    assert render_variables("{{ missing|default(name) }}", VALUES, html=True).startswith("&lt;")
    assert render_variables("Hi {{ name }}", VALUES, html=False) == f"Hi {VALUES['name']}"
    assert render_variables("{{ name|safe }}", VALUES, html=True) == VALUES["name"]


def test_a_value_never_becomes_a_template() -> None:
    """What looks like a template in a value is text."""
    assert render_variables("{{ template }}", VALUES, html=False) == VALUES["template"]


@pytest.mark.parametrize(
    ("template", "code", "line"),
    [
        ("\n\n{{ missing }}", "template_undefined", "line 3"),
        ("{{ order.missing }}", "template_undefined", "line 1"),
        ("{{ name.__class__ }}", "template_undefined", "line 1"),
        ("a\n{{ name", "template_syntax", "line 2"),
        ("a\n\n{% if name", "template_syntax", "line 3"),
        ("{% if name %}", "template_syntax", "line 1"),
        ("{% endif %}", "template_syntax", "line 1"),
        ("{{ }}", "template_syntax", "line 1"),
        ("{{ name name }}", "template_syntax", "line 1"),
    ],
)
def test_mistakes_are_named_with_their_line(template: str, code: str, line: str) -> None:
    """An undefined variable is an error, never silently nothing."""
    fault = _fault(template)
    assert fault.code == code
    assert line in fault.detail


@pytest.mark.parametrize(
    "template",
    [
        "{{ 7*7 }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ name|attr('__class__') }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{% set a = 1 %}",
        "{% macro f() %}{% endmacro %}",
        "{% block b %}{% endblock %}",
        "{{ range(10) }}",
        "{{ debug() }}",
        "{{ name.upper() }}",
        "{{ [name, name] }}",
        "{{ {'a': 1} }}",
        "{{ name ~ name }}",
        "{{ name + name }}",
        "{% for a in (name, name) %}{% endfor %}",
        "{{ name|replace('a', 'b') }}",
        "{{ items|join('x') }}",
        "{% raw %}{% endraw %}",
        "{% with a = name %}{% endwith %}",
        "{{ order['no'] }}",
        "{{ '}}' }}",
        "{% if items[0] %}{% endif %}",
        "{{ name if name }}",
        "{% autoescape false %}{{ name }}{% endautoescape %}",
        "{{ name|tojson }}",
        "{{ loop.cycle('a') }}",
        "{% do x %}",
        "{{ self.x() }}",
    ],
)
def test_what_could_escape_or_grow_is_refused(template: str) -> None:
    """No calls, arithmetic, literals of lists, other templates, nor filters that multiply."""
    assert _fault(template, html=True).code == "template_syntax"


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("{% for a in l %}{% for b in l %}{% for c in l %}x{% endfor %}{% endfor %}{% endfor %}", {"l": list(range(1000))}),
        ("{% for a in l %}{% for b in l %}" + "y" * 100_000 + "{% endfor %}{% endfor %}", {"l": list(range(1000))}),
        ("{% for a in l %}{% for b in l %}{{ s }}{% endfor %}{% endfor %}", {"l": list(range(1000)), "s": "z" * 200_000}),
        ("{{ s" + "|urlencode" * 90 + " }}", {"s": "%" * 250_000}),
        ("{{" * 50_000, {}),
        ("{" * 100_000, {}),
        ("{% if " + "(" * 50_000 + " %}", {}),
        ("{% if " + "not " * 50_000 + "a %}x{% endif %}", {"a": 1}),
        ("{{ a" + "|upper" * 50_000 + " }}", {"a": "b"}),
        ("{{ a" + ".a" * 50_000 + " }}", {"a": {}}),
        ("{% if a %}" * 20_000 + "{% endif %}" * 20_000, {"a": 1}),
        ("{{ a }}" * 60_000, {"a": "b"}),
        ("{{ s }}", {"s": "x" * 300_000}),
        ("x{{ a }}" + "y" * 1_000_000, {"a": 1}),
        ("{% if a" + " a" * 400 + " %}", {"a": 1}),
    ],
)
def test_hostile_templates_cost_little(template: str, values: dict[str, Any]) -> None:
    """Loops, depth and size are bounded: an answer within 100 ms, without gigabytes, without a crash."""
    started = time.thread_time()
    assert _fault(template, values).code in {"template_syntax", "template_too_large", "variables_too_large"}
    assert time.thread_time() - started < 0.2


def test_only_json_values_under_plain_names_are_taken() -> None:
    """No objects whose attributes lead elsewhere."""
    assert _fault("{{ a }}", {"a": object()}).code == "template_failed"
    assert _fault("{{ a }}", {"a b": 1}).code == "template_failed"
    assert _fault("{{ a }}", {"a": "\ud800"}).code == "template_failed"


def test_the_compiled_templates_are_bounded_and_correct() -> None:
    """More templates than are kept, from several threads: each gets its own text."""
    wrong = []

    def work(base: int) -> None:
        wrong.extend(n for n in range(base, base + 200) if render_variables(f"{n} {{{{ v }}}}", {"v": n}, html=False) != f"{n} {n}")

    threads = [threading.Thread(target=work, args=(base,)) for base in (0, 100, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
