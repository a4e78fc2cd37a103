"""A message's HTML, cleaned for the preview."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from gatepost.dashboard.preview import Image, Preview, make_preview

PNG = Image(content_type="image/png", content=b"\x89PNG\r\n\x1a\n")


def preview(html: str, images: dict[str, Image] | None = None) -> Preview:
    """Make a preview that must exist."""
    made = make_preview(html, images or {})
    assert made is not None
    return made


def test_an_inline_image_becomes_part_of_the_document() -> None:
    """An image of the message is shown without asking anybody for it."""
    made = preview('<img src="cid:logo@a"><table background="cid:logo@a"><p style="background:url(cid:logo@a)">', {"logo@a": PNG})
    assert made.html.count("data:image/png;base64,iVBORw0KGgo=") == 3
    assert made.blocked == 0


@pytest.mark.parametrize(
    ("html", "blocked"),
    [
        ('<img src="https://x.example/a.png">', 1),
        ('<img src="//x.example/a.png" srcset="https://x.example/b.png 2x">', 1),
        ('<td background="http://x.example/a.png">', 0),  # a cell outside a table is no element
        ('<table background="http://x.example/a.png"><tr><td>', 1),
        ("<p style=\"background: url('https://x.example/a')\">", 1),
        ("<style>@import 'https://x.example/a.css'; p { background: url(https://x.example/b) }</style>", 2),
        ("<style>@\\69mport '//x.example/a.css'; p { background: u\\72l(//x.example/d) }</style>", 2),
        ("<p style='background-image: image-set(\"//x.example/a\" 1x)'>", 1),
        ('<img src="cid:nobody">', 1),
        ('<img src="file:///etc/passwd">', 1),
        ('<img src="/m/msg_1/raw">', 1),
        ('<img src="data:image/svg+xml,<svg/>">', 1),
        ('<img src="data:image/png;base64,AAAA">', 0),
    ],
)
def test_what_is_not_loaded_is_counted(html: str, blocked: int) -> None:
    """Remote images and styles are left out, and the reader is told how many."""
    made = preview(html)
    assert made.blocked == blocked
    assert "url(" not in made.html
    assert "src=" not in made.html or blocked == 0
    assert "import" not in made.html
    assert "image-set" not in made.html
    assert "/m/msg_1" not in made.html


@pytest.mark.parametrize(
    "html",
    [
        "<script>x</script>", "<img src=x onerror=x>", "<svg onload=x><image href=//x.example></svg>", "<meta http-equiv=refresh content='0;url=//x.example'>",
        "<link rel=preconnect href=//x.example>", "<link rel=dns-prefetch href=//x.example>", "<base href=//x.example>", "<iframe src=//x.example></iframe>",
        "<object data=//x.example></object>", "<embed src=//x.example>", "<form action=//x.example><button formaction=//x.example>go</button></form>",
        "<video poster=//x.example><source src=//x.example></video>", "<a href=javascript:x ping=//x.example>a</a>", "<math><mtext><a xlink:href=//x.example>",
        "<noscript><img src=//x.example></noscript>", "<template><img src=//x.example></template>", "<style></style><style>a{b:url(//x.example)}</style>",
        "<input autofocus onfocus=x>", "<details ontoggle=x open>", "<body background=//x.example onload=x>", "<frameset><frame src=//x.example></frameset>",
    ],
)  # fmt: skip
def test_nothing_that_acts_or_asks_is_left(html: str) -> None:
    """Scripts, handlers, prefetches, refreshes, frames and forms' targets are gone before the sandbox has to stop them."""
    tree = LexborHTMLParser(preview(html).html)
    assert not tree.css("script, link, base, iframe, frame, object, embed, svg, math, noscript, template, meta[http-equiv]")
    for node in tree.css("*"):
        assert not [
            name
            for name in node.attributes
            if name.startswith("on") or name in {"href", "action", "formaction", "ping", "autofocus", "poster"}
        ]
    assert "x.example" not in preview(html).html


def test_links_do_nothing_and_are_listed() -> None:
    """A reader sees where links lead without going there."""
    made = preview('<a href="https://shop.example/a?b=1&c=2">The <b>shop</b></a> <a href="#top">top</a> <a href="javascript:x">x</a>')
    assert [(link.url, link.text) for link in made.links] == [("https://shop.example/a?b=1&c=2", "The shop")]
    assert "href" not in made.html


def test_the_look_of_a_message_survives() -> None:
    """Styles, tables and the document's mode are kept."""
    made = preview(
        "<!DOCTYPE html><html lang=de dir=rtl><head><style media=print>p > b { color: red }</style></head><body bgcolor=red><p align=center>x"
    )
    assert made.html.startswith('<!doctype html><html lang="de" dir="rtl">')
    assert '<style media="print">p > b { color: red }</style>' in made.html
    assert 'bgcolor="red"' in made.html
    assert not preview("<p>x").html.lower().startswith("<!doctype")


def test_a_style_cannot_end_its_element() -> None:
    """Rules are moved, and cannot bring elements with them."""
    made = preview("<style media='\"><script>x</script>'>a{}</style>")
    assert not LexborHTMLParser(made.html).css("script")


@pytest.mark.timeout(10)
def test_a_document_too_deep_is_not_parsed() -> None:
    """A parser's time is quadratic in the depth: such a message is shown as source only."""
    assert make_preview("<div>" * 100_000, {}) is None
    assert make_preview("<p>x" * 100_000, {}) is not None


@given(st.text(alphabet="<>/='\"abstyle img srcon:url()cid!-&;#\0\n", max_size=300))
def test_no_html_is_an_error(html: str) -> None:
    """Whatever a message holds, the page about it is shown."""
    make_preview(html, {"a": PNG})
