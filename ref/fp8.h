/* The numbers: FP8 (e4m3fn, e5m2), BF16, FP16 as bits, and FP32 as float.
 *
 * The scalar functions are the definitions, written to be read; the array functions below give the same bits, fast. */
#ifndef FG_FP8_H
#define FG_FP8_H

#include "finegemm.h"

/* Code -> value, exact. NaN codes give the canonical NaN 0x7FFFFFFF. */
float fg_e4m3_to_float(uint8_t code);
float fg_e5m2_to_float(uint8_t code);
float fg_bf16_to_float(uint16_t bits);
float fg_fp16_to_float(uint16_t bits);

/* Value -> code, to nearest even. FP8 saturates (infinity too); FP16 and BF16 overflow to infinity; NaN gives 0x7F, 0x7FFF. */
uint8_t fg_float_to_e4m3(float x);
uint8_t fg_float_to_e5m2(float x);
uint16_t fg_float_to_bf16(float x);
uint16_t fg_float_to_fp16(float x);

/* All 256 values of an FP8 type, indexed by code. */
const float *fg_fp8_table(fg_type type);

/* Bytes of an element, 0 for a type that does not exist. */
size_t fg_type_bytes(fg_type type);

/* `count` elements of any type <-> FP32, NaN to the canonical one; vectorised, paths chosen at run time (see cpu.h). */
void fg_to_float(fg_type type, const void *from, float *to, int64_t count);
void fg_from_float(fg_type type, const float *from, void *to, int64_t count);

/* to[i] = RN(value(from[i]) * scale) for an FP8 type. NaN may be any NaN. */
void fg_fp8_scale_to_float(fg_type type, const uint8_t *from, float scale, float *to, int64_t count);

#endif
