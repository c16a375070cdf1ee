# The lessons, and docs/numerics.c beside them: programs whose output stands in a page between two markers. The target `pages`
# writes it there, and draws the pictures; the tests fail while a page says anything else.
file(GLOB lesson_sources CONFIGURE_DEPENDS lessons/*.c)
find_program(GNUPLOT gnuplot)
add_custom_target(pages)
foreach(source ${lesson_sources} ${PROJECT_SOURCE_DIR}/docs/numerics.c)
  cmake_path(GET source STEM name)
  cmake_path(REPLACE_EXTENSION source LAST_ONLY "" OUTPUT_VARIABLE page)
  add_executable(lesson_${name} ${source})
  set_target_properties(lesson_${name} PROPERTIES OUTPUT_NAME ${name} RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lessons)
  target_link_libraries(lesson_${name} PRIVATE fg_options finegemm_static m)
  add_custom_target(page_${name}
                    COMMAND ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:lesson_${name}> -DPAGE=${page} -DGNUPLOT=${GNUPLOT}
                            -P ${PROJECT_SOURCE_DIR}/cmake/page.cmake VERBATIM)
  add_dependencies(pages page_${name})
  if(NOT name STREQUAL numerics)
    install(TARGETS lesson_${name} RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/finegemm)
  endif()
endforeach()

if(TARGET test_lessons)
  get_property(targets DIRECTORY PROPERTY BUILDSYSTEM_TARGETS)
  list(FILTER targets INCLUDE REGEX "^lesson_")
  add_dependencies(test_lessons ${targets})
  target_compile_definitions(test_lessons PRIVATE FG_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                                                  FG_LESSONS_DIR="${PROJECT_BINARY_DIR}/lessons")
  if(TARGET report) # which makes the numbers of the lessons that are kernels
    add_dependencies(test_lessons report)
    target_compile_definitions(test_lessons PRIVATE FG_REPORT="$<TARGET_FILE:report>")
  endif()
  if(FG_WITH_CUDA) # to run exercises on the emulator
    add_dependencies(test_lessons finegemm_program finegemm_emulator)
    target_compile_definitions(test_lessons PRIVATE FINEGEMM_PROGRAM="$<TARGET_FILE:finegemm_program>")
  endif()
endif()
