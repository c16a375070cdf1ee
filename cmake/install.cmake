# Header, both libraries, the CMake package (finegemm::finegemm, finegemm::static) and finegemm.pc.
include(CMakePackageConfigHelpers)

install(FILES include/finegemm.h include/finegemm_kernels.h TYPE INCLUDE)
install(TARGETS finegemm EXPORT finegemm-shared)
install(TARGETS finegemm_static EXPORT finegemm-static)
if(TARGET finegemm_emulator)
  install(TARGETS finegemm_emulator LIBRARY NAMELINK_SKIP) # nobody links to it
endif()

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/finegemm)
install(EXPORT finegemm-shared NAMESPACE finegemm:: DESTINATION ${package})
install(EXPORT finegemm-static NAMESPACE finegemm:: DESTINATION ${package})
configure_package_config_file(cmake/finegemm-config.cmake.in finegemm-config.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(finegemm-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES cmake/openblas.cmake cmake/libmd.cmake ${PROJECT_BINARY_DIR}/finegemm-config.cmake
              ${PROJECT_BINARY_DIR}/finegemm-config-version.cmake DESTINATION ${package})

# OpenBLAS stands in Libs.private and not in Requires.private: Debian's openblas.pc asks a static link for libgfortran, which is
# needed only where OpenBLAS itself is linked statically. libmd stands beside it: a user of the shared form need not have it.
foreach(folder LIBDIR INCLUDEDIR) # an absolute folder, as some distributions give, does not move with the prefix
  if(IS_ABSOLUTE "${CMAKE_INSTALL_${folder}}")
    set(FG_PC_${folder} "${CMAKE_INSTALL_${folder}}")
  else()
    set(FG_PC_${folder} "\${prefix}/${CMAKE_INSTALL_${folder}}")
  endif()
endforeach()
file(RELATIVE_PATH FG_PREFIX_FROM_PC ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
list(JOIN FG_OPENBLAS_FLAGS " " FG_OPENBLAS_FLAGS)
list(JOIN FG_LIBMD_FLAGS " " FG_LIBMD_FLAGS)
if(CMAKE_DL_LIBS)
  set(FG_DL_FLAGS -l${CMAKE_DL_LIBS})
endif()
configure_file(cmake/finegemm.pc.in finegemm.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/finegemm.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
