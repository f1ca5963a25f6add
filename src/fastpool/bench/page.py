"""The pictures as a page that needs nothing else, or as PNG files."""

from __future__ import annotations

import html as markup
import io
import re
from pathlib import Path
from typing import Any

import matplotlib

from fastpool.bench import ink, plots, tables

_STYLE = """
:root { --ink: #1c1d1e; --paper: #ffffff; --faint: #77797b; color-scheme: light dark }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e9ea; --paper: #16181a; --faint: #8f9193 } }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
       margin: 2rem auto; max-width: 62rem; padding: 0 1rem }
dl { display: grid; gap: 0 1rem; grid-template-columns: max-content 1fr }
dd { margin: 0; overflow-wrap: anywhere }
dt, .reasons { color: var(--faint) }
.picture { overflow-x: auto }
svg { display: block; height: auto; max-width: 54rem; min-width: 29rem; width: 100% }
pre { font-size: 13px; line-height: 1.4; overflow-x: auto }
.warnings { border-left: 4px solid #D55E00; padding-left: 1rem }
"""


def html(report: dict[str, Any]) -> str:
    """The page.

    Parameters
    ----------
    report : dict
        As ``--json`` writes it.

    Returns
    -------
    str
        One document with its pictures in it; no scripts, nothing from elsewhere.
    """
    parts = ["<h1>What process pools cost on this machine</h1>", _facts(report)]
    if report["warnings"]:
        items = "".join(f"<li>{markup.escape(warning)}</li>" for warning in report["warnings"])
        parts.append(
            '<div class="warnings"><p>This machine was too noisy to be sure:</p>'
            f"<ul>{items}</ul></div>"
        )
    with matplotlib.rc_context(ink.STYLE):
        for name, heading, figure in plots.figures(report):
            with matplotlib.rc_context({"svg.hashsalt": name}):
                buffer = io.StringIO()
                figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
            parts.append(f"<h2>{markup.escape(heading)}</h2>")
            parts.append(f'<div class="picture">{_inline(buffer.getvalue(), name)}</div>')
            for reason in tables.reasons(report["sections"][name]):
                parts.append(f'<p class="reasons">{markup.escape(reason)}</p>')
    parts.append("<h2>All figures</h2>")
    for name, section in report["sections"].items():
        parts.append(_pre(tables.section_lines(name, section)))
    parts.append(_pre(tables.limit_lines(report)))
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>fastpool bench</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def write_pngs(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write each picture into a file of its own.

    Parameters
    ----------
    report : dict
        As ``--json`` writes it.
    folder : Path
        Made if need be.

    Returns
    -------
    list of Path
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(ink.STYLE):
        for name, _, figure in plots.figures(report):
            written.append(folder / f"{name}.png")
            figure.savefig(written[-1], dpi=150)
    return written


def _facts(report: dict[str, Any]) -> str:
    facts = [
        f"<dt>{markup.escape(name)}</dt><dd>{markup.escape(fact)}</dd>"
        for name, fact in tables.head_facts(report)
    ]
    return f"<dl>{''.join(facts)}</dl>"


def _pre(lines: Any) -> str:
    return f"<pre>{markup.escape(chr(10).join(lines))}</pre>"


def _inline(svg: str, name: str) -> str:
    """An SVG document as a part of the page, in the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)  # ids are the whole page's
    for color, variable in ((ink.INK, "ink"), (ink.PAPER, "paper"), (ink.FAINT, "faint")):
        svg = svg.replace(color, f"var(--{variable})")
    return svg
