#!/usr/bin/env bash
# The rules of the house that a grep can keep. Prints every line that breaks one.
set -uo pipefail
cd "$(dirname "$0")/.."
broken=0

files() { find . -path ./build -prune -o -path ./.git -prune -o -type f -print; }
rule() { # what holds, what breaks it (empty: nothing)
  [ -z "$2" ] && return
  printf 'broken: %s\n%s\n' "$1" "$2"
  broken=1
}
# Lines of C files under the folders $2... that match $1; comments count too.
lines() { grep -rnE --include='*.[ch]' -- "$@" 2>/dev/null; }
# Quoted headers that the folders $2... include, as "file: header", but for those that match $1.
includes() {
  local allowed=$1
  shift
  lines '^ *# *include *"' "$@" | sed -E 's/:[0-9]+: *# *include *"([^"]*)".*/: \1/' | while IFS=' ' read -r file header; do
    [[ $header =~ ^($allowed)$ ]] || echo "$file $header"
  done
}
headers() { find "$@" -name '*.h' -printf '%f|' 2>/dev/null | sed 's/|$//'; }

rule 'file names are unique in the tree, but for those that tools look for in a folder, and the vocabulary, which there is twice' \
  "$(files | grep -vE '/(CMakeLists\.txt|README\.md)$|/gpu/emulator/[a-z_]+\.cuh$' | sed 's:.*/::' | sort | uniq -d)"

rule 'ref/ includes only ref/ and the public header' "$(includes "finegemm.h|finegemm_kernels.h|$(headers ref)" ref)"
rule 'core/ includes only core/, ref/, gpu/ and the public header' "$(includes "finegemm.h|finegemm_kernels.h|$(headers core ref gpu)" core)"
rule 'gpu/ includes only gpu/, fail.h and the public header' "$(includes "finegemm.h|finegemm_kernels.h|fail.h|$(headers gpu)" gpu | grep -v '^gpu/emulator/')"
rule 'gpu/emulator/ includes only gpu/, ref/, fail.h and the public header' \
  "$(includes "finegemm.h|finegemm_kernels.h|fail.h|$(headers gpu ref)" gpu/emulator)"
rule 'cli/ includes only cli/ and the public header' "$(includes "finegemm.h|finegemm_kernels.h|$(headers cli)" cli)"
rule 'lessons and examples include only the public header' "$(includes 'finegemm.h' lessons examples)"

rule 'the library does not print, end the process or start another; the emulator, which starts a compiler, is none of it' \
  "$(lines '(^|[^a-z_])(v?f?printf|puts|putchar|fputs|perror|abort|_?exit|_Exit|raise|assert|system|popen|fork|vfork|posix_spawn|exec[lv]p?e?) *\(' core ref gpu |
    grep -vE '^gpu/emulator/|:[0-9]+: *(/?\*|//)')"
rule 'PTX stands only in gpu/device (the emulator has its own words for it), and in the check of the hardware' \
  "$(grep -rnE '\basm\b' --include='*.cu' --include='*.cuh' . --exclude-dir=build --exclude-dir=.git | grep -vE '^\./(gpu/(device|emulator)|tests/hardware)/')"
rule 'every public function has its comment right above it' \
  "$(awk '/^FG_API/ && before !~ /\*\/$/ { print FILENAME ":" FNR ": " $0 } { before = $0 }' include/*.h)"
rule 'nothing is put off in comments, nothing is switched off' \
  "$(grep -rnE 'TO''DO|FIX''ME|^ *# *if +0' --include='*.[ch]' --include='*.cu*' --include='*.sh' --include='*.cmake' --include='*.py' \
    --include='*.md' --include=CMakeLists.txt --include=dev . --exclude-dir=build --exclude-dir=.git)"
rule 'a comparison with a bound is !(error <= bound), so that NaN fails' \
  "$(lines 'if *\([^;{]*(err|error|diff|difference|deviation)s?\b(\[[^]]*\])?\)? *>=? ' tests bench | grep -vE '!\(')"
rule 'no path of one machine stands in the tree' \
  "$(files | xargs -d '\n' grep -nIE '(^|[^[:alnum:]_.~/}])/(ho''me|wo''rk|ro''ot|tm''p)/' 2>/dev/null)"
test_name='`[a-z0-9_]+::[a-z0-9_]+`'
rule 'every `suite::name` of a page is a test (`fg_type::member` is C, `finegemm::target` is CMake)' \
  "$(files | grep '\.md$' | xargs -d '\n' grep -nHoE "$test_name" | grep -vE ':`(finegemm|fg_[a-z0-9_]+)::' | while IFS=: read -r page line suite _ name; do
    grep -qE "Test\(([^,]*, )?${suite#\`}, ${name%\`}[,)]" tests/*.c || echo "$page:$line: $suite::$name"
  done)"
rule 'every lesson names the test that catches its trap' "$(grep -LE "$test_name" lessons/[0-9]*.md)"
# Each constant with its comment, as a row of a table.
costs() {
  tr '\n' ' ' <gpu/emulator/costs.h | sed 's/  */ /g' | grep -oE 'COST_[A-Z_]+ = [0-9]+,? /\*[^*]*\*/' |
    sed -E 's:^(COST_[A-Z_]+) = ([0-9]+),? /\* (.*) \*/$:| `\1` | \2 | \3 |:'
}
rule 'docs/emulator.md has the costs of gpu/emulator/costs.h, all of them, as they are' \
  "$(diff <(costs) <(sed -n '/costs:begin/,/costs:end/p' docs/emulator.md | grep '^| `COST') &&
    [ "$(costs | wc -l)" != "$(grep -cE '^ *COST_' gpu/emulator/costs.h)" ] && echo 'a cost without a comment')"
version=$(sed -n 's/^project(finegemm VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
rule 'the header and CMake name one version' \
  "$(awk -v is="$version" '/^#define FG_VERSION_/ { has = has (has ? "." : "") $3 } END { if (has != is) print has " and " is }' include/finegemm.h)"
exit $broken
