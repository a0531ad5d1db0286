"""Training by recipe; start reading at `run.py`, a whole run, and `task.py`, a step of it.

The room promises that a run can be repeated from what it writes beside its weights, that it can be taken up where it
was cut off without a trace, and that the number of processes does not matter. What is trained: `recipe.py`,
`reading.py`, `models.py`, `peers.py`. On what: `splits.py`, `preparing.py`, `loaders.py`, `mixing.py`. How:
`optimizers.py`, `schedule.py`, `averaging.py`, `teachers.py`, `sharding.py`, `parts.py`, `trainer.py`. What is left:
`checkpoints.py`, `selection.py`, `record.py`, `attention_log.py`, `environment.py`, `writing.py`; `plots.py` draws
it.
"""
