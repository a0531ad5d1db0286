"""Studies: many training runs that differ in one or two things, and what they show together.

The room promises that a study goes on where it was cut off, that no number in its table was typed, and that all models
in it had the same recipe. Start reading at `study.py`, what a study is; `running.py` runs any of them.
`sample_efficiency.py`, `ablation.py` and `transfer.py` are the studies that there are, a page each; a new one is one
more page and a line in `convit.cli.study`.
"""
