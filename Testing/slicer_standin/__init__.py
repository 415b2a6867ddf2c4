"""A stand-in for the Qt side of 3D Slicer: `qt`, `ctk`, the qMRML widgets and the scripted-module classes, on PySide6.

It is no Slicer. It exists so that the widget classes of the extension can be driven by tests, on the real MRML of
slicer-core and with the manners of PythonQt. README.md tells what it offers and what only a real Slicer can show.
"""
