"""Emission lines: the list, their profile in a pixel, and fits of them. Needs NumPy and SciPy only."""

from data_pipeline.lines.line_list import LISTS, LineList, list_naming, list_of, load_lines
