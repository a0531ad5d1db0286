from .exporting import export_model as export_model
from .formats import FORMATS as FORMATS
from .formats import ExportSettings as ExportSettings
from .formats import Format as Format
