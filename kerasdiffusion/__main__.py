"""`python -m kerasdiffusion`: the command line."""

import sys

from kerasdiffusion.apps.cli import main

if __name__ == "__main__":
    sys.exit(main())
