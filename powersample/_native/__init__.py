# SPDX-License-Identifier: Apache-2.0
"""The native part: its build script, its door and typed bindings."""
