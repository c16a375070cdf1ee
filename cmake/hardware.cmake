# check_tensor_core compares a Hopper GPU with ref/tensor_core.h and writes docs/tensor_core.md. It is built where the CUDA Toolkit is
# found, is no part of the tests, and reads its kernels when it runs.
find_package(CUDAToolkit QUIET)
if(TARGET CUDA::nvrtc AND TARGET CUDA::cuda_driver)
  add_executable(check_tensor_core tests/hardware/check_tensor_core.c tests/hardware/check_kernels.c tests/hardware/special_dots.c)
  target_include_directories(check_tensor_core PRIVATE ref)
  target_compile_definitions(check_tensor_core PRIVATE FG_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(check_tensor_core PRIVATE fg_options finegemm_static OpenMP::OpenMP_C PkgConfig::JANSSON PkgConfig::POPT
                                                  CUDA::nvrtc CUDA::cuda_driver)
else()
  message(STATUS "check_tensor_core: left out, no CUDA Toolkit with NVRTC found")
endif()

# time_vocabulary times what kernels are written in, for the emulator's costs.
if(FG_WITH_CUDA)
  add_executable(time_vocabulary tests/hardware/time_vocabulary.c)
  target_include_directories(time_vocabulary PRIVATE core gpu)
  target_include_directories(time_vocabulary SYSTEM PRIVATE ${FG_CUDA_HEADERS})
  target_compile_definitions(time_vocabulary PRIVATE FG_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_link_libraries(time_vocabulary PRIVATE fg_options finegemm_static)
endif()

# plant_defects runs the tests' planted defects on a GPU, and plant_exercises the lessons' exercises, each in a process of its own; with
# FG_DEVICE=emulator, on the emulator.
if(FG_WITH_CUDA)
  file(GLOB defect_sources CONFIGURE_DEPENDS tests/gpu/defect_*.c)
  add_executable(plant_defects tests/hardware/plant_defects.c tests/hardware/children.c ${defect_sources})
  add_executable(plant_exercises tests/hardware/plant_exercises.c tests/hardware/children.c tests/exercises.c tests/gpu/defect_tree.c)
  foreach(program plant_defects plant_exercises)
    target_include_directories(${program} PRIVATE core gpu tests tests/gpu)
    target_include_directories(${program} SYSTEM PRIVATE ${FG_CUDA_HEADERS})
    target_compile_definitions(${program} PRIVATE FG_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    target_link_libraries(${program} PRIVATE fg_options finegemm_static)
    add_dependencies(${program} finegemm_emulator)
  endforeach()
  add_custom_target(
    defects # writes docs/emulator.md's table of them
    COMMAND ${CMAKE_COMMAND} -E env FG_DEVICE=emulator ${CMAKE_COMMAND}
            "-DPROGRAM=$<TARGET_FILE:plant_defects>;--table;${PROJECT_SOURCE_DIR}/tests/golden/defects.txt"
            -DPAGE=${PROJECT_SOURCE_DIR}/docs/emulator -DMARKDOWN=1 -P ${PROJECT_SOURCE_DIR}/cmake/page.cmake
    VERBATIM)
  add_custom_target(
    exercises # writes docs/exercises.md's table of them
    COMMAND ${CMAKE_COMMAND} "-DPROGRAM=$<TARGET_FILE:plant_exercises>;--table;${PROJECT_SOURCE_DIR}/tests/golden/exercises.txt"
            -DPAGE=${PROJECT_SOURCE_DIR}/docs/exercises -DMARKDOWN=1 -P ${PROJECT_SOURCE_DIR}/cmake/page.cmake
    VERBATIM)
endif()
