"""What a campaign came to: cases tried, those that ended as they must, and those that did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from simfer.pipeline.manifest import file_digest
from simfer.stages.errors import SimferError


@dataclass
class Count:
    """One part of a campaign."""

    name: str
    ends: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def wrong(self, kind: str, what: str) -> None:
        """Note a case that ended as none may."""
        self.ends[kind] += 1
        self.notes.append(f"{kind}: {what}"[:400])

    @contextmanager
    def case(self, what: str) -> Iterator[None]:
        """Try a case: it is taken, or refused in words; anything else is a fault."""
        self.ends["tried"] += 1
        try:
            yield
        except SimferError as error:
            if not str(error) or "Traceback" in str(error):
                self.wrong("wordless", what)
            self.ends["refused"] += 1
        except Exception as error:
            self.wrong("traceback", f"{type(error).__name__}: {error} of {what}")
        else:
            self.ends["taken"] += 1

    def __str__(self) -> str:
        kinds = ("tried", "taken", "refused", "wrong", "traceback", "wordless", "outside")
        return f"{self.name:<28}" + "".join(f"{self.ends[kind]:>10,}" for kind in kinds)

    def report(self) -> None:
        """Print the counts under their heads, and fail if a case ended as none may."""
        heads = ("tried", "taken", "refused", "wrong", "traceback", "wordless", "outside")
        print(f"\n{'':<28}{''.join(f'{head:>10}' for head in heads)}\n{self}")
        assert not self.notes, "\n".join(self.notes[:20])


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder, and that each link and folder is there."""
    return {
        path.relative_to(folder).as_posix(): file_digest(path) if path.is_file() and not path.is_symlink() else "there"
        for path in sorted(folder.rglob("*"))
    }
