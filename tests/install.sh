#!/usr/bin/env bash
# Installs a build into a fresh prefix, and a project builds and runs against it four ways: CMake and pkg-config, shared and static.
# usage: install.sh BUILD_FOLDER CMAKE GENERATOR C_COMPILER
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd) build=$1 cmake=$2 generator=$3 cc=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix="$work/a prefix"
"$cmake" --install "$build" --prefix "$prefix" >"$work/log"
mv "$prefix" "$work/prefix" # what is installed may be moved
prefix=$work/prefix
libraries=$(dirname "$(find "$prefix" -name libfinegemm.a)")

"$cmake" -S "$here/consumer" -B "$work/cmake" -G "$generator" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$cc" >"$work/log" ||
  { cat "$work/log" && exit 1; }
"$cmake" --build "$work/cmake" >"$work/log" || { cat "$work/log" && exit 1; }

flags=(-std=c11 -Wall -Wextra -Wpedantic -Werror "$here/consumer/consumer.c")
export PKG_CONFIG_PATH=$libraries/pkgconfig
"$cc" "${flags[@]}" $(pkg-config --cflags --libs finegemm) "-Wl,-rpath,$libraries" -o "$work/pkg_shared"
uses() { # how often does this program load the shared library?
  LD_LIBRARY_PATH=$libraries ldd "$1" | grep -c libfinegemm || true
}
[ "$(uses "$work/cmake/consumer_finegemm")" = 1 ]
[ "$(uses "$work/cmake/consumer_static")" = 0 ]
[ "$(uses "$work/pkg_shared")" = 1 ]
for program in "$work/cmake/consumer_finegemm" "$work/cmake/consumer_static" "$work/pkg_shared"; do "$program"; done

rm "$libraries"/libfinegemm.so* # where only the archive is, the linker takes it
"$cc" "${flags[@]}" $(pkg-config --static --cflags --libs finegemm) -o "$work/pkg_static"
"$work/pkg_static"
"$prefix/bin/finegemm" lesson 1 >"$work/log"
