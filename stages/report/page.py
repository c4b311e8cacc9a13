"""The page of a run: one file of HTML that needs no network, for a reader, a referee, a journal's supplement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from simfer.stages.report import account, answer
from simfer.stages.report.explorer import explorer
from simfer.stages.report.material import Material
from simfer.stages.report.pictures import pictures

_HERE = Path(__file__).parent
_MOST = 2_950_000  # bytes of a page: a journal takes 3 MB as a supplement
_ANCHORS = {
    "verdict": "Verdict",
    "posterior": "Posterior",
    "pictures": "Data and posterior",
    "explorer": "Explorer",
    "errors": "Errors",
    "rounds": "Rounds",
    "failures": "Failures",
    "behind": "Behind it",
    "source": "Config and code",
    "reproduce": "Reproduce and cite",
}


def write(material: Material, file: Path) -> None:
    """Write the page, whole or not at all."""
    put(file, render(material))


def put(file: Path, text: str) -> None:
    """Write a file, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)


def render(material: Material) -> str:
    """Return the page."""
    first, behind = pictures(material)
    above = [answer.verdict(material), answer.posterior(material), first]
    below = [
        account.errors(material),
        account.rounds(material),
        account.failures(material),
        behind,
        account.source(material),
        account.reproduction(material),
    ]
    room = _MOST - sum(len(part.encode()) for part in (*above, *below))
    body = "".join((*above, explorer(material, room), *below))
    finished = max((step.finished for step in material.steps), default="")
    said = f"Simfer {material.simfer}" + (f", {finished[:16].replace('T', ' ')} UTC" if finished else "")
    state = answer.state(material)
    return framed(
        material.name, body, _ANCHORS, said, title=f"{material.name}: {state}", about=_comment(material.config)
    )


def framed(
    name: str, body: str, anchors: Mapping[str, str], said: str, title: str = "", about: Sequence[str] = ()
) -> str:
    """Put a head, a style and links to its sections about the body of a page."""
    links = "".join(f'<a href="#{anchor}">{words}</a>' for anchor, words in anchors.items() if f'id="{anchor}"' in body)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        # Nothing is asked for, and nothing could be: what is in the file is all there is.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'; img-src data:\">"
        f"<title>{escape(title or name)}</title><style>{(_HERE / 'page.css').read_text('utf-8')}</style></head>"
        f'<body><header><h1>{escape(name)}</h1>{"".join(about)}<p class="note">{escape(said)}</p>'
        f"<nav>{links}</nav></header><main>{body}</main></body></html>\n"
    )


def _comment(config: str) -> list[str]:
    """Return what the config says of itself in its first lines."""
    lines = []
    for line in config.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#:").strip())
    words = " ".join(line for line in lines if "schema" not in line)
    return [f"<p>{escape(words)}</p>"] if words else []
