"""What the Slicer modules share on Slicer's side: volume nodes in, results as nodes out.

Knows MRML (through `slicer` and `vtk`) and AGTraining's public functions; never Qt, and torch only inside functions.
"""

from .AGTrainingLocation import makeAGTrainingImportable

makeAGTrainingImportable()
