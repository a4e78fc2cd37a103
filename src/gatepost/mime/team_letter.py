"""
How a report to a sender's team looks: the same letter as text and as HTML.

Arrives: a letter. Leaves: text of at most 78 columns where words allow it; HTML that mail programs show alike.
The HTML is what they have in common: tables and inline styles, no script, no image, no link to anywhere but the gateway's own pages.
One style sheet adds what better programs know: dark colours, and one column on narrow screens. Nothing is lost without it.
Not here: what a letter says (policy.team_letters).
"""

import textwrap
from html import escape
from typing import Final

from gatepost.domain.team_report import Note, Table, TeamLetter, Tile, Tone

_WIDTH: Final = 76
_FONT: Final = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_TEXT, _QUIET, _LINE, _PANEL, _PAGE, _ACCENT = "#1b1f23", "#5c656d", "#e1e4e6", "#ffffff", "#f3f4f4", "#3546c8"
_TONES: Final = {Tone.GOOD: "#12653a", Tone.BAD: "#ad2116", Tone.PLAIN: _QUIET}
_EDGE: Final = {Tone.GOOD: "#12653a", Tone.BAD: "#b7791f", Tone.PLAIN: _LINE}
_IN_A_ROW: Final = 3
_STYLE: Final = """
:root{color-scheme:light dark;supported-color-schemes:light dark}
@media (max-width:480px){.pad{padding-left:16px!important;padding-right:16px!important}
.tile{display:inline-block!important;width:50%!important;box-sizing:border-box}}
@media (prefers-color-scheme:dark){
.page{background:#101214!important}.panel{background:#16191c!important;border-color:#282d32!important}
.text{color:#e6e9eb!important}.quiet{color:#98a2ab!important}.line{border-color:#282d32!important}.note{background:#1c2024!important}
.good{color:#74d49d!important}.bad{color:#ff9d92!important}.link{color:#9aa8ff!important}}
"""


def as_text(letter: TeamLetter, *, pages: str = "", unsubscribe: str = "") -> str:
    """
    Write a letter as plain text.

    Args:
        pages: Address of the gateway's pages; empty names none.
        unsubscribe: Where the report can be ended.
    """
    parts = [f"{letter.title}\n{letter.period}", _filled(letter.lead)]
    if letter.tiles:
        wide = max(len(tile.label) for tile in letter.tiles)
        number = max(len(tile.value) for tile in letter.tiles)
        parts.append("\n".join(f"{tile.label:<{wide}}  {tile.value:>{number}}  {tile.change}".rstrip() for tile in letter.tiles))
    if letter.notes:
        parts.append("TO LOOK AT\n\n" + "\n\n".join(_note_text(note) for note in letter.notes))
    parts += [f"{table.title.upper()}\n\n{_table_text(table)}" for table in letter.tables]
    foot = [_filled(letter.foot)]
    if pages:
        foot.append(f"The pages: {pages}")
    if unsubscribe:
        foot.append(f"End this report: {unsubscribe}")
    return "\n\n\n".join(parts) + "\n\n-- \n" + "\n".join(line for line in foot if line) + "\n"


def as_html(letter: TeamLetter, *, pages: str = "", unsubscribe: str = "") -> str:
    """
    Write a letter as HTML.

    Args:
        pages: Address of the gateway's pages; empty names none.
        unsubscribe: Where the report can be ended.
    """
    rows = [
        _head(letter),
        f'<p class="text" style="margin:0;font-size:15px;line-height:23px;color:{_TEXT}">{escape(letter.lead)}</p>',
        *([_tiles(letter.tiles)] if letter.tiles else []),
        *([_heading("To look at") + "".join(_note(note) for note in letter.notes)] if letter.notes else []),
        *[_heading(table.title) + _table(table) for table in letter.tables],
    ]
    body = "".join(f'<tr><td class="pad" style="padding:20px 28px 0">{row}</td></tr>' for row in rows)
    links = []
    if pages:
        links.append(_link(pages, "Open the pages"))
    if unsubscribe:
        links.append(_link(unsubscribe, "End this report"))
    foot = " · ".join([escape(letter.foot), *links] if letter.foot else links)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="supported-color-schemes" content="light dark">'
        f"<title>{escape(letter.title)}</title><style>{_STYLE}</style></head>"
        f'<body class="page" style="margin:0;padding:0;background:{_PAGE};{_FONT}">'
        f'<div style="display:none;max-height:0;overflow:hidden">{escape(letter.preview)}</div>'
        f'<table role="presentation" class="page" width="100%" cellpadding="0" cellspacing="0" bgcolor="{_PAGE}"'
        f' style="background:{_PAGE}">'
        '<tr><td align="center" style="padding:24px 8px">'
        f'<table role="presentation" class="panel" width="600" cellpadding="0" cellspacing="0" bgcolor="{_PANEL}" style="width:100%;'
        f'max-width:600px;background:{_PANEL};border:1px solid {_LINE};border-radius:8px;{_FONT}">{body}'
        '<tr><td class="pad" style="padding:24px 28px">'
        f'<p class="quiet line" style="margin:0;padding-top:16px;border-top:1px solid {_LINE};'
        f'font-size:12px;line-height:18px;color:{_QUIET}">{foot}</p></td></tr></table></td></tr></table></body></html>'
    )


def _head(letter: TeamLetter) -> str:
    return (
        f'<h1 class="text" style="margin:0;font-size:22px;line-height:28px;font-weight:600;color:{_TEXT}">{escape(letter.title)}</h1>'
        f'<p class="quiet" style="margin:4px 0 0;font-size:13px;line-height:20px;color:{_QUIET}">{escape(letter.period)}</p>'
    )


def _heading(text: str) -> str:
    return f'<h2 class="text" style="margin:8px 0 10px;font-size:16px;line-height:22px;font-weight:600;color:{_TEXT}">{escape(text)}</h2>'


def _tiles(tiles: tuple[Tile, ...]) -> str:
    rows = ""
    for first in range(0, len(tiles), _IN_A_ROW):
        cells = "".join(_tile(tile) for tile in tiles[first : first + _IN_A_ROW])
        rows += f"<tr>{cells}</tr>"
    return f'<table role="presentation" width="100%" cellpadding="0" cellspacing="0">{rows}</table>'


def _tile(tile: Tile) -> str:
    tone = {Tone.GOOD: "good", Tone.BAD: "bad", Tone.PLAIN: "quiet"}[tile.tone]
    change = escape(tile.change) or "&nbsp;"
    return (
        '<td class="tile" width="33%" valign="top" style="padding:0 8px 14px 0">'
        f'<div class="quiet" style="font-size:12px;line-height:18px;color:{_QUIET}">{escape(tile.label)}</div>'
        f'<div class="text" style="font-size:22px;line-height:28px;font-weight:600;color:{_TEXT};white-space:nowrap">'
        f"{escape(tile.value)}</div>"
        f'<div class="{tone}" style="font-size:12px;line-height:18px;color:{_TONES[tile.tone]}">{change}</div></td>'
    )


def _note(note: Note) -> str:
    advice = (
        f'<div class="text" style="margin-top:4px;font-size:13px;line-height:20px;color:{_TEXT}">→ {escape(_sentence(note.advice))}</div>'
        if note.advice
        else ""
    )
    return (
        '<table role="presentation" width="100%" cellpadding="0" cellspacing="0" style="margin:0 0 8px"><tr>'
        f'<td class="note" bgcolor="{_PAGE}" style="padding:10px 14px;background:{_PAGE};border-left:3px solid {_EDGE[note.tone]}">'
        f'<div class="text" style="font-size:14px;line-height:20px;font-weight:600;color:{_TEXT}">{escape(note.title)}</div>'
        f'<div class="quiet" style="font-size:13px;line-height:20px;color:{_QUIET}">{escape(_sentence(note.text))}</div>'
        f"{advice}</td></tr></table>"
    )


def _table(table: Table) -> str:
    head = "".join(
        f'<th class="quiet line" align="{_side(n)}" style="padding:0 0 6px {_gap(n)};font-size:12px;line-height:18px;font-weight:500;'
        f'color:{_QUIET};border-bottom:1px solid {_LINE}">{escape(name)}</th>'
        for n, name in enumerate(table.headings)
    )
    body = "".join(
        "<tr>" + "".join(
            f'<td class="text line" align="{_side(n)}" style="padding:7px 0 7px {_gap(n)};font-size:13px;line-height:18px;color:{_TEXT};'
            f'border-bottom:1px solid {_LINE};{"word-break:break-word" if n == 0 else "white-space:nowrap"}">{escape(cell)}</td>'
            for n, cell in enumerate(row)
        ) + "</tr>"
        for row in table.rows
    )  # fmt: skip
    more = f'<p class="quiet" style="margin:6px 0 0;font-size:12px;color:{_QUIET}">{escape(table.more)}</p>' if table.more else ""
    return f'<table width="100%" cellpadding="0" cellspacing="0"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}'


def _side(column: int) -> str:
    return "left" if column == 0 else "right"


def _gap(column: int) -> str:
    return "0" if column == 0 else "12px"


def _link(url: str, words: str) -> str:
    return f'<a class="link" href="{escape(url, quote=True)}" style="color:{_ACCENT}">{escape(words)}</a>'


def _sentence(text: str) -> str:
    """Begin with a capital and end with a stop."""
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "!", "?")) or not text else ".")


def _filled(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _note_text(note: Note) -> str:
    lines = [f"* {note.title}"]
    for text, mark in ((note.text, "  "), (note.advice, "  -> ")):
        if text:
            lines.append(
                textwrap.fill(
                    _sentence(text), _WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark), break_long_words=False,
                    break_on_hyphens=False,
                )
            )  # fmt: skip
    return "\n".join(lines)


def _table_text(table: Table) -> str:
    rows = [table.headings, *table.rows]
    wide = [max(len(row[n]) for row in rows) for n in range(len(table.headings))]
    lines = ["  ".join(f"{cell:<{wide[n]}}" if n == 0 else f"{cell:>{wide[n]}}" for n, cell in enumerate(row)).rstrip() for row in rows]
    lines.insert(1, "-" * min(sum(wide) + 2 * (len(wide) - 1), _WIDTH))
    return "\n".join([*lines, *([table.more] if table.more else [])])
