"""timm's own way to classify an image, with one import changed.

python examples/as_timm.py photo.jpg
"""

import argparse

import torch

import convit as timm
from convit.images import open_image

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("photo")
parser.add_argument("--model", default="convit_base.fb_in1k", help="see `convit models`")
given = parser.parse_args()

model = timm.create_model(given.model, pretrained=True).eval()
config = timm.data.resolve_model_data_config(model)
transform = timm.data.create_transform(**config, is_training=False)
with torch.inference_mode():
    probabilities = model(transform(open_image(given.photo)).unsqueeze(0)).softmax(dim=-1)[0]
for score, index in zip(*probabilities.topk(3), strict=True):
    print(f"{score:.3f}  {model.pretrained_cfg['label_names'][index]}")
