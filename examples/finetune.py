"""Fine-tune on a folder with a subfolder per class.

python examples/finetune.py images/ runs/mine
"""

import argparse

import convit

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("images")
parser.add_argument("output")
parser.add_argument("--model", default="convit_tiny.fb_in1k", help="weights to start from")
parser.add_argument("--epochs", type=int, help="chosen from the number of images unless given")
given = parser.parse_args()

run = convit.finetune(given.images, given.output, model=given.model, epochs=given.epochs)
if run is not None and run.evaluation is not None:  # None: another process of a group writes the result
    print(f"top-1 on validation images: {run.evaluation.top1:.1f} %")
    if run.baseline is not None:
        print(f"logistic regression on the embeddings of {given.model}: {run.baseline.top1:.1f} %")
    print(f"report: {run.report}\nweights: {run.weights}")
