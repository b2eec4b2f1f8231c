# SPDX-License-Identifier: Apache-2.0
"""`python -m powersample.cli`, where the installed command is not on PATH."""

import sys

from powersample.cli import main

sys.exit(main())
