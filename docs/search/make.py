"""Shows the pages of `convit search` and `convit duplicates` in docs/search, made of public-domain photographs.

    python docs/search/make.py

The photographs are those of the demo (examples/photos); each is cut into pieces, and the pages are kept as a browser
shows them. Needs Debian's chromium.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from documents import cut_photographs, parser_of, run_convit, take_screenshot

DOCS = Path(__file__).resolve().parent
MODEL = "convit_mini_patch8_64.tiny_imagenet"
PHOTOGRAPHS = {name: name for name in ("cat", "coffee", "uniform")}
PIECES = 3  # across and down
README = f"""# The pages of a search

Made by `docs/search/make.py` of the demo's photographs (public domain), each cut into {PIECES**2} pieces,
with `{MODEL}`.

    convit index pieces/ --db pieces.db --model {MODEL}
    convit search pieces/cat/4.jpg --db pieces.db -k 8 --html found.html

![The query and the eight pieces most like it, each with its score](found.png)

Two pieces were copied into another folder, one of them compressed anew:

    convit duplicates --db pieces.db --html twice.html

![Two pairs of copies, side by side, with the labels that contradict each other](twice.png)
"""


def main() -> None:
    """Cut, index, search, and keep the pages."""
    from PIL import Image

    parser_of(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pieces, db = Path(folder) / "pieces", Path(folder) / "pieces.db"
        for label, number, piece in cut_photographs(PHOTOGRAPHS, PIECES):
            (pieces / label).mkdir(parents=True, exist_ok=True)
            piece.save(pieces / label / f"{number}.jpg", quality=95)
        (pieces / "coffee" / "a copy.jpg").write_bytes((pieces / "cat" / "4.jpg").read_bytes())
        Image.open(pieces / "coffee" / "4.jpg").save(pieces / "uniform" / "compressed anew.jpg", quality=50)
        found, twice = Path(folder) / "found.html", Path(folder) / "twice.html"
        run_convit("index", pieces, "--db", db, "--model", MODEL)
        run_convit("search", pieces / "cat" / "4.jpg", "--db", db, "-k", 8, "--html", found)
        run_convit("duplicates", "--db", db, "--html", twice)
        take_screenshot(found, DOCS / "found.png", height=970)
        take_screenshot(twice, DOCS / "twice.png", height=480)
    (DOCS / "README.md").write_text(README, encoding="utf-8")


if __name__ == "__main__":
    main()
