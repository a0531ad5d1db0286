"""Label a folder of images and print the likeliest class of each.

python examples/label.py holiday/
"""

import argparse

import convit
from convit.images import ImageError, find_images

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder")
parser.add_argument("--model", default="convit_base.fb_in1k", help="see `convit models`")
given = parser.parse_args()

classifier = convit.Classifier(given.model, top_k=1)
for path in find_images([given.folder]):
    try:
        best = classifier(path)[0]
    except ImageError as error:
        print(f"{path}: {error}")
    else:
        print(f"{path}: {best.label} ({best.score:.0%})")
