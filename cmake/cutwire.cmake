# The language, the warnings, and the two functions every module and test is declared with.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET default)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR})
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
# Assertions stay on in release: they are for bugs, and none sits in a kernel's inner loop.
set(CMAKE_C_FLAGS_RELEASE "-O2")
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g")

add_compile_options(-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla -Wcast-qual
                    -ffp-contract=off) # a fused multiply-add would make results depend on the instruction set
if(CUTWIRE_WERROR)
  add_compile_options(-Werror)
endif()
# Floats as the standard's types have them, and tensors in memory as in files: else results would depend on the machine.
if(CMAKE_C_BYTE_ORDER STREQUAL BIG_ENDIAN)
  message(FATAL_ERROR "cutwire needs a little-endian machine: tensors lie in memory as they do in files and payloads")
endif()
include(CheckCSourceCompiles)
set(float_source "#include <float.h>\n#if FLT_EVAL_METHOD != 0\n#error\n#endif\nint main(void) { return 0; }")
check_c_source_compiles("${float_source}" CUTWIRE_FLOATS_ARE_FLOATS)
if(NOT CUTWIRE_FLOATS_ARE_FLOATS)
  set(CMAKE_REQUIRED_FLAGS "-msse2 -mfpmath=sse")
  check_c_source_compiles("${float_source}" CUTWIRE_FLOATS_WITH_SSE)
  unset(CMAKE_REQUIRED_FLAGS)
  if(NOT CUTWIRE_FLOATS_WITH_SSE)
    message(FATAL_ERROR "cutwire needs a compiler that evaluates floats as floats (FLT_EVAL_METHOD 0), on 32-bit x86 one "
                        "with -msse2 -mfpmath=sse: give CMAKE_C_FLAGS that have it")
  endif()
  add_compile_options(-msse2 -mfpmath=sse)
endif()
add_compile_definitions(_FILE_OFFSET_BITS=64 _POSIX_C_SOURCE=200809L)
if(CUTWIRE_SANITIZE)
  add_compile_options(-fsanitize=${CUTWIRE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${CUTWIRE_SANITIZE})
endif()

if(CUTWIRE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link) # coverage for libFuzzer
endif()

# cw_module(name [modules below...]): src/name/CMakeLists.txt adds the sources with target_sources(cw_name PRIVATE ...).
function(cw_module name)
  add_library(cw_${name} OBJECT)
  target_include_directories(cw_${name} PUBLIC ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
  foreach(below IN LISTS ARGN)
    target_link_libraries(cw_${name} PUBLIC cw_${below})
  endforeach()
  add_subdirectory(src/${name})
endfunction()

# cw_test(name SOURCES a.c ... [LIBRARY lib] [LABELS slow ...] [COST n]): a cmocka program that ctest runs.
# LIBRARY: cutwire (default) or cutwire-codec, the static library it is linked with. LABELS: scripts/check says what they
# mean. COST: about how many seconds it takes, where that is many: ctest begins with the longest.
function(cw_test name)
  cmake_parse_arguments(T "" "LIBRARY;COST" "SOURCES;LABELS;ARGS" ${ARGN})
  if(NOT T_LIBRARY)
    set(T_LIBRARY cutwire)
  endif()
  add_executable(${name} ${T_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
  if(T_LIBRARY STREQUAL cutwire-codec) # which reads no files
    target_sources(${name} PRIVATE $<TARGET_OBJECTS:cw_io>)
  endif()
  target_link_libraries(${name} PRIVATE ${T_LIBRARY}_static ${CMOCKA_LIBRARY})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name} ${T_ARGS})
  # cmocka has no "skipped" exit code: a test program that skips everything exits with 77.
  # The time-out is for what hangs: a test may share its processors with other work.
  set_tests_properties(${name} PROPERTIES LABELS "${T_LABELS}" SKIP_RETURN_CODE 77 TIMEOUT 1800)
  if(T_COST)
    set_tests_properties(${name} PROPERTIES COST ${T_COST})
  endif()
endfunction()
