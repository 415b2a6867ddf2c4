# Stand-in, see SlicerConfig.cmake.

file(WRITE "${CMAKE_BINARY_DIR}/${EXTENSION_NAME}Config.cmake" "")
