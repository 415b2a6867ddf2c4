"""Training runs that can be repeated: one configuration (*.yaml) each, the papers' tables, and what runs and compares.

`python -m AGTraining reproduce` is their command.
"""
