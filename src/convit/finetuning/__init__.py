"""Fine-tuning on your own images: what is found in a folder decides the recipe, and a report says how it went.

Start reading at `run.py` (the whole of it). `images.py` looks at the folder, `settings.py` at the weights to begin
with, and turns their numbers into settings with reasons, `plan.py` puts these into a recipe, `cost.py` says beforehand
how long it will take, `baseline.py` what the embeddings are worth before, `rates.py` tries learning rates, and
`report.py` says what came of it.
"""
