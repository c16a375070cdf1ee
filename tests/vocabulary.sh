#!/usr/bin/env bash
# vocabulary.sh [MAKE_WGMMA]: what kernels are written in is the same on the GPU and in the emulator. Each header of gpu/device/ that has
# PTX in it has a twin in gpu/emulator/ that declares the same: functions by their names and the types of what they take and give,
# structs, and macros that take something. And wgmma_any.cuh, and what wgmma.cuh shows of it, are what the program MAKE_WGMMA prints.
set -uo pipefail
[ $# -gt 0 ] && set -- "$(realpath "$1")"
cd "$(dirname "$0")/../gpu"
broken=0
fail() { printf 'broken: %s\n' "$*" && broken=1; }

# Each declaration on a line: comments, spaces, the names of parameters and the sizes of arrays do not count, nor what only macros use.
declarations() {
  sed -E 's:^ *#define +([a-zA-Z_]+)\(([^)]*)\).*:;define \1(\2);:; /^ *#/d' "$1" | tr '\n' ' ' | sed -E 's:/\*([^*]|\*[^/])*\*/::g; s: +: :g' |
    grep -oE '(template <[^>]*> )?__device__ inline [^{]*|struct [^;(){}]* \{[^}]*\}|define [^;]*' | grep -vE '^define FG_(PRAGMA|REGISTERS)' |
    sed -E '/^define/!{s:\[[^]]*\]:[]:g; s:([ *&])[a-z_][a-z_0-9]*([,)]):\1\2:g}; s: +$::' | sort -u
}

for device in device/*.cuh; do
  name=${device#*/} twin=emulator/${device#*/}
  if [ -e "$twin" ]; then
    difference=$(diff <(declarations "$device") <(declarations "$twin")) || fail "gpu/$device (<) and gpu/$twin (>) differ:"$'\n'"$difference"
  elif grep -q '\basm\b' "$device"; then
    fail "gpu/$device has PTX in it and no twin gpu/$twin"
  fi
done
for twin in emulator/*.cuh; do
  [ -e "device/${twin#*/}" ] || [ "$twin" = emulator/cuda_builtins.cuh ] || fail "gpu/$twin is the twin of nothing"
done

if [ $# -gt 0 ]; then
  diff device/wgmma_any.cuh <("$1") >/dev/null || fail "gpu/device/wgmma_any.cuh is not what make_wgmma prints: build the target wgmma"
  [[ $(<device/wgmma.cuh) == *"$("$1" 128)"* ]] || fail "gpu/device/wgmma.cuh does not show what make_wgmma prints for 128"
fi
exit $broken
