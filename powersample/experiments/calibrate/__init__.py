# SPDX-License-Identifier: Apache-2.0
"""A live calibration: a ladder of loads beside the sampler and a meter at the wall."""
