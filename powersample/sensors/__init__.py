# SPDX-License-Identifier: Apache-2.0
"""What is known of the sensors of boards and drivers, as data."""

from powersample.sensors.codes import code_words
from powersample.sensors.lookup import architecture_of, field_of, look_up, model_of, table_model

__all__ = ["architecture_of", "code_words", "field_of", "look_up", "model_of", "table_model"]
