/* What works beside a block's threads: the copy engine and the tensor core. */
#ifndef FG_ENGINES_H
#define FG_ENGINES_H

#include "emulated_map.h"
#include "emulator.h"

enum { EMU_PIECE = 16 }; /* bytes that stay together, however they are swizzled */

struct emu_copy;
struct emu_batch;

/* By actor: the last epoch in which something asynchronous reads or writes the block's shared memory, and who asked for it. */
struct emu_due {
  uint32_t epoch;
  const struct emu_thread *by;
  const void *where;
  const char *what;
};

/* What a thread brings to stmatrix. */
struct emu_matrix_row {
  unsigned offset;   /* of its row in shared memory */
  const unsigned *m; /* its registers, one of each matrix */
};

struct emu_engine {
  struct emu_block *block;
  emu_time copies_until, products_until; /* the copy engine and the tensor core have so long to do, as costs.h has it */
  struct emu_copy *copies;               /* under way, asked for by the block's threads */
  struct emu_batch *batches; /* the same of copies that threads ask for themselves, and those not yet tied to an mbarrier */
  unsigned storing_threads;
  struct emu_matrix_row *rows; /* [thread_count] */
  struct emu_due *due;         /* [actors.total - actors.threads], of those that are no threads */
};

/* --- tensor_box.c: a box of a tensor, as a map and coordinates say */

struct emu_box {
  struct emu_map map;
  int64_t at[3];
  unsigned element_bytes, row_bytes, rows, bytes, swizzle_bytes;
};

/* What the kernel's `map` is of `rank` (0: only that it is a map); faults where it is none, or one that is not modelled. */
struct emu_box emu_box_of(struct emu_thread *thread, const void *map, int rank, const int at[3]);
/* Faults if what of it lies in the tensor does not lie in memory that the launch may touch. */
void emu_box_check_global(struct emu_thread *thread, const struct emu_box *box);
/* From the tensor to shared memory; what lies outside becomes zeros. */
void emu_box_load(const struct emu_box *box, unsigned char *shared, unsigned offset);
/* From shared memory to data [bytes], row after row, and from there to the tensor, but for what lies outside. */
void emu_box_read(const struct emu_box *box, const unsigned char *shared, unsigned offset, unsigned char *data);
void emu_box_store(const struct emu_box *box, const unsigned char *data);
/* Those bytes of shared memory that a store of the box needs will be read by `actor` in `epoch`. */
void emu_box_shadow_read(const struct emu_box *box, struct emu_thread *thread, unsigned offset, unsigned actor, uint32_t epoch);

/* --- descriptors.c: what a wgmma's descriptor stands for, a tile [rows, 32 codes] in shared memory. PTX ISA, matrix descriptor. */

struct emu_operand {
  unsigned address;         /* of the first row */
  unsigned leading, stride; /* to the next 16 codes, without a swizzle; to the next 8 rows */
  unsigned swizzle_bytes;   /* of a row; 0: eight rows of 16 bytes follow each other */
  unsigned rows;
};

/* Faults: a descriptor that is none or is not modelled, or leads out of shared memory. `name`: "a", "b". */
struct emu_operand emu_operand_of(const struct emu_thread *thread, const char *name, uint64_t descriptor, unsigned rows);
/* Where codes 16 half to 16 half + 15 of the row are. */
unsigned emu_operand_piece(const struct emu_operand *operand, unsigned row, unsigned half);

/* --- products.c: d[64, n] (+)= a[64, 32] b[n, 32]^T, for a warpgroup */

enum { EMU_PRODUCT_THREADS = 128, EMU_PRODUCT_ROWS = 64, EMU_PRODUCT_K = 32 };

/* What the threads of a warpgroup must agree on. */
struct emu_shape {
  unsigned n;
  bool accumulate, a_is_e5m2, b_is_e5m2, a_is_in_registers;
};

struct emu_product {
  struct emu_shape shape;
  struct emu_operand a, b;
  float *d[EMU_PRODUCT_THREADS];                    /* each thread's, of n / 2 numbers */
  const unsigned *a_registers[EMU_PRODUCT_THREADS]; /* each thread's 4 */
};

void emu_multiply(const unsigned char *shared, const struct emu_product *product);

#endif
