#!/usr/bin/env bash
# sanitizer.sh TEST_GPU [N [TOOL...]]: the walks of test_gpu, test_rungs or test_full under each tool of compute-sanitizer, or under those
# that are named, N problems each (8), on a machine with a GPU. Says what each found; ends with 0 if that is nothing.
set -uo pipefail
program=${1:?the program test_gpu, test_rungs or test_full}
cases=${2:-8}
shift $(($# < 2 ? $# : 2))
[ $# -gt 0 ] || set -- memcheck racecheck initcheck synccheck
tests='@(gpu|rungs|full)/@(keep*|tiles*|plans*|groups*|repeats*|a_prepared*|a_row_*|nothing_*)'
log=$(mktemp)
trap 'rm -f "$log"' EXIT
broken=0

command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not here; it comes with the CUDA toolkit" >&2 && exit 1; }
for tool; do
  options=()
  [ $tool = racecheck ] && options=(--racecheck-report all)
  started=$SECONDS status=0
  FG_REQUIRE_GPU=1 FG_GPU_CASES=$cases compute-sanitizer --tool $tool "${options[@]}" --target-processes all --error-exitcode 99 \
    "$program" -j1 --filter "$tests" >"$log" 2>&1 || status=$?
  found=$(grep -E 'SUMMARY:' "$log" | sed 's/^=* *//' | sort | uniq -c | sed 's/^ *//' | paste -sd ';')
  synthesis=$(grep -oE 'Tested: .*' "$log")
  printf '%s, %d s: %s; %s\n' $tool $((SECONDS - started)) "${synthesis:-no test ran}" "${found:-no summary}"
  if [ $status != 0 ] || [ -z "$found" ] || grep -qE 'SUMMARY: [1-9]' "$log"; then
    head -n 200 "$log"
    broken=1
  fi
done
exit $broken
