from .exporting import export_model
from .formats import FORMATS, ExportSettings, Format

__all__ = ["FORMATS", "ExportSettings", "Format", "export_model"]
