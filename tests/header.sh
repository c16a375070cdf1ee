#!/usr/bin/env bash
# Each public header alone, as C11 and as C++17, by every compiler that is here.
set -euo pipefail
cd "$(dirname "$0")/.."
compiled=0
try() { # compiler, language, standard
  command -v "$1" >/dev/null || return 0
  for header in include/*.h; do
    "$1" -x "$2" "-std=$3" -Iinclude -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -fsyntax-only - \
      <<<"#include \"${header##*/}\""
  done
  echo "$1 $3: ok"
  compiled=$((compiled + 1))
}
for compiler in cc gcc clang; do try $compiler c c11; done
for compiler in c++ g++ clang++; do try $compiler c++ c++17; done
[ $compiled -gt 0 ]
