"""`python -m convit_runtime`: the command `convit-runtime` where its script is not on the path."""

import sys

from convit.cli import main

if __name__ == "__main__":
    sys.exit(main())
