# The two libraries, each static and shared, put together from the modules' objects.

function(cw_library name modules)
  add_library(${name}_static STATIC)
  add_library(${name}_shared SHARED)
  foreach(lib ${name}_static ${name}_shared)
    foreach(module IN LISTS modules)
      target_sources(${lib} PRIVATE $<TARGET_OBJECTS:cw_${module}>)
    endforeach()
    target_include_directories(${lib} PUBLIC ${PROJECT_SOURCE_DIR}/include)
    target_link_libraries(${lib} PUBLIC m ${ARGN})
    set_target_properties(${lib} PROPERTIES OUTPUT_NAME ${name})
  endforeach()
endfunction()

set(CODEC_MODULES base tensor codec)
cw_library(cutwire-codec "${CODEC_MODULES}")
if(NOT CUTWIRE_CODEC_ONLY)
  cw_library(cutwire "${CODEC_MODULES};wire;net;data;nn;train" ${DNNL_LIBRARY} OpenMP::OpenMP_C ZLIB::ZLIB PNG::PNG
             PkgConfig::TURBOJPEG PkgConfig::ZMQ PkgConfig::JANSSON Threads::Threads)
endif()
