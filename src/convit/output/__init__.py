"""Results as files: tables, JSON, CSV, Parquet and NumPy archives, written row by row.

Promises: rows keep the order of the pictures and hold path, results and an error; a file appears whole under its name
or not at all; an existing file is replaced only when asked to. Start reading at `convit.output.writer`.
"""

from convit.output.files import check_output
from convit.output.formats import FORMATS, choose_format
from convit.output.writer import Writer, open_writer

__all__ = ["FORMATS", "Writer", "check_output", "choose_format", "open_writer"]
