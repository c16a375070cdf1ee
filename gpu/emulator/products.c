/* The tensor core's arithmetic, with the bits of the level hopper: by its vector path, and by the definition where that does not hold.
 * Threads have d and a as wgmma.cuh says. */
#include "engines.h"

#include "bits.h"
#include "mma.h"

#include <string.h>

enum { LANES = FG_MMA_LANES, PANELS = EMU_PRODUCT_ROWS / LANES };

struct codes {
  uint8_t k[EMU_PRODUCT_K];
};

static fg_type type_of(bool is_e5m2) { return is_e5m2 ? FG_E5M2 : FG_E4M3; }

static unsigned thread_of(unsigned row, unsigned col) { return row / 16 * EMU_WARP + row % 8 * 4 + col % 8 / 2; }

static float *element(const struct emu_product *product, unsigned row, unsigned col) {
  return &product->d[thread_of(row, col)][col / 8 * 4 + row % 16 / 8 * 2 + col % 2];
}

static void read_shared(const unsigned char *shared, const struct emu_operand *operand, unsigned row, uint8_t *codes) {
  memcpy(codes, shared + emu_operand_piece(operand, row, 0), EMU_PIECE);
  memcpy(codes + EMU_PIECE, shared + emu_operand_piece(operand, row, 1), EMU_PIECE);
}

static void read_registers(const struct emu_product *product, unsigned row, uint8_t *codes) {
  for (unsigned k = 0; k < EMU_PRODUCT_K; k += 4)
    memcpy(codes + k, &product->a_registers[thread_of(row, k / 2)][k / 16 * 2 + row % 16 / 8], 4);
}

/* Rows of 32 codes, which are the first of a panel's 128. */
static void decode(bool is_e5m2, const struct codes *codes, struct fg_mma_panel *panel) {
  uint8_t padded[LANES][FG_BLOCK_K] = {0};
  for (int row = 0; row < LANES; row++) memcpy(padded[row], codes[row].k, EMU_PRODUCT_K);
  fg_mma_path()->decode(type_of(is_e5m2), padded[0], FG_BLOCK_K, panel);
}

/* Whether the vector path takes it for an accumulator. */
static bool is_ordinary(float c) {
  uint32_t magnitude = fg_bits_of(c) & 0x7FFFFFFFu;
  return magnitude == 0 || (magnitude < FG_INFINITY_BITS && (int)(magnitude >> 23) >= FG_MMA_LEAST_SUM_EXPONENT + 127);
}

void emu_multiply(const unsigned char *shared, const struct emu_product *product) {
  struct fg_mma_panel a[PANELS], b;
  struct codes a_codes[EMU_PRODUCT_ROWS], b_codes[LANES];
  for (unsigned row = 0; row < EMU_PRODUCT_ROWS; row++)
    if (product->shape.a_is_in_registers)
      read_registers(product, row, a_codes[row].k);
    else
      read_shared(shared, &product->a, row, a_codes[row].k);
  for (int i = 0; i < PANELS; i++) decode(product->shape.a_is_e5m2, &a_codes[i * LANES], &a[i]);

  for (unsigned col0 = 0; col0 < product->shape.n; col0 += LANES) {
    unsigned cols = product->shape.n - col0 < LANES ? product->shape.n - col0 : LANES;
    float before[EMU_PRODUCT_ROWS][LANES] = {{0}}, after[EMU_PRODUCT_ROWS][LANES];
    memset(b_codes, 0, sizeof b_codes);
    for (unsigned j = 0; j < cols; j++) read_shared(shared, &product->b, col0 + j, b_codes[j].k);
    decode(product->shape.b_is_e5m2, b_codes, &b);
    for (unsigned row = 0; row < EMU_PRODUCT_ROWS; row++)
      for (unsigned j = 0; j < LANES; j++) {
        if (product->shape.accumulate && j < cols) before[row][j] = *element(product, row, col0 + j);
        after[row][j] = is_ordinary(before[row][j]) ? before[row][j] : 0;
      }
    fg_mma_path()->dots(a, EMU_PRODUCT_ROWS, &b, 1, true, after);
    for (unsigned row = 0; row < EMU_PRODUCT_ROWS; row++)
      for (unsigned j = 0; j < cols; j++) {
        bool is_special = (a[row / LANES].special_rows >> row % LANES | b.special_rows >> j) & 1;
        *element(product, row, col0 + j) =
            is_special || !is_ordinary(before[row][j])
                ? fg_mma_dot(type_of(product->shape.a_is_e5m2), a_codes[row].k, type_of(product->shape.b_is_e5m2), b_codes[j].k,
                             EMU_PRODUCT_K, before[row][j], NULL)
                : after[row][j];
      }
  }
}
