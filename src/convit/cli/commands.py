"""What the command line offers: its name, its commands, and what it says of the models that they take.

`convit-runtime` is made of the same modules, with another one in the place of this (`runtime/own/`).
"""

from convit.inference.options import DEFAULT_MODEL

# name → module, function, and what --help says
COMMANDS = {
    "classify": ("convit.cli.predict", "classify", "Classify images and folders of images."),
    "embed": ("convit.cli.predict", "embed", "Compute embedding vectors of images."),
    "index": ("convit.cli.search", "index", "Build or update a search index of a folder."),
    "search": ("convit.cli.search", "search", "Find the images in an index most similar to a given one."),
    "duplicates": ("convit.cli.duplicates", "duplicates", "Find duplicate images and contradictory labels."),
    "plan": ("convit.cli.models", "plan", "Calculate what embedding many images costs."),
    "models": ("convit.cli.models", "models", "List all models and weights."),
    "info": ("convit.cli.info", "info", "Show one model or weight set in detail."),
    "finetune": ("convit.cli.finetune", "finetune", "Fine-tune a classifier on your own images."),
    "train": ("convit.cli.train", "train", "Train a model from a recipe."),
    "evaluate": ("convit.cli.evaluate", "evaluate", "Measure accuracy on labeled images, or compare two results."),
    "probe": ("convit.cli.probe", "probe", "Evaluate embeddings with k-NN, linear and few-shot probes."),
    "explain": ("convit.cli.explain", "explain", "Visualize what a model's attention heads look at."),
    "ablate": ("convit.cli.ablate", "ablate", "Measure accuracy without position embeddings or gates."),
    "plot": ("convit.cli.train", "plot", "Plot the curves of training runs."),
    "serve": ("convit.cli.serve", "serve", "Serve models over HTTP, with a web page."),
    "export": ("convit.cli.export", "export", "Write a model as files for other runtimes."),
    "push": ("convit.cli.export", "push", "Upload a model to the Hugging Face hub."),
    "benchmark": ("convit.cli.benchmark", "benchmark", "Compare speed and memory with other implementations."),
}

PROGRAM = "convit"  # and its distribution's name
ENGINES = ("torch",)
ABOUT = """ConViT image models: classify, embed and search images; fine-tune, train, evaluate and inspect models.

Pretrained weights are downloaded and verified when they are first used. Images can be of any size."""
MODEL = f"Model or weight set (see `convit models`), or an exported folder.  [default: {DEFAULT_MODEL}]"
LEFT_OUT = frozenset[str]()  # names of options that no command has
