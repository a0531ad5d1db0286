"""Label and embed three photographs with the weights that ship in the package; no network is needed.

What is printed after each `$` can be typed as it stands.

    python examples/demo.py [FOLDER]        # the photographs are copied to FOLDER, ./demo-photos unless named
"""

import argparse
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

MODEL = "convit_mini_patch8_64.tiny_imagenet"
PHOTOGRAPHS = Path(__file__).with_name("photos")


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
    """Copy the photographs, label them, embed them."""
    parser = argparse.ArgumentParser(description="Label and embed three photographs with the weights in the package.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("demo-photos"), help="where to copy them")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for photograph in sorted(PHOTOGRAPHS.glob("*.jpg")):
        shutil.copy(photograph, folder)
    vectors = folder / "vectors.npz"
    run("classify", str(folder), "--model", MODEL, "--top-k", "3", "--format", "table")
    run("embed", str(folder), "--model", MODEL, "--normalize", "--output", str(vectors), "--overwrite")
    show_similarities(vectors)


if __name__ == "__main__":
    main()
