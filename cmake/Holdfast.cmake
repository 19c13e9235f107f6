# House rules for libraries, programs and their tests.
#
#   holdfast_library(NAME ROOMS room... DEPS lib... SYSTEM imported-target...)
#     hf_NAME      from src/NAME/**/*.cpp, without tests, fuzzers, benches and mains. ROOMS are libraries of
#                  their own below it: it has them, and what lies in none of them (often nothing)
#     NAME_test    from src/NAME/**/*_test.cpp, run by ctest
#     NAME_links   the whole archive linked with its declared dependencies only: an upward
#                  dependency is a link error
#   holdfast_room(NAME/ROOM DEPS lib... SYSTEM imported-target...)
#     hf_NAME_ROOM from src/NAME/ROOM/*.cpp, with a link test of its own: NAME_ROOM_links. DEPS are
#                  libraries or rooms of any library: base secure_boot/efi
#   holdfast_program(NAME FROM DIR MAIN FILE DEPS lib...)

set(HOLDFAST_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor
    -Wold-style-cast -Wimplicit-fallthrough -Wthread-safety)
# Options structs name the fields they set; the rest have defaults.
list(APPEND HOLDFAST_WARNINGS -Wno-missing-designated-field-initializers)
# TRY is a statement expression, taken by clang and g++ alike.
list(APPEND HOLDFAST_WARNINGS -Wno-gnu-statement-expression-from-macro-expansion)

set(HOLDFAST_HARDENING -fstack-protector-strong -fstack-clash-protection -fcf-protection
    -ftrivial-auto-var-init=zero)

function(holdfast_compile_options target)
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR})
  target_compile_options(${target} PRIVATE ${HOLDFAST_WARNINGS} ${HOLDFAST_HARDENING})
  if(HOLDFAST_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  target_compile_definitions(${target} PRIVATE _GLIBCXX_ASSERTIONS
      $<$<CONFIG:Release,RelWithDebInfo>:_FORTIFY_SOURCE=2>)
endfunction()

# The archive hf_NAME of `sources`, and NAME_links: all of it linked with what it declares, no more.
function(holdfast_archive name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;SYSTEM" ${ARGN})
  add_library(hf_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(hf_${name} PUBLIC ${ARG_DEPS} ${ARG_SYSTEM} fmt::fmt)
  holdfast_compile_options(hf_${name})

  set(empty_main ${CMAKE_BINARY_DIR}/empty_main.cpp)
  if(NOT EXISTS ${empty_main})
    file(WRITE ${empty_main} "int main() { return 0; }\n")
  endif()
  add_executable(${name}_links ${empty_main})
  target_link_libraries(${name}_links PRIVATE "-Wl,--whole-archive" $<TARGET_FILE:hf_${name}>
      "-Wl,--no-whole-archive" ${ARG_DEPS} ${ARG_SYSTEM} fmt::fmt Threads::Threads)
  add_dependencies(${name}_links hf_${name})
endfunction()

# "base secure_boot/efi" as the targets "hf_base hf_secure_boot_efi".
function(holdfast_targets out)
  list(TRANSFORM ARGN REPLACE "/" "_")
  list(TRANSFORM ARGN PREPEND hf_)
  set(${out} ${ARGN} PARENT_SCOPE)
endfunction()

# The sources of a library or room: no tests, fuzzers, benches and mains.
function(holdfast_sources out dir)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${dir}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "_(test|fuzz|bench|main)\\.cpp$")
  set(${out} ${sources} PARENT_SCOPE)
endfunction()

function(holdfast_room room)
  cmake_parse_arguments(ARG "" "" "DEPS;SYSTEM" ${ARGN})
  holdfast_sources(sources ${room})
  holdfast_targets(deps ${ARG_DEPS})
  string(REPLACE "/" "_" name ${room})
  holdfast_archive(${name} SOURCES ${sources} DEPS ${deps} SYSTEM ${ARG_SYSTEM})
endfunction()

function(holdfast_library name)
  cmake_parse_arguments(ARG "" "" "ROOMS;DEPS;SYSTEM;TEST_DEPS" ${ARGN})
  holdfast_targets(deps ${ARG_DEPS})
  holdfast_targets(test_deps ${ARG_TEST_DEPS})
  holdfast_sources(sources ${name})
  if(ARG_ROOMS)
    list(TRANSFORM ARG_ROOMS PREPEND ${name}/)
    holdfast_targets(rooms ${ARG_ROOMS})
    foreach(room ${ARG_ROOMS})
      list(FILTER sources EXCLUDE REGEX "/src/${room}/")
    endforeach()
  else()
    set(rooms "")
  endif()
  if(sources)
    holdfast_archive(${name} SOURCES ${sources} DEPS ${rooms} ${deps} SYSTEM ${ARG_SYSTEM})
  elseif(rooms)
    add_library(hf_${name} INTERFACE)
    target_link_libraries(hf_${name} INTERFACE ${rooms})
  else()
    return()
  endif()

  file(GLOB_RECURSE tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*_test.cpp)
  if(tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE hf_${name} ${test_deps} GTest::gmock GTest::gtest_main)
    holdfast_compile_options(${name}_test)
    gtest_discover_tests(${name}_test DISCOVERY_MODE PRE_TEST TEST_PREFIX "${name}."
        PROPERTIES TIMEOUT 120 ENVIRONMENT "HOLDFAST_SOURCE=${CMAKE_SOURCE_DIR}")
  endif()

  file(GLOB_RECURSE fuzzers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*_fuzz.cpp)
  if(HOLDFAST_FUZZ)
    foreach(file ${fuzzers})
      get_filename_component(fuzzer ${file} NAME_WE)
      add_executable(${name}_${fuzzer} ${file})
      target_link_libraries(${name}_${fuzzer} PRIVATE hf_${name} ${test_deps} -fsanitize=fuzzer)
      holdfast_compile_options(${name}_${fuzzer})
    endforeach()
  endif()
endfunction()

function(holdfast_program name)
  cmake_parse_arguments(ARG "" "MAIN" "DEPS;SYSTEM" ${ARGN})
  list(TRANSFORM ARG_DEPS PREPEND hf_ OUTPUT_VARIABLE deps)
  if(NOT EXISTS ${CMAKE_SOURCE_DIR}/src/${ARG_MAIN})
    return()
  endif()
  add_executable(${name} ${CMAKE_SOURCE_DIR}/src/${ARG_MAIN})
  target_link_libraries(${name} PRIVATE ${deps} ${ARG_SYSTEM})
  holdfast_compile_options(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endfunction()
