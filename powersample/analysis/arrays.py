# SPDX-License-Identifier: Apache-2.0
"""Short names for the arrays that the analysis passes around."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # raw values, in the device's own type
Edges = NDArray[np.int64]  # ns, shape (2, windows): starts, ends
Floats = NDArray[np.float64]
Omitted = NDArray[np.uint32]  # readings that a recording left out before each
