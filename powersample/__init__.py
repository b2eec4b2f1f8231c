# SPDX-License-Identifier: Apache-2.0
"""Joules of a program on a GPU node, from a native sampler that the program cannot stall."""

__version__ = "0.1.0"
