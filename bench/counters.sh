#!/usr/bin/env bash
# counters.sh CSV...: prints as JSON the counters that the lessons name, from what NVIDIA's profiler printed of bench_gpu, a level a file:
#
#     for level in wgmma tma pipeline persistent cluster; do
#       ncu --clock-control none --set full -k $level -c 1 --csv --page raw \
#         build/release/bench_gpu --shapes 4096x4096x7168 --levels $level --repeats 1 --settled 1 > ncu_$level.csv
#     done
#     FG_COMMIT=... bench/counters.sh ncu_*.csv > bench/results/gpu_counters_NAME.json
#
# Before the line that begins with "ID" stands what the program printed; it and the next two are names, units and values.
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: counters.sh CSV..." >&2 && exit 2; }
export LC_ALL=C
awk -v commit="${FG_COMMIT:-?}" '
  BEGIN {
    count = split("sm__cycles_elapsed.max smsp__cycles_elapsed.avg.per_second sm__pipe_tensor_cycles_active.avg.pct_of_peak_sustained_elapsed " \
                  "smsp__issue_active.avg.pct_of_peak_sustained_active smsp__inst_executed.sum sm__warps_active.avg.per_cycle_active " \
                  "smsp__pcsamp_sample_count smsp__pcsamp_warps_issue_stalled_long_scoreboard smsp__pcsamp_warps_issue_stalled_wait " \
                  "smsp__pcsamp_warps_issue_stalled_barrier l1tex__data_pipe_lsu_wavefronts_mem_shared.sum " \
                  "lts__throughput.avg.pct_of_peak_sustained_elapsed lts__t_sectors_srcunit_tex_op_read.sum l1tex__m_xbar2l1tex_read_bytes.sum dram__bytes_read.sum " \
                  "launch__registers_per_thread launch__shared_mem_per_block_dynamic", wanted, " ")
  }
  function cells(line, into) { gsub(/^"|"\r?$/, "", line); return split(line, into, "\",\"") }
  function fail(what) { print FILENAME ": " what > "/dev/stderr"; failed = 1; exit 1 }
  FNR == 1 { after = 0 }
  !after && /^finegemm .*multiprocessors/ { head = $0 }
  !after && $2 == "x" && $4 == "x" && $8 == "x" { m = $1; n = $3; k = $5; level = $6; block_m = $7; block_n = $9 }
  /^"ID"/ { columns = cells($0, name); after = 1; next }
  after && ++after == 3 {
    if (cells($0, value) != columns) fail("the values are not as many as the names")
    for (c = 1; c <= columns; c++) of[name[c]] = value[c]
    if (of["Kernel Name"] != level) fail("the kernel is " of["Kernel Name"] ", and the level " level)
    split(head, part, ", "); sub(/^finegemm /, "", part[1]); sub(/ multiprocessors.*/, "", part[3])
    if (!rows++)
      printf "{\n  \"version\": \"%s\", \"commit\": \"%s\", \"gpu\": \"%s\", \"sms\": %d, \"m\": %d, \"n\": %d, \"k\": %d,\n  \"counters\": [\n",
             part[1], commit, part[2], part[3], m, n, k
    else print ","
    printf "    {\n      \"name\": \"%s\", \"block_m\": %d, \"block_n\": %d, \"values\": {", level, block_m, block_n
    for (i = 1; i <= count; i++) {
      if (!(wanted[i] in of)) fail("there is no " wanted[i])
      gsub(/,/, "", of[wanted[i]])
      printf "%s\n        \"%s\": %s", (i == 1 ? "" : ","), wanted[i], of[wanted[i]]
    }
    printf "\n      }\n    }"
    delete of
  }
  END { if (!failed) print "\n  ]\n}" }
' "$@"
