"""Embed a folder of images and print the most similar pair.

python examples/embed.py holiday/
"""

import argparse

import numpy as np

import convit
from convit.images import find_images

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder")
parser.add_argument("--model", default="convit_base.fb_in1k", help="see `convit models`")
given = parser.parse_args()

paths = list(find_images([given.folder]))
vectors = convit.Embedder(given.model, normalize=True)(paths)  # (images, dim), each of length 1
similarity = vectors @ vectors.T - 2 * np.eye(len(paths))  # an image is no pair with itself
first, second = np.unravel_index(similarity.argmax(), similarity.shape)
print(f"{paths[first]} and {paths[second]}: cosine similarity {similarity[first, second]:.3f}")
