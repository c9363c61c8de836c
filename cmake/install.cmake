# What `cmake --install` puts where: libraries, headers, pkg-config files, CMake packages, and the command. All of it may be
# moved afterwards: the pkg-config files and the packages find the rest from where they lie themselves.

include(CMakePackageConfigHelpers)

set(PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake)
file(RELATIVE_PATH PC_PREFIX /p/${CMAKE_INSTALL_LIBDIR}/pkgconfig /p)

# cw_install(name): <name>.pc, find_package(<name>) with cutwire::<name>, and the component `static` with
# cutwire::<name>_static, which asks for the packages that the static library needs.
function(cw_install name)
  install(TARGETS ${name}_shared EXPORT ${name}-shared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(TARGETS ${name}_static EXPORT ${name}-static ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  foreach(kind shared static)
    install(EXPORT ${name}-${kind} NAMESPACE cutwire:: DESTINATION ${PACKAGE_DIR}/${name})
  endforeach()
  configure_file(cmake/${name}.pc.in ${PROJECT_BINARY_DIR}/${name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
  configure_package_config_file(cmake/${name}-config.cmake.in ${PROJECT_BINARY_DIR}/${name}-config.cmake
                                INSTALL_DESTINATION ${PACKAGE_DIR}/${name} NO_SET_AND_CHECK_MACRO)
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/${name}-config-version.cmake COMPATIBILITY SameMajorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/${name}-config.cmake ${PROJECT_BINARY_DIR}/${name}-config-version.cmake
          DESTINATION ${PACKAGE_DIR}/${name})
endfunction()

cw_install(cutwire-codec)
if(CUTWIRE_CODEC_ONLY)
  set(headers version status tensor codec)
  list(TRANSFORM headers PREPEND include/cutwire/)
  list(TRANSFORM headers APPEND .h)
  install(FILES ${headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/cutwire)
elseif(CUTWIRE_CLIENT_ONLY)
  cw_install(cutwire-client)
  set(headers version status tensor codec io net wire nn data feed half config record infer train)
  list(TRANSFORM headers PREPEND include/cutwire/)
  list(TRANSFORM headers APPEND .h)
  install(FILES ${headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/cutwire)
else()
  cw_install(cutwire)
  install(DIRECTORY include/cutwire DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(TARGETS cutwire RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  if(NOT CMAKE_CROSSCOMPILING)
    install(DIRECTORY ${PROJECT_BINARY_DIR}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 FILES_MATCHING PATTERN "*.1")
  endif()
  install(DIRECTORY examples/systemd DESTINATION ${CMAKE_INSTALL_DATADIR}/cutwire)
  install(
    DIRECTORY research
    DESTINATION ${CMAKE_INSTALL_DATADIR}/cutwire
    FILES_MATCHING
    PATTERN "*.py"
    PATTERN "*.yaml"
    PATTERN "*.csv"
    PATTERN "__pycache__" EXCLUDE)
endif()
