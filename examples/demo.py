"""Label and embed a few photographs with the weights that ship in the package; no network is needed.

The photographs are those inside scikit-image (public domain), written to a folder so that the command line can be shown
at work: what is printed after each `$` can be typed as it stands.

    python examples/demo.py [FOLDER]        # FOLDER is ./demo-photos unless named
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

MODEL = "convit_nano_patch4_32.cifar10"
PHOTOGRAPHS = {
    "cat.jpg": data.chelsea,
    "coffee.jpg": data.coffee,
    "rocket.jpg": data.rocket,
    "astronaut.jpg": data.astronaut,
}


def write_photographs(folder: Path) -> None:
    """Write each photograph as a JPEG file into a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, photograph in PHOTOGRAPHS.items():
        Image.fromarray(photograph()).save(folder / name, quality=95)


def run(*arguments: str) -> None:
    """Show a command, run it, and stop the demo where it fails."""
    print(f"\n$ {shlex.join(['convit', *arguments])}", flush=True)
    code = subprocess.run([sys.executable, "-m", "convit", *arguments], check=False).returncode
    if code != 0:
        sys.exit(code)


def show_similarities(vectors: Path) -> None:
    """Print the cosine of each pair of photographs' vectors: 1 for the same direction, 0 for unrelated ones."""
    with np.load(vectors) as stored:
        names = [Path(str(path)).stem for path in stored["paths"]]
        embeddings = stored["embeddings"]
    print(f"\n{vectors}: {embeddings.shape[0]} vectors of {embeddings.shape[1]} numbers; how alike they are:")
    print(" " * 12 + "".join(f"{name:>12}" for name in names))
    for name, row in zip(names, embeddings @ embeddings.T, strict=True):
        print(f"{name:12}" + "".join(f"{value:12.2f}" for value in row))


def main() -> None:
    """Write the photographs, label them, embed them."""
    parser = argparse.ArgumentParser(description="Label and embed a few photographs with the weights in the package.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("demo-photos"), help="where to write them")
    folder = parser.parse_args().folder
    write_photographs(folder)
    vectors = folder / "vectors.npz"
    run("classify", str(folder), "--model", MODEL, "--top-k", "3", "--format", "table")
    run("embed", str(folder), "--model", MODEL, "--normalize", "--output", str(vectors), "--overwrite")
    show_similarities(vectors)


if __name__ == "__main__":
    main()
