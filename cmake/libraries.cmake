# The libraries, each static and shared, put together from the modules' objects. The shared ones export the public
# functions only (exports.map); tests reach internal ones through the static libraries. What a library needs is private to
# it: a program linked with the shared one needs none of these packages.

find_package(Threads REQUIRED)

function(cw_library name modules)
  add_library(${name}_static STATIC)
  add_library(${name}_shared SHARED)
  foreach(lib ${name}_static ${name}_shared)
    foreach(module IN LISTS modules)
      target_sources(${lib} PRIVATE $<TARGET_OBJECTS:cw_${module}>)
    endforeach()
    target_include_directories(${lib} INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                                $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
    target_link_libraries(${lib} PRIVATE m Threads::Threads ${ARGN})
    set_target_properties(${lib} PROPERTIES OUTPUT_NAME ${name} LINKER_LANGUAGE C)
  endforeach()
  set_target_properties(${name}_static PROPERTIES EXPORT_NAME ${name}_static)
  set_target_properties(
    ${name}_shared
    PROPERTIES EXPORT_NAME ${name}
               VERSION ${PROJECT_VERSION}
               SOVERSION ${PROJECT_VERSION_MAJOR}
               LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/exports.map)
  target_link_options(${name}_shared PRIVATE LINKER:--version-script=${PROJECT_SOURCE_DIR}/cmake/exports.map)
endfunction()

set(CODEC_MODULES base tensor codec)
cw_library(cutwire-codec "${CODEC_MODULES}")
if(CUTWIRE_CLIENT_ONLY)
  cw_library(cutwire-client "${CODEC_MODULES};io;wire;net;data;half;session;config;record;infer;modes;run" PkgConfig::ZMQ
             PkgConfig::JANSSON)
elseif(NOT CUTWIRE_CODEC_ONLY)
  cw_library(cutwire "${CODEC_MODULES};wire;net;data;io;nn;half;session;config;record;infer;modes;run" ${DNNL_LIBRARY} OpenMP::OpenMP_C ZLIB::ZLIB PNG::PNG
             JPEG::JPEG PkgConfig::ZMQ PkgConfig::JANSSON)
endif()
