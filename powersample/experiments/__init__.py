# SPDX-License-Identifier: Apache-2.0
"""Ready-made runs that join everything: the demonstration and the other ways of sampling it is set beside."""
