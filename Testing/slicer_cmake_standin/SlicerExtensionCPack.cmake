# Stand-in, see SlicerConfig.cmake: the description that the Extensions Manager shows.

foreach(_variable EXTENSION_README_FILE EXTENSION_LICENSE_FILE)
  if(NOT EXISTS "${${_variable}}")
    message(FATAL_ERROR "${_variable} names a file that does not exist: ${${_variable}}")
  endif()
endforeach()
set(_description "")
foreach(_key depends homepage contributors iconurl description screenshoturls)
  string(TOUPPER "EXTENSION_${_key}" _variable)
  if("${${_variable}}" MATCHES ";|\n")
    message(FATAL_ERROR "${_variable} must be one line without semicolons")
  endif()
  string(APPEND _description "${_key} ${${_variable}}\n")
endforeach()
file(WRITE "${CMAKE_BINARY_DIR}/${EXTENSION_NAME}.s4ext" "${_description}")
install(
  FILES "${CMAKE_BINARY_DIR}/${EXTENSION_NAME}.s4ext"
  DESTINATION "${Slicer_INSTALL_ROOT}${Slicer_SHARE_DIR}"
  COMPONENT RuntimeLibraries)
