/* Dots for the tensor core one by one: special cases chosen by hand, and a random sample for the file of golden vectors. */
#ifndef SPECIAL_DOTS_H
#define SPECIAL_DOTS_H

#include "check_tensor_core.h"
#include <stdbool.h>

extern const char *const operand_names[OPERAND_KINDS], *const accumulator_names[ACCUMULATOR_KINDS];

/* Pairs of codes, each `count` times; all other places are +0 times +0. */
enum { MOST_PAIRS = 3 };
struct special {
  const char *name;
  int a_is_e5m2, b_is_e5m2;
  struct {
    int a, b, count;
  } pair[MOST_PAIRS];
  uint32_t c;
};
extern const struct special specials[];
extern const int special_count;

/* Dot `place` of 32: the special case with its operands moved on, around the end, by so many places. */
void make_special(const struct special *special, int place, struct dot *dot);

/* A dot of the sample; false after the last. `kind` is a word that says what it is. */
enum { KIND_BYTES = 64 };
bool make_sample(uint64_t seed, int index, struct dot *dot, char kind[KIND_BYTES]);

#endif
