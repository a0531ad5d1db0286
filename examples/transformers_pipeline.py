"""Write a model as a folder that transformers reads, and classify an image with its pipeline.

python examples/transformers_pipeline.py photo.jpg my-model
"""

import argparse

from transformers import pipeline

import convit

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("photo")
parser.add_argument(
    "folder", help="gets model.safetensors and config.json; a run of `convit finetune` has both already"
)
parser.add_argument("--model", default="convit_base.fb_in1k", help="see `convit models`")
given = parser.parse_args()

convit.save_weights(f"{given.folder}/", convit.create_model(given.model, pretrained=True))

for best in pipeline("image-classification", model=given.folder, top_k=3)(given.photo):
    print(f"{best['score']:.3f}  {best['label']}")
