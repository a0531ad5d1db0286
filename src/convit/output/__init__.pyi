from .files import FORMATS as FORMATS
from .files import check_output as check_output
from .files import choose_format as choose_format
from .writer import Writer as Writer
from .writer import open_writer as open_writer
from .writer import write_rows as write_rows
