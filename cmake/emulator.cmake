# The emulator: a shared library that is a CUDA driver and an NVRTC in one, which runs kernels on this machine's processor. finegemm
# opens it, as it opens the real ones, when FG_DEVICE=emulator says so. fg_emulator_objects is all of it, for tests of its parts.
if(NOT FG_WITH_CUDA)
  return()
endif()

# The kernels' side of it, headers that take the place of gpu/device's, lies in it as text.
file(GLOB emulator_headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} gpu/emulator/*.cuh gpu/emulator/kernel_side.h)
fg_embed(emulator_headers source.h fg_source emu_embedded_headers ${emulator_headers})

# The driver by itself runs nothing: tests have it as a stand-in.
file(GLOB driver_sources CONFIGURE_DEPENDS gpu/emulator/cuda_stub.c gpu/emulator/driver_*.c)
add_library(fg_driver_objects OBJECT ${driver_sources})
set_target_properties(fg_driver_objects PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_include_directories(fg_driver_objects SYSTEM PRIVATE ${FG_CUDA_HEADERS})
target_link_libraries(fg_driver_objects PRIVATE fg_options)

file(GLOB emulator_sources CONFIGURE_DEPENDS gpu/emulator/*.c)
list(REMOVE_ITEM emulator_sources ${driver_sources})
# GCC notes with every call of a kernel that before 4.6 it passed such a struct otherwise.
set_source_files_properties(gpu/emulator/scheduler.c PROPERTIES COMPILE_OPTIONS -Wno-psabi)
add_library(fg_emulator_objects OBJECT ${emulator_sources} ${PROJECT_BINARY_DIR}/emulator_headers.c)
set_target_properties(fg_emulator_objects PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_include_directories(fg_emulator_objects PRIVATE core ref gpu PUBLIC gpu/emulator)
target_sources(fg_emulator_objects INTERFACE $<TARGET_OBJECTS:fg_driver_objects>)
target_include_directories(fg_emulator_objects SYSTEM PRIVATE ${FG_CUDA_HEADERS})
target_link_libraries(fg_emulator_objects PRIVATE fg_options finegemm_static finegemm::libmd)

# Beside them it exports nothing: a program may have another finegemm in it.
add_library(finegemm_emulator SHARED $<TARGET_OBJECTS:fg_emulator_objects> $<TARGET_OBJECTS:fg_driver_objects>)
set_target_properties(finegemm_emulator PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION 0 LINKER_LANGUAGE C)
set(exports ${PROJECT_SOURCE_DIR}/gpu/emulator/exports.map)
set_target_properties(finegemm_emulator PROPERTIES LINK_DEPENDS ${exports})
target_link_options(finegemm_emulator PRIVATE LINKER:--version-script=${exports})
find_package(Threads REQUIRED)
target_link_libraries(finegemm_emulator PRIVATE finegemm_static finegemm::libmd Threads::Threads m ${CMAKE_DL_LIBS})
