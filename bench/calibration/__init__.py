# SPDX-License-Identifier: Apache-2.0
"""How far calibrated nodes are off at loads that they were not calibrated with: nodes drawn at random, truth exact."""
