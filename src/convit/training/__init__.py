"""Training by recipe; start reading at `run.py`, a whole run, and `task.py`, a step of it.

A run can be repeated from what it writes beside its weights, resumed exactly where it was cut off, and computed by any
number of processes. What is trained: `recipe.py`, `recipe_io.py`, `models.py`, `peers.py`. On what: `splits.py`,
`mixing.py`. How: `optimizers.py`, `trials.py`, `trainer.py`. What it leaves: `run_folder.py`, `checkpoints.py`,
`final_weights.py`, `epoch_log.py`; `plots.py` draws it.
"""
