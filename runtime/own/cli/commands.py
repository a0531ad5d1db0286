"""What the command line offers: its name, its commands, and what it says of the models that they take."""

# name → module, function, and what --help says
COMMANDS = {
    "classify": ("convit.cli.predict", "classify", "Classify images and folders of images."),
    "embed": ("convit.cli.predict", "embed", "Compute embedding vectors of images."),
}

PROGRAM = "convit-runtime"  # and its distribution's name
ENGINES = ("onnxruntime", "openvino", "ai-edge-litert")
ABOUT = "Classify and embed images with models that `convit export` wrote, without PyTorch."
MODEL = "Folder that `convit export` wrote."
LEFT_OUT = frozenset({"weights", "device", "precision", "compile"})  # PyTorch's
LEFT_OUT |= {"shard", "engine", "address", "update", "images_per_shard"}  # of jobs
