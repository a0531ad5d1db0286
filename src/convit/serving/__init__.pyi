from .app import create_app as create_app
from .models import ServedModel as ServedModel
from .models import load_served as load_served
from .options import ServiceOptions as ServiceOptions
