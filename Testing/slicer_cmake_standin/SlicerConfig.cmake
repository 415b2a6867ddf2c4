# A stand-in for the SlicerConfig.cmake of a Slicer build, for tests on machines without one: the variables and macros
# that this extension's CMake files use, and nothing else. Arguments and places of files are those of Slicer 5.12
# (CMake/UseSlicer.cmake.in, SlicerDirectories.cmake, SlicerMacroBuildScriptedModule.cmake, SlicerMacroPythonTesting.cmake)
# and of CTK (ctkMacroCompilePythonScript.cmake). Where those pass over a mistake in silence, this stops.

set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/SlicerExtensionGenerateConfig.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/SlicerExtensionCPack.cmake")

set(Slicer_INSTALL_ROOT "./")
set(Slicer_SHARE_DIR "share/Slicer-5.12")
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "lib/Slicer-5.12/qt-scripted-modules")
