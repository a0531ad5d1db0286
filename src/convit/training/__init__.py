"""Training by recipe; start reading at `run.py`.

The room promises that a run can be repeated from what it writes beside its weights, and taken up where it was cut off.
"""
