"""`python -m maskrcnn`: the command, for launchers that take a module (`accelerate launch -m maskrcnn train ...`)."""

import sys

from maskrcnn.cli import main

sys.exit(main())
