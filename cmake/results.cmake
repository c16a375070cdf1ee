# The target `results` writes the tables of README.md and bench/README.md and draws bench/ladder.svg and bench/processors.svg, from bench/results/*.json.
# Those are what `bench_gemm --json` and its like printed on a machine, with FG_COMMIT in the environment. The same for lessons whose
# numbers are a GPU's: their pictures are drawn by hand. Runs of the level `full` are gpu_full_MACHINE.json, many shapes, and
# gpu_sweep_MACHINE.json, steps in m; bench/full_MACHINE_share.svg and its like, and bench/sweep_MACHINE.svg are their pictures.
file(GLOB gemm_results CONFIGURE_DEPENDS bench/results/gemm_*.json)
file(GLOB scaling_results CONFIGURE_DEPENDS bench/results/scaling_*.json) # one level, on every path and over threads
file(GLOB quantise_results CONFIGURE_DEPENDS bench/results/quantise_*.json)
file(GLOB emulator_results CONFIGURE_DEPENDS bench/results/emulator_*.json)
file(GLOB gpu_results CONFIGURE_DEPENDS bench/results/gpu_*.json)
set(gpu_levels ${gpu_results})
list(FILTER gpu_levels EXCLUDE REGEX "/gpu_(host|counters)_")
add_executable(report bench/report.c bench/report_full.c)
target_link_libraries(report PRIVATE fg_options finegemm_static PkgConfig::JANSSON m)
find_program(GNUPLOT gnuplot)
set(page ${PROJECT_SOURCE_DIR}/cmake/page.cmake)
file(GLOB kernel_lessons CONFIGURE_DEPENDS lessons/*.cu)
set(lessons_of_full 11_shapes 12_overlap 13_small_m) # whose kernels lie in gpu/kernels/
set(lessons "")
string(REPLACE ";" "\\;" results_in_list "${gpu_results}")
foreach(kernel ${kernel_lessons} ${lessons_of_full})
  get_filename_component(lesson ${kernel} NAME_WE)
  string(SUBSTRING ${lesson} 3 -1 level)
  list(APPEND lessons COMMAND ${CMAKE_COMMAND} "-DPROGRAM=$<TARGET_FILE:report>\\;${level}\\;${results_in_list}"
              -DPAGE=${PROJECT_SOURCE_DIR}/lessons/${lesson} -DMARKDOWN=1 -P ${page})
endforeach()
set(pictures "")
macro(fg_picture plot file picture)
  list(APPEND pictures COMMAND report ${plot} ${file} > full_${plot}.dat COMMAND ${GNUPLOT} -e "data='full_${plot}.dat'" -e
       "picture='${PROJECT_SOURCE_DIR}/bench/${picture}.svg'" ${PROJECT_SOURCE_DIR}/bench/full_${plot}.gp)
endmacro()
foreach(file ${gpu_results})
  if(file MATCHES "/gpu_(full_[^/]*)\\.json$")
    foreach(plot share roofline ratio)
      fg_picture(${plot} ${file} ${CMAKE_MATCH_1}_${plot})
    endforeach()
  elseif(file MATCHES "/gpu_(sweep_[^/]*)\\.json$")
    fg_picture(sweep ${file} ${CMAKE_MATCH_1})
  endif()
endforeach()
add_custom_target(
  results
  COMMAND ${CMAKE_COMMAND} "-DPROGRAM=$<TARGET_FILE:report>;ladder;${gemm_results};${gpu_levels}" -DPAGE=${PROJECT_SOURCE_DIR}/README -DMARKDOWN=1 -P
          ${page}
  COMMAND ${CMAKE_COMMAND} "-DPROGRAM=$<TARGET_FILE:report>;tables;${gemm_results};${scaling_results};${quantise_results};${gpu_results};${emulator_results}"
          -DPAGE=${PROJECT_SOURCE_DIR}/bench/README -DMARKDOWN=1 -P ${page}
  ${lessons}
  COMMAND report plot ${gpu_levels} > ladder.dat
  COMMAND ${GNUPLOT} -e "data='ladder.dat'; picture='${PROJECT_SOURCE_DIR}/bench/ladder.svg'" ${PROJECT_SOURCE_DIR}/bench/ladder.gp
  COMMAND report plot ${gemm_results} > processors.dat
  COMMAND ${GNUPLOT} -e "data='processors.dat'; picture='${PROJECT_SOURCE_DIR}/bench/processors.svg'" ${PROJECT_SOURCE_DIR}/bench/processors.gp
  ${pictures}
  VERBATIM)
