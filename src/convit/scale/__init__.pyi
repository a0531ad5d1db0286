from .destination import Destination
from .engines import Done, LocalEngine, RayEngine
from .inputs import InputFile, list_inputs
from .jobs import Job, Part, begin, missing, prepare
from .manifest import InputShard, Manifest

__all__ = [
    "Destination",
    "Done",
    "InputFile",
    "InputShard",
    "Job",
    "LocalEngine",
    "Manifest",
    "Part",
    "RayEngine",
    "begin",
    "list_inputs",
    "missing",
    "prepare",
]
