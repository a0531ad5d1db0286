"""Writes docs/duplicates.md: what `convit duplicates` finds in Tiny ImageNet, and whether it is what is known.

The 7 validation images that are training images too are named in the README.md beside the data.

    python docs/make_duplicates.py data/tiny-imagenet
    python docs/make_duplicates.py data/tiny-imagenet --found pairs.json     # of an earlier run of the command
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from documents import parser_of, read_json, run_convit

MODEL = "convit_nano_patch4_32.cifar10"
PAGE = Path(__file__).with_name("duplicates.md")
COMMAND = f"convit duplicates tiny-imagenet --splits train,val --model {MODEL}"
COLUMNS = ("kind", "first", "second", "first_label", "second_label", "similarity", "difference")
_KNOWN = re.compile(r"(val_\d+) = (n\d+_\d+)")


def known_pairs(readme: Path) -> set[frozenset[str]]:
    """The pairs of a validation and a training image that the data's README names."""
    return {frozenset(pair) for pair in _KNOWN.findall(readme.read_text(encoding="utf-8"))}


def write_page(rows: list[dict[str, Any]], known: set[frozenset[str]], page: Path) -> None:
    """Write what was found, and how it stands to what is known."""
    from convit.output import write_rows

    identical = {frozenset((row["first"], row["second"])) for row in rows if row["kind"] == "identical"}
    near = [row for row in rows if row["kind"] != "identical"]
    lowest = min((row["difference"] for row in near), default=None)
    differ = sum(row["labels_differ"] for row in rows if row["kind"] == "identical")
    head = (
        "# Duplicates in Tiny ImageNet\n\n"
        f"Written by `python docs/make_duplicates.py`, which runs\n\n    {COMMAND}\n\n"
        f"over the training images and the published validation images that lie beside them: {len(rows)} pairs across "
        f"the two, {len(identical)} of identical files and {len(near)} near-copies. The data's own notes name "
        f"{len(known)} pairs; the command finds {len(known & identical)} of these, and {len(identical - known)} "
        f"identical pairs besides. {differ} of the identical pairs have different labels, so that at least one of each "
        "two is wrong."
    )
    if near:
        head += (
            f" The near-copies differ by {lowest:g} of 255 levels or more; what counts as one is set with "
            "`--difference` and `--threshold`."
        )
    write_rows(rows, COLUMNS, page, "markdown", head=head, overwrite=True)


def main() -> None:
    """Run the command, or take what it wrote earlier, and write the page."""
    parser = parser_of(__doc__)
    parser.add_argument("data", type=Path, help="the folder of Tiny ImageNet's shards")
    parser.add_argument("--found", type=Path, help="JSON that the command wrote earlier")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = given.found or Path(place) / "pairs.json"
        if given.found is None:
            run_convit("duplicates", given.data, "--splits", "train,val", "--model", MODEL, "-o", found)
        write_page(read_json(found), known_pairs(given.data.parent / "README.md"), PAGE)
    print(PAGE)


if __name__ == "__main__":
    main()
