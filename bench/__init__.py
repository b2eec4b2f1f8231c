# SPDX-License-Identifier: Apache-2.0
"""The project's figures, each measured by a named command; see README.md beside this file."""
