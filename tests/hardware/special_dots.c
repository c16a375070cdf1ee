#include "special_dots.h"

#include <stdio.h>
#include <string.h>

const char *const operand_names[OPERAND_KINDS] = {"uniform",   "rare",   "finite",  "narrow",     "zeros",
                                                  "subnormal", "lowest", "unequal", "cancelling", "gaussian"};
const char *const accumulator_names[ACCUMULATOR_KINDS] = {"none", "zero", "near",     "opposite", "subnormal",
                                                          "huge", "any",  "infinite", "nan"};

/* In e4m3 0x38 is 1, 0x08 is 2^-6 and the smallest normal, 0x01 is 2^-9; in e5m2 0x3C is 1, 0x01 is 2^-16, 0x7C is infinity. */
const struct special specials[] = {
    {"one times one", 0, 0, {{0x38, 0x38, 1}}, 0x00000000u},
    {"zero beside 448", 0, 0, {{0x00, 0x7E, 1}, {0x01, 0x01, 1}}, 0x00000000u},
    {"minus zero beside 448", 0, 0, {{0x80, 0x7E, 1}, {0x01, 0x01, 1}}, 0x00000000u},
    {"zero beside 57344", 1, 1, {{0x00, 0x7B, 1}, {0x01, 0x01, 1}}, 0x00000000u},
    {"zero beside 448, tiny accumulator", 0, 0, {{0x00, 0x7E, 1}}, 0x2B800000u},
    {"subnormal keeps its exponent, below it", 0, 0, {{0x01, 0x38, 1}}, 0x35800000u},
    {"subnormal keeps its exponent, last bit", 0, 0, {{0x01, 0x38, 1}}, 0x36000000u},
    {"two subnormals, below", 0, 0, {{0x01, 0x01, 1}}, 0x32800000u},
    {"two subnormals, last bit", 0, 0, {{0x01, 0x01, 1}}, 0x33000000u},
    {"two subnormals, below", 1, 1, {{0x01, 0x01, 1}}, 0x2A800000u},
    {"two subnormals, last bit", 1, 1, {{0x01, 0x01, 1}}, 0x2B000000u},
    {"subnormal times 57344", 1, 1, {{0x01, 0x7B, 1}}, 0x39000000u},
    {"product of 2 and more keeps its exponent", 0, 0, {{0x3F, 0x3F, 1}, {0x08, 0x04, 1}}, 0x39000000u},
    {"mixed types: 1.75 times 1.875", 1, 0, {{0x3F, 0x3F, 1}}, 0x39000000u},
    {"mixed types: 1.875 times 1.75", 0, 1, {{0x3F, 0x3F, 1}}, 0x39000000u},
    {"accumulator sets the exponent", 0, 0, {{0x08, 0x02, 2}}, 0x3F800000u},
    {"products set the exponent", 0, 0, {{0x38, 0x38, 1}}, 0x38800000u},
    {"products meet below the accumulator", 0, 0, {{0x08, 0x02, 32}}, 0x3F800000u},
    {"accumulator cancels, the rest was cut", 0, 0, {{0x38, 0x38, 1}, {0x08, 0x02, 1}}, 0xBF800000u},
    {"accumulator cancels, the rest was not cut", 0, 0, {{0x38, 0x38, 1}, {0x08, 0x04, 1}}, 0xBF800000u},
    {"stall: 1/16 times 1/16 at 64", 0, 0, {{0x18, 0x18, 32}}, 0x42800000u},
    {"before the stall, at 63.5", 0, 0, {{0x18, 0x18, 32}}, 0x427E0000u},
    {"accumulator alone, below its last bit", 0, 0, {{0, 0, 0}}, 0x3F8003FFu},
    {"accumulator alone, last bit", 0, 0, {{0, 0, 0}}, 0x3F800400u},
    {"negative accumulator alone, below", 0, 0, {{0, 0, 0}}, 0xBF8003FFu},
    {"carry through 32 products", 0, 0, {{0x3F, 0x3F, 32}}, 0x00000000u},
    {"carry, what leaves is cut", 0, 0, {{0x3F, 0x3F, 1}, {0x08, 0x04, 1}}, 0x00000000u},
    {"carry, what leaves is cut toward zero", 0, 0, {{0xBF, 0x3F, 1}, {0x88, 0x04, 1}}, 0x00000000u},
    {"32 largest products", 0, 0, {{0x7E, 0x7E, 32}}, 0x48C3FFFFu},
    {"32 largest products", 1, 1, {{0x7B, 0x7B, 32}}, 0x4F43FFFFu},
    {"negative term is cut toward zero", 0, 0, {{0x38, 0x38, 1}, {0x88, 0x02, 1}}, 0x00000000u},
    {"31 negative terms are cut toward zero", 0, 0, {{0x38, 0x38, 1}, {0x88, 0x02, 31}}, 0x00000000u},
    {"positive term is cut, not rounded", 0, 0, {{0x38, 0x38, 1}, {0x08, 0x03, 1}}, 0x00000000u},
    {"largest beside smallest", 0, 0, {{0x7E, 0x7E, 1}, {0x01, 0x01, 31}}, 0x00000000u},
    {"largest cancels, smallest was cut", 0, 0, {{0x7E, 0x7E, 1}, {0xFE, 0x7E, 1}, {0x01, 0x01, 30}}, 0x00000000u},
    {"products cancel", 0, 0, {{0x38, 0x38, 1}, {0xB8, 0x38, 1}}, 0x00000000u},
    {"products cancel, minus zero", 0, 0, {{0x38, 0x38, 1}, {0xB8, 0x38, 1}}, 0x80000000u},
    {"accumulator and product cancel", 0, 0, {{0x38, 0x38, 1}}, 0xBF800000u},
    {"all zero", 0, 0, {{0, 0, 0}}, 0x00000000u},
    {"all zero, minus zero", 0, 0, {{0, 0, 0}}, 0x80000000u},
    {"all minus zero", 0, 0, {{0x80, 0x38, 32}}, 0x80000000u},
    {"accumulator around the smallest", 0, 0, {{0, 0, 0}}, 0x00000001u},
    {"accumulator around the smallest", 0, 0, {{0, 0, 0}}, 0x000003FFu},
    {"accumulator around the smallest", 0, 0, {{0, 0, 0}}, 0x00000400u},
    {"accumulator around the smallest", 0, 0, {{0, 0, 0}}, 0x007FFFFFu},
    {"accumulator around the smallest", 0, 0, {{0, 0, 0}}, 0x807FFFFFu},
    {"accumulator around the smallest", 0, 0, {{0, 0, 0}}, 0x00800000u},
    {"accumulator around the smallest", 0, 0, {{0, 0, 0}}, 0x008003FFu},
    {"accumulator around the smallest", 0, 0, {{0, 0, 0}}, 0x80FFFFFFu},
    {"subnormal accumulator beside a product", 0, 0, {{0x01, 0x01, 1}}, 0x007FFFFFu},
    {"largest accumulator", 0, 0, {{0, 0, 0}}, 0x7F7FFFFFu},
    {"largest accumulator, 32 largest products", 0, 0, {{0x7E, 0x7E, 32}}, 0x7F7FFFFFu},
    {"largest accumulator, 32 largest products", 1, 1, {{0x7B, 0x7B, 32}}, 0x7F7FFFFFu},
    {"lowest accumulator, 32 lowest products", 1, 1, {{0xFB, 0x7B, 32}}, 0xFF7FFFFFu},
    {"NaN", 0, 0, {{0x7F, 0x38, 1}}, 0x00000000u},
    {"NaN with a sign", 0, 0, {{0x38, 0xFF, 1}}, 0x00000000u},
    {"NaN times zero", 0, 0, {{0x7F, 0x00, 1}}, 0x00000000u},
    {"NaN times NaN", 0, 0, {{0x7F, 0xFF, 1}}, 0x00000000u},
    {"NaN", 1, 1, {{0x7D, 0x3C, 1}}, 0x00000000u},
    {"NaN", 1, 1, {{0x7E, 0x3C, 1}}, 0x00000000u},
    {"NaN", 1, 1, {{0x7F, 0x3C, 1}}, 0x00000000u},
    {"NaN", 1, 1, {{0xFD, 0x3C, 1}}, 0x00000000u},
    {"NaN times infinity", 0, 1, {{0x7F, 0x7C, 1}}, 0x00000000u},
    {"NaN beside infinity", 1, 1, {{0x7C, 0x3C, 1}, {0x3C, 0x7D, 1}}, 0x00000000u},
    {"accumulator NaN", 0, 0, {{0x38, 0x38, 1}}, 0x7F800001u},
    {"accumulator NaN", 0, 0, {{0x38, 0x38, 1}}, 0x7FC00000u},
    {"accumulator NaN", 0, 0, {{0x38, 0x38, 1}}, 0xFFC12345u},
    {"infinity times one", 1, 1, {{0x7C, 0x3C, 1}}, 0x00000000u},
    {"minus infinity times one", 1, 1, {{0xFC, 0x3C, 1}}, 0x00000000u},
    {"infinity times the smallest", 1, 0, {{0x7C, 0x81, 1}}, 0x00000000u},
    {"infinity times infinity", 1, 1, {{0x7C, 0xFC, 1}}, 0x00000000u},
    {"infinity times zero", 1, 1, {{0x7C, 0x00, 1}}, 0x00000000u},
    {"infinity times minus zero", 0, 1, {{0x80, 0xFC, 1}}, 0x00000000u},
    {"infinity minus infinity", 1, 1, {{0x7C, 0x3C, 1}, {0xFC, 0x3C, 1}}, 0x00000000u},
    {"infinity twice", 1, 1, {{0x7C, 0x3C, 2}}, 0x00000000u},
    {"infinity beside the largest", 1, 1, {{0x7C, 0x3C, 1}, {0xFB, 0x7B, 31}}, 0xFF7FFFFFu},
    {"accumulator infinite", 0, 0, {{0x38, 0x38, 1}}, 0x7F800000u},
    {"accumulator infinite, nothing else", 0, 0, {{0, 0, 0}}, 0xFF800000u},
    {"accumulator and product infinite", 1, 0, {{0x7C, 0x38, 1}}, 0x7F800000u},
    {"accumulator minus a product, both infinite", 1, 0, {{0xFC, 0x38, 1}}, 0x7F800000u},
    {"accumulator infinite, NaN", 0, 0, {{0x38, 0x7F, 1}}, 0x7F800000u},
};
const int special_count = sizeof specials / sizeof *specials;

void make_special(const struct special *special, int place, struct dot *dot) {
  *dot = (struct dot){.a_is_e5m2 = special->a_is_e5m2, .b_is_e5m2 = special->b_is_e5m2, .k = FG_MMA_K, .c = special->c};
  for (int i = 0; i < MOST_PAIRS; i++)
    for (int count = special->pair[i].count; count > 0; count--, place++) {
      dot->a[place % FG_MMA_K] = (uint8_t)special->pair[i].a;
      dot->b[place % FG_MMA_K] = (uint8_t)special->pair[i].b;
    }
}

bool make_sample(uint64_t seed, int index, struct dot *dot, char kind[KIND_BYTES]) {
  static const int lengths[] = {32, 32, 32, 32, 32, 128, 512};
  enum { LENGTHS = sizeof lengths / sizeof *lengths, TYPES = 4, ACCUMULATORS = ACCUMULATOR_KINDS - 1 }; /* NO_C is +0 here */
  int types = index % TYPES, operands = index / TYPES % OPERAND_KINDS, round = index / (TYPES * OPERAND_KINDS);
  int length = round / ACCUMULATORS, accumulator = length == LENGTHS - 1 ? NEAR_C : ZERO_C + round % ACCUMULATORS;
  if (round == (LENGTHS - 1) * ACCUMULATORS + 1) return false; /* of the longest there is one round */
  *dot = (struct dot){.a_is_e5m2 = types / 2, .b_is_e5m2 = types % 2, .k = lengths[length]};
  uint64_t stream = random_bits(seed, (uint64_t)index);
  for (int k = 0, i = 0; k < dot->k; k += ROW_CODES, i += 2) {
    int count = dot->k - k < ROW_CODES ? dot->k - k : ROW_CODES;
    random_row((enum operands)operands, dot->a_is_e5m2, 1, random_bits(stream, (uint64_t)i), count, dot->a + k);
    random_row((enum operands)operands, dot->b_is_e5m2, 0, random_bits(stream, (uint64_t)i + 1), count, dot->b + k);
  }
  dot->c = random_accumulator((enum accumulators)accumulator, dot->a_is_e5m2, dot->b_is_e5m2, dot->a, dot->b,
                              random_bits(stream, MOST_K));
  snprintf(kind, KIND_BYTES, "%s/%s", operand_names[operands], accumulator_names[accumulator]);
  return true;
}
