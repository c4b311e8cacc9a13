"""A figure as a picture within a page: it takes the page's colours, and its letters are letters."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from html import escape
from io import StringIO
from typing import Any

from simfer.stages.plots import Look, looking
from simfer.stages.plots.figures import current_look, styled
from simfer.stages.plots.kept import Again
from simfer.stages.plots.layout import ShownFigure, lay_out

_PIXELS = 120  # per inch, of what is drawn as pixels
_ID = re.compile(r'\bid="([^"]+)"')
_INK = re.compile(r"(fill|stroke): #000000")
_FONT = re.compile(r"font: ([^;\"]*?)(?:'DejaVu Sans'|'STIX)[^;\"]*")
_COORDINATES = re.compile(r'(\b(?:d|points|x|y|x1|x2|y1|y2)=")([^"]*)"')
_LONG = re.compile(r"\d+\.\d{3,}")
_HEAD = re.compile(r'<svg[^>]*viewBox="([^"]+)"[^>]*>')


def inline(number: int, alt: str, draw: Callable[[Again], None], log: Collection[str] = ()) -> str:
    """Draw a picture and return it as SVG to put into a page; `number` keeps its names from those of others."""
    held = Again()
    with looking(Look(title=False, log=log)):  # the page's own look, whatever a paper's is
        draw(held)
        text = _written(held.figure)
    return _tidied(text, f"p{number}-", alt)


def _written(figure: ShownFigure) -> str:
    options: Any = {"format": "svg", "transparent": True, "metadata": {"Date": None}, "dpi": _PIXELS}
    look = current_look()
    with styled(look), StringIO() as file:
        lay_out(figure, look.dpi)
        figure.savefig(file, **options)
        return file.getvalue()


def _rounded(attribute: re.Match[str]) -> str:
    """Write coordinates to a tenth of a point, small ones to a hundredth: half of a picture's size is their digits."""
    digits = lambda number: 1 if len(number.partition(".")[0]) > 1 else 2  # noqa: E731
    short = _LONG.sub(lambda n: f"{float(n[0]):.{digits(n[0])}f}".rstrip("0").rstrip("."), attribute[2])
    return f'{attribute[1]}{short}"'


def _tidied(text: str, prefix: str, alt: str) -> str:
    """Return what is within the file: no metadata, no names but those referred to, ink in the page's colour."""
    head = _HEAD.search(text)
    assert head is not None
    body = text[head.end() : text.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"\s*\n\s*", "\n", body)
    body = _COORDINATES.sub(_rounded, body)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', body))
    body = _ID.sub(lambda found: f'id="{prefix}{found[1]}"' if found[1] in used else "", body)
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", body).replace("xlink:href", "href")
    body = _INK.sub(r"\1: currentColor", body)
    body = _FONT.sub(r"font: \1system-ui, sans-serif", body)
    width = round(float(head[1].split()[2]) * 1.7)
    said = escape(alt, quote=True)
    return (
        f'<svg class="picture" role="img" aria-label="{said}" viewBox="{head[1]}" '
        f'style="max-width: {width}px; min-width: {round(0.41 * width)}px"><title>{said}</title>{body}</svg>'
    )
