from .app import create_app
from .models import ServedModel, load_served
from .options import ServiceOptions

__all__ = ["ServedModel", "ServiceOptions", "create_app", "load_served"]
