#!/usr/bin/env bash
# seeds.sh FOLDER: writes what fuzzing starts from, small files of every kind, to FOLDER/fuzz_npy, FOLDER/fuzz_safetensors and FOLDER/fuzz_plans.
set -euo pipefail
mkdir -p "$1/fuzz_npy" "$1/fuzz_safetensors" "$1/fuzz_plans"

little_endian() { # NUMBER BYTES
  local number=$1 i
  for ((i = 0; i < $2; i++, number >>= 8)); do printf '%b' "\\x$(printf %02x $((number & 255)))"; done
}
zeros() { head -c "$1" /dev/zero; }
npy() { # FILE VERSION HEADER BYTES
  {
    printf '\x93NUMPY' && little_endian "$2" 2
    little_endian ${#3} $(($2 == 1 ? 2 : 4))
    printf %s "$3" && zeros "$4"
  } >"$folder/fuzz_npy/$1"
}
safetensors() { # FILE HEADER BYTES
  { little_endian ${#2} 8 && printf %s "$2" && zeros "$3"; } >"$folder/fuzz_safetensors/$1"
}

folder=$1
for dtype in '<f4 4' '<f2 2' '|u1 1' '<i8 8' '<c16 16' '|S3 3' '<U2 8' '<M8[ns] 8' '|O 8'; do
  name=${dtype% *}
  npy "dtype_${name//[^a-zA-Z0-9]/_}" 1 "{'descr': '$name', 'fortran_order': False, 'shape': (2, 3), }" $((6 * ${dtype#* }))
done
npy big_endian 1 "{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }" 8
npy structured 1 "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }" 8
npy scalar 1 "{'descr': '<f4', 'fortran_order': False, 'shape': (), }" 4
npy empty 2 "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3), }" 0
npy rank_8 3 "{'descr': '<f2', 'fortran_order': True, 'shape': (1, 1, 1, 1, 1, 1, 1, 3), }   " 6
npy python_2 2 '{"shape": (2L,), "fortran_order": False, "descr": "<f4"}' 8
npy huge 1 "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 2), }" 8

safetensors none '{}' 0
safetensors metadata '{"__metadata__":{"format":"pt"}}   ' 0
for dtype in 'F32 24' 'F16 12' 'BF16 12' 'F8_E4M3 6' 'F8_E5M2 6' 'F4 3' 'I64 48' 'OTHER 5'; do
  safetensors "dtype_${dtype% *}" "{\"x\":{\"dtype\":\"${dtype% *}\",\"shape\":[2,3],\"data_offsets\":[0,${dtype#* }]}}" "${dtype#* }"
done
safetensors layer '{"__metadata__":{"format":"pt"},"w":{"dtype":"F8_E4M3","shape":[3],"data_offsets":[4,7]},"w_scale_inv":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"empty":{"dtype":"BF16","shape":[0,7],"data_offsets":[7,7]}}  ' 7
safetensors scalar '{"a\u00e9\n":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}' 4
safetensors overlap '{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}' 6

plans() { # FILE LINES
  printf 'finegemm plans 1\n%s\n' "$2" >"$folder/fuzz_plans/$1"
}
plans few '# a remark
gpu sm_90a 132 NVIDIA H100 80GB HBM3
8 576 7168 128x128 2 8 128 12 8 8.54
64 2112 7168 1x128 2 64 128 7 1 14.5
4096 4096 7168 128x128 1 256 128 4 2 174.8

gpu sm_90a 78 NVIDIA H20
64 2112 7168 128x128 2 64 128 6 3 15'
plans none ''
plans small 'gpu sm_90a 1 x
8 1 1 128x128 2 8 64 24 1 0.001'
