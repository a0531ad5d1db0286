"""Index a folder of images and find those most like one of them.

python examples/search.py holiday/ photo.jpg
"""

import argparse
import tempfile

from convit.search import Index

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder")
parser.add_argument("photo")
parser.add_argument("--model", default="convit_base.fb_in1k", help="see `convit models`")
given = parser.parse_args()

with tempfile.TemporaryDirectory() as place:
    index = Index(f"{place}/images.db", model=given.model)
    index.update(given.folder)
    for hit in index.search(given.photo, k=3):
        print(f"{hit.score:.3f}  {hit.path}")
