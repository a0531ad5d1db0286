"""Fine-tuning on somebody's own pictures: what is found in a folder decides the recipe, and a report says how it went.

Start reading at `tuning.py` (the whole of it). `pictures.py` looks at the folder, `start.py` at the weights to start
from, `settings.py` turns their numbers into settings with reasons, `plan.py` puts these into a recipe, `cost.py` says
beforehand how long it will take, `scores.py` what came of it, and `report.py` writes that down.
"""
