"""Runs in a Parquet file, a row for each run; read group by group by PyArrow, which is optional."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from simfer.stages.errors import SimferError
from simfer.stages.simulate.finished.file import Column, RunFile


class Parquet(RunFile):
    """A Parquet file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if find_spec("pyarrow") is None:
            raise SimferError(
                f'{path.name}: Parquet needs pyarrow, which is not installed: pip install "simfer[parquet]"'
            )
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._file, self._lock = pq.ParquetFile(path), Lock()
        counts = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._ends = np.cumsum(counts, dtype=int)
        self.num = int(self._file.metadata.num_rows)
        for field in self._file.schema_arrow:
            is_number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
            is_number = is_number or pa.types.is_boolean(field.type) or pa.types.is_null(field.type)
            if not field.name.startswith("__index_level_"):  # what pandas keeps of its index
                self.columns[field.name] = Column(is_text=not is_number)

    def read(self, start: int, stop: int, names: Sequence[str], texts: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Return columns of some runs."""
        first, last = (int(np.searchsorted(self._ends, row, side="right")) for row in (start, stop - 1))
        with self._lock:
            part: Any = self._file.read_row_groups(list(range(first, last + 1)), columns=[*names, *texts])
        skipped = start - (int(self._ends[first - 1]) if first else 0)
        part = part.slice(skipped, stop - start)
        numbers = {name: part.column(name).to_pandas().to_numpy(float, na_value=np.nan) for name in names}
        return numbers | {name: np.array([str(v) for v in part.column(name).to_pylist()], object) for name in texts}
