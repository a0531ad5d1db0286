from .destination import Destination
from .engines import Done, Engine, LocalEngine
from .inputs import InputFile, list_inputs
from .jobs import Job, Part, begin, missing, prepare
from .manifest import InputShard, Manifest

__all__ = [
    "Destination",
    "Done",
    "Engine",
    "InputFile",
    "InputShard",
    "Job",
    "LocalEngine",
    "Manifest",
    "Part",
    "begin",
    "list_inputs",
    "missing",
    "prepare",
]
