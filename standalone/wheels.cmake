# Makes the CMake packages of the ROS 2 wheels usable on this machine.
#
# The targets that those wheels export name include directories of the machine they were built on, and
# CMake stops at an imported target whose include directory does not exist. Given to a build as
#   -DCMAKE_PROJECT_INCLUDE=<this file>
# this file waits until a directory has been configured, when all its packages have been found, and drops
# from each imported target the include directories that are not there. Sources stay untouched.

function(_drop_missing_include_directories)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT directories)
      continue()
    endif()
    set(present "")
    foreach(directory IN LISTS directories)
      # Generator expressions are resolved later and cannot be checked here.
      if(directory MATCHES "\\$<" OR EXISTS "${directory}")
        list(APPEND present "${directory}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${present}")
  endforeach()
endfunction()

cmake_language(DEFER CALL _drop_missing_include_directories)
