#!/usr/bin/env bash
# deep_gemm.sh PYTHON COMPILER: bench/deep_gemm.py lays its structs out as the headers do, and where there is nothing to compare with it
# says so in one sentence. Without its site's packages (-S) no Python has torch.
set -euo pipefail
cd "$(dirname "$0")/.."
program=bench/deep_gemm.py
asserts=$("$1" -I -S "$program" --asserts)
"$2" -std=c11 -Iinclude -fsyntax-only -x c - <<<"$asserts"
if "$2" -std=c11 -Iinclude -fsyntax-only -x c - <<<"${asserts/== 8,/== 9,}" 2>/dev/null; then echo 'a wrong layout compiles' && exit 1; fi
echo "$(grep -c ^_Static_assert <<<"$asserts") facts about the structs hold"

fails() { # status, what the one line on standard error says, arguments
  local status=0 words
  words=$("$python" -I -S "$program" "${@:3}" 2>&1 >/dev/null) || status=$?
  [ "$status" = "$1" ] && [[ $words == *"$2"* ]] && [ "$(wc -l <<<"$words")" = 1 ] || { echo "${*:3}: status $status: $words" && exit 1; }
}
python=$1
fails 1 "No module named 'torch'"
fails 2 '--shapes takes M x N x K' --shapes 64x128
fails 2 '--shapes takes M x N x K' --shapes 64x128x0
fails 2 '--repeats takes' --repeats 0
