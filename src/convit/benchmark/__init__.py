"""How fast a ConViT is, against others, side by side in one process.

The room promises that whoever is compared takes turns in one process (or, for memory, in processes that take turns),
that the same models have the same weights and their outputs are compared before they are timed, and that nothing is
shown that was not measured in the run. Start at `running.py`, one case after the other, and `cases.py`, what a case is;
each mode has a module: `throughput.py` (also latency), `training.py`, `memory.py`. Who takes part: `candidates.py`,
`building.py`. What is reported: `rows.py`, `cost.py`, `explaining.py`; the device's peak is measured by `timing.py`.

    from convit.benchmark import Case, measure

    for row in measure(Case("convit_tiny", against=("eager", "timm:convit_tiny"), precision="bf16", batch=8)):
        print(row.candidate, row.images_per_second, row.ratio)
"""

from convit.benchmark.candidates import Candidate, parse_candidate
from convit.benchmark.cases import MODES, Case, make_cases
from convit.benchmark.explaining import Explanation, explain, print_explanation
from convit.benchmark.rows import Row, print_rows
from convit.benchmark.running import Report, describe_machine, machine_lines, measure, run_cases, start_report

__all__ = [
    "MODES",
    "Candidate",
    "Case",
    "Explanation",
    "Report",
    "Row",
    "describe_machine",
    "explain",
    "machine_lines",
    "make_cases",
    "measure",
    "parse_candidate",
    "print_explanation",
    "print_rows",
    "run_cases",
    "start_report",
]
