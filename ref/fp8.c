#include "fp8.h"
#include "bits.h"

/* A format of at most 16 bits: sign, exponent field, mantissa. Codes without the sign are ordered like the values they stand for. */
struct format {
  int mantissa; /* bits of it */
  int bias;
  uint32_t infinity; /* code; one that does not exist if there is none */
  uint32_t nan;      /* the first NaN code; all above it are NaN too */
  uint32_t overflow; /* what becomes of a value beyond the range */
};

static const struct format e4m3 = {.mantissa = 3, .bias = 7, .infinity = 0x100, .nan = 0x7F, .overflow = 0x7E};
static const struct format e5m2 = {.mantissa = 2, .bias = 15, .infinity = 0x7C, .nan = 0x7D, .overflow = 0x7B};
static const struct format fp16 = {.mantissa = 10, .bias = 15, .infinity = 0x7C00, .nan = 0x7C01, .overflow = 0x7C00};
static const struct format bf16 = {.mantissa = 7, .bias = 127, .infinity = 0x7F80, .nan = 0x7F81, .overflow = 0x7F80};

/* `code` without its sign. An exponent field of 0 means subnormal: no hidden bit, and the exponent of field 1. Not for BF16,
 * whose powers of two may be subnormal in FP32. */
static float decode(const struct format *format, uint32_t code, int negative) {
  if (code >= format->nan) return fg_float_of(FG_NAN_BITS);
  uint32_t sign = negative ? 0x80000000u : 0;
  if (code == format->infinity) return fg_float_of(sign | FG_INFINITY_BITS);
  int field = (int)(code >> format->mantissa);
  uint32_t hidden = field ? 1u << format->mantissa : 0;
  uint32_t significand = hidden | (code & ((1u << format->mantissa) - 1));
  int exponent = (field ? field : 1) - format->bias - format->mantissa;
  float power = fg_float_of((uint32_t)(exponent + 127) << 23);
  return fg_float_of(sign | fg_bits_of((float)significand * power));
}

/* The code, without its sign, nearest to the value of these FP32 bits; of two equally near ones the even one. */
static uint32_t encode(const struct format *format, uint32_t bits) {
  uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > FG_INFINITY_BITS) return FG_NAN_BITS;
  uint32_t hidden = magnitude >> 23 ? 1u << 23 : 0;
  uint32_t significand = hidden | (magnitude & 0x7FFFFFu);
  int exponent = (int)(magnitude >> 23 ? magnitude >> 23 : 1) - 127;

  /* The binade of the result; below the smallest normal number all share the last one's. `shift` bits of the significand go. */
  int field = exponent + format->bias > 1 ? exponent + format->bias : 1;
  int shift = 23 - format->mantissa + field - (exponent + format->bias);
  if (shift > 24) return 0; /* less than half of the smallest subnormal */
  uint32_t last_kept = significand >> shift & 1;
  uint32_t rounded = (significand + (1u << (shift - 1)) - 1 + last_kept) >> shift;

  /* Rounded counts the hidden bit, hence field - 1; a carry out of the mantissa moves on to the next binade by itself. */
  uint32_t code = ((uint32_t)(field - 1) << format->mantissa) + rounded;
  return code < format->overflow ? code : format->overflow;
}

float fg_e4m3_to_float(uint8_t code) { return decode(&e4m3, code & 0x7Fu, code >> 7); }
float fg_e5m2_to_float(uint8_t code) { return decode(&e5m2, code & 0x7Fu, code >> 7); }
float fg_fp16_to_float(uint16_t bits) { return decode(&fp16, bits & 0x7FFFu, bits >> 15); }

float fg_bf16_to_float(uint16_t bits) { /* the upper half of FP32 */
  return fg_float_of((bits & 0x7FFFu) >= bf16.nan ? FG_NAN_BITS : (uint32_t)bits << 16);
}

/* The sign goes to the top of the code, but not of NaN: all ones in every format. */
static uint8_t encode8(const struct format *format, float x) {
  uint32_t bits = fg_bits_of(x), code = encode(format, bits);
  return (uint8_t)(code == FG_NAN_BITS ? 0x7F : code | (bits >> 31) << 7);
}

static uint16_t encode16(const struct format *format, float x) {
  uint32_t bits = fg_bits_of(x), code = encode(format, bits);
  return (uint16_t)(code == FG_NAN_BITS ? 0x7FFF : code | (bits >> 31) << 15);
}

uint8_t fg_float_to_e4m3(float x) { return encode8(&e4m3, x); }
uint8_t fg_float_to_e5m2(float x) { return encode8(&e5m2, x); }
uint16_t fg_float_to_bf16(float x) { return encode16(&bf16, x); }
uint16_t fg_float_to_fp16(float x) { return encode16(&fp16, x); }

static float e4m3_values[256], e5m2_values[256];

/* Before main(), so that no thread can see a table half filled. */
__attribute__((constructor)) static void fill_tables(void) {
  for (int code = 0; code < 256; code++) {
    e4m3_values[code] = fg_e4m3_to_float((uint8_t)code);
    e5m2_values[code] = fg_e5m2_to_float((uint8_t)code);
  }
}

const float *fg_fp8_table(fg_type type) { return type == FG_E5M2 ? e5m2_values : e4m3_values; }

size_t fg_type_bytes(fg_type type) {
  switch (type) {
  case FG_E4M3:
  case FG_E5M2:
    return 1;
  case FG_BF16:
  case FG_FP16:
    return 2;
  case FG_FP32:
    return 4;
  default:
    return 0;
  }
}
