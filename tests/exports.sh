#!/usr/bin/env bash
# The shared library exports exactly the functions that the headers mark FG_API.
# usage: exports.sh LIBRARY. Names that begin with _ or . are the compiler's.
set -euo pipefail
declared=$(grep -h '^FG_API' "$(dirname "$0")"/../include/*.h | grep -o 'fg_[a-z0-9_]*(' | tr -d '(' | sort)
exported=$(nm -D --defined-only "$1" | awk '$3 !~ /^[_.]/ { print $3 }' | sort)
[ -n "$declared" ]
diff <(echo "$declared") <(echo "$exported")
echo "$(echo "$declared" | wc -l) functions declared and exported"
