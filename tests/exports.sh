#!/usr/bin/env bash
# The shared library exports exactly the functions that the headers mark FG_API; the emulator exactly those that its sources define for
# CUDA's headers, all that the library looks for among them, and the mark that it is the emulator.
# usage: exports.sh LIBRARY [EMULATOR]. Names that begin with _ or . are the compiler's.
set -euo pipefail
cd "$(dirname "$0")/.."
exported() { nm -D --defined-only "$1" | awk '$3 !~ /^[_.]/ { print $3 }' | sort; }
declared=$(grep -h '^FG_API' include/*.h | grep -o 'fg_[a-z0-9_]*(' | tr -d '(' | sort)
[ -n "$declared" ]
diff <(echo "$declared") <(exported "$1")
echo "$(echo "$declared" | wc -l) functions declared and exported"

[ $# -gt 1 ] || exit 0
plain() { sed -E 's/_(v[0-9]+|ptsz|ptds)$//; s/^cuGraphInstantiateWithFlags$/cuGraphInstantiate/' | sort -u; } # cuda.h renames some
defined=$(grep -hoE '^(CUresult|nvrtcResult|const char \*)[ *]*(cu|nvrtc)[A-Z][A-Za-z0-9]*\(' gpu/emulator/*.c | grep -oE '[A-Za-z0-9]+\($' | tr -d '(' | sort -u)
wanted=$(grep -hoE '^ *X\((cu|nvrtc)[A-Z][A-Za-z0-9]*\)' gpu/driver.h gpu/compiler.c | grep -oE '(cu|nvrtc)[A-Z][A-Za-z0-9]*' | sort -u)
diff <(printf '%s\nfg_is_emulator\n' "$defined" | sort) <(exported "$2" | plain)
missing=$(comm -13 <(echo "$defined") <(echo "$wanted"))
[ -z "$missing" ] || { echo "the emulator lacks $missing" && exit 1; }
echo "$(echo "$defined" | wc -l) functions of the emulator defined and exported"
