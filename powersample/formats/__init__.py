# SPDX-License-Identifier: Apache-2.0
"""Other people's bytes as values: pure functions, no files. What is wrong in them is kept, with a status or a note."""
