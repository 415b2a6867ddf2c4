# Stand-in, see SlicerConfig.cmake. Needs PYTHON_EXECUTABLE, as CTK's macro does.

set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "${Slicer_INSTALL_ROOT}${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
set(EXTENSION_NAME "${PROJECT_NAME}")
include(CTest)

# Stops unless every argument was known and the named ones were given.
macro(_standin_check_arguments macro_name)
  if(MY_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "${macro_name}: unknown arguments ${MY_UNPARSED_ARGUMENTS}")
  endif()
  foreach(_name ${ARGN})
    if("${MY_${_name}}" STREQUAL "")
      message(FATAL_ERROR "${macro_name}: ${_name} is mandatory")
    endif()
  endforeach()
endmacro()

# Copies files into the build tree, below the paths that they are listed with, and appends the copies to a list.
function(_standin_copy copies_variable destination)
  foreach(file ${ARGN})
    if(IS_ABSOLUTE "${file}" OR "${file}" MATCHES "\\.\\.")
      message(FATAL_ERROR "${file}: list files with paths below ${CMAKE_CURRENT_SOURCE_DIR}")
    endif()
    if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${file}" OR IS_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
      message(FATAL_ERROR "${CMAKE_CURRENT_SOURCE_DIR}/${file} is listed and does not exist")
    endif()
    add_custom_command(
      OUTPUT "${destination}/${file}"
      COMMAND "${CMAKE_COMMAND}" -E copy "${CMAKE_CURRENT_SOURCE_DIR}/${file}" "${destination}/${file}"
      DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${file}"
      VERBATIM)
    list(APPEND ${copies_variable} "${destination}/${file}")
  endforeach()
  set(${copies_variable} "${${copies_variable}}" PARENT_SCOPE)
endfunction()

function(ctkMacroCompilePythonScript)
  cmake_parse_arguments(MY "NO_INSTALL_SUBDIR" "TARGET_NAME;DESTINATION_DIR;INSTALL_DIR" "SCRIPTS;RESOURCES" ${ARGN})
  _standin_check_arguments(ctkMacroCompilePythonScript TARGET_NAME SCRIPTS DESTINATION_DIR INSTALL_DIR)
  foreach(script ${MY_SCRIPTS})
    if(NOT "${script}" MATCHES "\\.py$")
      message(FATAL_ERROR "${script}: not a Python file; list it under RESOURCES")
    endif()
  endforeach()
  _standin_copy(scripts "${MY_DESTINATION_DIR}" ${MY_SCRIPTS})
  _standin_copy(resources "${MY_DESTINATION_DIR}" ${MY_RESOURCES})
  # CTK puts the byte code beside each script, and goes on after a syntax error.
  set(done "${CMAKE_CURRENT_BINARY_DIR}/python_compile_${MY_TARGET_NAME}_complete")
  add_custom_command(
    OUTPUT "${done}"
    COMMAND "${PYTHON_EXECUTABLE}" -c
      "import py_compile, sys; [py_compile.compile(p, p + 'c', doraise=True) for p in sys.argv[1:]]" ${scripts}
    COMMAND "${CMAKE_COMMAND}" -E touch "${done}"
    DEPENDS ${scripts}
    VERBATIM)
  add_custom_target(Copy${MY_TARGET_NAME}PythonResourceFiles ALL DEPENDS ${resources})
  add_custom_target(Compile${MY_TARGET_NAME}PythonFiles ALL DEPENDS "${done}")
  set(directory "${MY_DESTINATION_DIR}")
  if(MY_NO_INSTALL_SUBDIR)
    set(directory "${MY_DESTINATION_DIR}/")
  endif()
  install(DIRECTORY "${directory}" DESTINATION "${MY_INSTALL_DIR}" COMPONENT RuntimeLibraries USE_SOURCE_PERMISSIONS)
endfunction()

function(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  _standin_check_arguments(slicerMacroBuildScriptedModule NAME SCRIPTS RESOURCES)
  ctkMacroCompilePythonScript(
    TARGET_NAME ${MY_NAME}
    SCRIPTS "${MY_SCRIPTS}"
    RESOURCES "${MY_RESOURCES}"
    DESTINATION_DIR "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}"
    INSTALL_DIR "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}"
    NO_INSTALL_SUBDIR)
  if(BUILD_TESTING AND MY_WITH_GENERIC_TESTS)
    set(generic_test "qSlicer${MY_NAME}ModuleGenericTest.py")
    file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/${generic_test}" "")
    slicer_add_python_unittest(
      SCRIPT "${generic_test}" SLICER_ARGS --no-main-window --disable-cli-modules TESTNAME_PREFIX nomainwindow_)
  endif()
endfunction()

function(slicer_add_python_unittest)
  cmake_parse_arguments(MY "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS" ${ARGN})
  _standin_check_arguments(slicer_add_python_unittest SCRIPT)
  if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${MY_SCRIPT}" AND NOT EXISTS "${CMAKE_CURRENT_BINARY_DIR}/${MY_SCRIPT}")
    message(FATAL_ERROR "slicer_add_python_unittest: there is no ${MY_SCRIPT}")
  endif()
  get_filename_component(test_name "${MY_SCRIPT}" NAME_WE)
  add_test(
    NAME py_${MY_TESTNAME_PREFIX}${test_name}
    COMMAND Slicer --no-splash --testing ${MY_SLICER_ARGS} --python-code "${test_name}")
endfunction()
