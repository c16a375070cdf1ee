#!/usr/bin/env bash
# The public header alone, as C11 and as C++17, by every compiler that is here.
set -euo pipefail
cd "$(dirname "$0")/.."
compiled=0
try() { # compiler, language, standard
  command -v "$1" >/dev/null || return 0
  echo '#include "finegemm.h"' |
    "$1" -x "$2" "-std=$3" -Iinclude -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -fsyntax-only -
  echo "$1 $3: ok"
  compiled=$((compiled + 1))
}
for compiler in cc gcc clang; do try $compiler c c11; done
for compiler in c++ g++ clang++; do try $compiler c++ c++17; done
[ $compiled -gt 0 ]
