from .files import FORMATS, check_output, choose_format
from .writer import Writer, open_writer, write_rows

__all__ = ["FORMATS", "Writer", "check_output", "choose_format", "open_writer", "write_rows"]
