/* Prints wgmma_any.cuh: wgmma_mma() for every n. With an argument, the one of that n whose a is in shared memory, as wgmma.cuh has it for
 * 128 written out. The build's target `wgmma` runs it. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { WRITTEN_OUT = 128, TEXT_IN_A_LINE = 16, INDENT = 17, COLUMNS = 130 };

static void print_wgmma(int n, bool a_is_in_registers) {
  int count = n / 2, b = count + (a_is_in_registers ? 4 : 1);
  printf("__device__ inline void wgmma_mma(float (&d)[%d], %s, unsigned long long b, bool accumulate) {\n", count,
         a_is_in_registers ? "const unsigned (&a)[4]" : "unsigned long long a");
  printf("  asm volatile(\"{\\n\"\n"
         "               \".reg .pred p;\\n\"\n"
         "               \"setp.ne.b32 p, %%%d, 0;\\n\"\n"
         "               \"wgmma.mma_async.sync.aligned.m64n%dk32.f32.\" WGMMA_TYPES \" {\"\n",
         b + 1, n);
  for (int i = 0; i < count; i++)
    printf("%s%%%d%s", i % TEXT_IN_A_LINE ? " " : "               \"", i,
           i == count - 1                             ? "}, \"\n"
           : i % TEXT_IN_A_LINE == TEXT_IN_A_LINE - 1 ? ", \"\n"
                                                      : ",");
  if (a_is_in_registers)
    printf("               \"{%%%d, %%%d, %%%d, %%%d}, %%%d, p, 1, 1;\\n\"\n", count, count + 1, count + 2, count + 3, b);
  else
    printf("               \"%%%d, %%%d, p, 1, 1;\\n\"\n", count, b);
  printf("               \"}\"\n");
  for (int i = 0, column = COLUMNS; i < count; i++) {
    char operand[24];
    int width = snprintf(operand, sizeof operand, "\"+f\"(d[%d])%s", i, i == count - 1 ? "" : ",");
    bool is_first = column + 1 + width > COLUMNS;
    if (is_first) column = INDENT;
    printf("%s%s", i == 0 ? "               : " : is_first ? "\n                 " : " ", operand);
    column += width + !is_first;
  }
  printf("\n               : %s, \"l\"(b), \"r\"((unsigned)accumulate));\n}\n",
         a_is_in_registers ? "\"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3])" : "\"l\"(a)");
}

int main(int count, char **arguments) {
  if (count > 1) {
    print_wgmma(atoi(arguments[1]), false);
    return 0;
  }
  printf(
      "/* wgmma_mma() for n = WGMMA_N, a constant of the kernel. make_wgmma.c prints this file.\n"
      " *\n"
      " * a in shared memory; or in registers, four codes along K each, in row t %% 32 / 4 of the warp's 16 and 8 below, from column\n"
      " * t %% 4 * 4, then 16 further. PTX ISA, wgmma.mma_async. */\n"
      "/* clang-format off */\n"
      "#pragma once\n"
      "#include \"wgmma.cuh\"\n");
  for (int n = 8; n <= 256; n += 8) {
    printf("\n#if WGMMA_N == %d\n", n);
    if (n != WRITTEN_OUT) {
      print_wgmma(n, false);
      printf("\n");
    }
    print_wgmma(n, true);
    printf("#endif\n");
  }
  return 0;
}
