/* The emulator's tensor core: its bits against fg_mma(), every n, type and layout; and what it will not have. */
#include "cpu.h"
#include "engine_kernels.h"
#include "finegemm.h"
#include "support.h"

#include <math.h>

enum { M = 64, MOST_N = 256, K = 32, STEPS = 4, WARPGROUP = 128, B = 32768, SHARED = 3 * 32768, BARRIERS = SHARED - 64 };

static _Alignas(1024) unsigned char image[SHARED]; /* what shared memory is to be; a from 0, b from B on */
static float results[2 * WARPGROUP][MOST_N / 2], before[2 * WARPGROUP][MOST_N / 2];
static unsigned a_registers[2 * WARPGROUP][STEPS][4];
static unsigned char a[M][STEPS * K], b[MOST_N][STEPS * K];

static void make_global(void) { stub_register(image, sizeof image, STUB_PINNED); }
static void free_global(void) { stub_register(image, sizeof image, STUB_UNKNOWN); }

TestSuite(emulator_wgmma, .init = make_global, .fini = free_global);

struct told {
  int n, steps; /* steps of 32 along K, chained */
  unsigned swizzle_bytes;
  uint64_t a_descriptor[STEPS], b_descriptor[STEPS];
  bool a_is_in_registers, accumulate, a_is_e5m2, b_is_e5m2;
  int wrong;
};

static bool run(void (*kernel)(struct told), const struct told *told, unsigned threads, uint64_t seed,
                char message[EMU_MESSAGE_BYTES]) {
  return launch((void (*)(void))kernel, told, sizeof *told, 1, threads, SHARED, seed, message);
}

/* --- Layouts, as PTX ISA has them under "Shared memory matrix layout", for rows of STEPS * K codes */

/* Swizzled tiles are as wide as the swizzle, one beside the other; without, eight rows of 16 bytes follow each other. */
static unsigned place_of(unsigned swizzle_bytes, unsigned rows, unsigned row, unsigned k) {
  if (!swizzle_bytes) return k / 16 * rows * 16 + row * 16 + k % 16;
  unsigned tile = k / swizzle_bytes, in_row = k % swizzle_bytes, period = 128 / swizzle_bytes;
  unsigned piece = in_row / 16 ^ (row / period % (swizzle_bytes / 16));
  return tile * rows * swizzle_bytes + row * swizzle_bytes + piece * 16 + in_row % 16;
}

static uint64_t descriptor(unsigned begin, unsigned swizzle_bytes, unsigned rows, unsigned k) {
  uint64_t kind = swizzle_bytes == 0 ? 0 : swizzle_bytes == 128 ? 1 : swizzle_bytes == 64 ? 2 : 3;
  uint64_t leading = swizzle_bytes ? 1 : rows * 16 / 16, stride = swizzle_bytes ? 8 * swizzle_bytes / 16 : 128 / 16;
  unsigned at = swizzle_bytes ? k / swizzle_bytes * rows * swizzle_bytes + k % swizzle_bytes : k / 16 * rows * 16;
  return (begin + at) / 16 | leading << 16 | stride << 32 | kind << 62;
}

static void lay_out(struct told *told) {
  memset(image, 0, sizeof image);
  for (unsigned k = 0; k < STEPS * K; k++) {
    for (unsigned row = 0; row < M; row++) image[place_of(told->swizzle_bytes, M, row, k)] = a[row][k];
    for (unsigned row = 0; row < (unsigned)told->n; row++)
      image[B + place_of(told->swizzle_bytes, (unsigned)told->n, row, k)] = b[row][k];
  }
  for (unsigned step = 0; step < STEPS; step++) {
    told->a_descriptor[step] = descriptor(0, told->swizzle_bytes, M, step * K);
    told->b_descriptor[step] = descriptor(B, told->swizzle_bytes, (unsigned)told->n, step * K);
    for (unsigned t = 0; t < WARPGROUP; t++)
      for (unsigned i = 0; i < 4; i++)
        memcpy(&a_registers[t][step][i], &a[t / 32 * 16 + t % 32 / 4 + i % 2 * 8][step * K + t % 4 * 4 + i / 2 * 16], 4);
  }
}

/* --- The product */

/* Shared memory becomes the image. */
static void fetch_image(void) {
  make_barriers(BARRIERS, 1);
  if (thread_index() == 0) {
    emu_call_mbarrier_arrive(shared(BARRIERS), BARRIERS, true);
    emu_call_bulk_load(shared(0), image, BARRIERS, shared(BARRIERS));
  }
  emu_call_mbarrier_wait(shared(BARRIERS), 0, false);
}

static void multiply(struct told told) {
  unsigned t = thread_index();
  float d[MOST_N / 2];
  unsigned registers[STEPS][4];
  fetch_image();
  memcpy(d, before[t], sizeof d);
  memcpy(registers, a_registers[t], sizeof registers);
  emu_call_wgmma_fence();
  for (int step = 0; step < told.steps; step++)
    emu_call_wgmma(d, told.n, told.a_is_in_registers ? 0 : told.a_descriptor[step],
                   told.a_is_in_registers ? registers[step] : NULL, told.b_descriptor[step], told.accumulate || step,
                   told.a_is_e5m2, told.b_is_e5m2);
  emu_call_wgmma_commit();
  emu_call_wgmma_wait(0);
  emu_call_access(d, (unsigned)told.n / 2 * 4, false);
  memcpy(results[t], d, sizeof d);
}

static unsigned bits_of(float x) {
  unsigned bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static void check(const struct told *told, unsigned first) {
  for (unsigned row = 0; row < M; row++)
    for (unsigned col = 0; col < (unsigned)told->n; col++) {
      unsigned t = first + row / 16 * 32 + row % 8 * 4 + col % 8 / 2, i = col / 8 * 4 + row % 16 / 8 * 2 + col % 2;
      float d = told->accumulate ? before[t][i] : 0;
      cr_assert_eq(fg_mma(told->a_is_e5m2 ? FG_E5M2 : FG_E4M3, a[row], told->b_is_e5m2 ? FG_E5M2 : FG_E4M3, b[col],
                          told->steps * K, d, &d, NULL),
                   FG_OK);
      cr_assert_eq(bits_of(results[t][i]), bits_of(d), "n %d, row %u, column %u: %a, and not %a", told->n, row, col,
                   (double)results[t][i], (double)d);
    }
}

/* Codes of one likeness, and accumulators of all kinds. */
static void draw_operands(uint64_t *state, struct told *told) {
  const enum values kinds[] = {GAUSSIAN, ZEROS, SUBNORMAL, UNEQUAL, ANY_CODE, NOT_FINITE};
  const float odd[] = {0.0f, -0.0f, 1e-30f, -1e30f, 1e-42f, 3.4e38f, 0x1p-85f, 0x1p-86f, INFINITY, NAN};
  enum values kind = kinds[random_below(state, sizeof kinds / sizeof *kinds)];
  told->a_is_e5m2 = random_below(state, 2), told->b_is_e5m2 = random_below(state, 2);
  for (int i = 0; i < M * STEPS * K; i++) (&a[0][0])[i] = random_code(kind, told->a_is_e5m2 ? FG_E5M2 : FG_E4M3, state);
  for (int i = 0; i < MOST_N * STEPS * K; i++) (&b[0][0])[i] = random_code(kind, told->b_is_e5m2 ? FG_E5M2 : FG_E4M3, state);
  for (int i = 0; i < 2 * WARPGROUP * MOST_N / 2; i++) {
    float ordinary = (float)(int32_t)next_random(state) * 0x1p-20f;
    (&before[0][0])[i] = random_below(state, 4) ? ordinary : odd[random_below(state, sizeof odd / sizeof *odd)];
  }
}

Test(emulator_wgmma, every_n_and_layout_has_the_tensor_cores_bits) {
  const unsigned swizzles[] = {0, 32, 64, 128};
  char message[EMU_MESSAGE_BYTES];
  uint64_t state = 1;
  for (int n = 8; n <= MOST_N; n += 8)
    for (int i = 0; i < 4; i++) {
      struct told told = {.n = n, .steps = 1 + (int)random_below(&state, STEPS), .swizzle_bytes = swizzles[i]};
      told.a_is_in_registers = random_below(&state, 2), told.accumulate = random_below(&state, 2);
      draw_operands(&state, &told);
      lay_out(&told);
      uint64_t seed = (uint64_t)random_below(&state, SEEDS);
      fg_set_isa((enum fg_isa)random_below(&state, FG_ISA_AVX512 + 1)); /* where the machine has it */
      cr_assert(run(multiply, &told, WARPGROUP, seed, message), "%s", message);
      check(&told, 0);
    }
}

/* A descriptor of another swizzle than the tile's reads other bytes: those where that one would have them. */
Test(emulator_wgmma, a_wrong_swizzle_is_another_matrix) {
  char message[EMU_MESSAGE_BYTES];
  uint64_t state = 2;
  struct told told = {.n = 64, .steps = 1, .swizzle_bytes = 128};
  draw_operands(&state, &told);
  lay_out(&told);
  told.b_descriptor[0] = descriptor(B, 64, 64, 0);
  for (unsigned row = 0; row < 64; row++)
    for (unsigned k = 0; k < K; k++) b[row][k] = image[B + place_of(64, 64, row, k)];
  cr_assert(run(multiply, &told, WARPGROUP, 0, message), "%s", message);
  check(&told, 0);
}

/* --- What the groups are for: two accumulators, one read while the other is still written */

static void two_groups(struct told told) {
  unsigned t = thread_index();
  float d[2][MOST_N / 2];
  fetch_image();
  memcpy(d[0], before[t], sizeof d[0]);
  memcpy(d[1], before[t], sizeof d[1]);
  emu_call_wgmma_fence();
  for (int i = 0; i < 2; i++) {
    for (int step = 0; step < told.steps; step++)
      emu_call_wgmma(d[i], told.n, told.a_descriptor[step], NULL, told.b_descriptor[step], true, told.a_is_e5m2, told.b_is_e5m2);
    emu_call_wgmma_commit();
  }
  emu_call_wgmma_wait(1);
  emu_call_access(d[told.wrong == 1], 16, false);
  memcpy(results[t], d[0], sizeof d[0]);
  if (told.wrong == 2) write_bytes(shared(16 * t), "overwritten", 12);
  emu_call_wgmma_wait(0);
  emu_call_access(d[1], 16, true);
  cr_assert_eq(memcmp(d[0], d[1], (size_t)told.n / 2 * 4), 0);
}

static struct told plain_told(uint64_t seed) {
  struct told told = {.n = 64, .steps = STEPS, .swizzle_bytes = 128, .accumulate = true};
  draw_operands(&seed, &told);
  lay_out(&told);
  return told;
}

/* Whatever the order, the launch ends by a fault that says one of these. */
static void fails(void (*kernel)(struct told), const struct told *told, unsigned threads, const char *sentences) {
  char message[EMU_MESSAGE_BYTES];
  for (uint64_t seed = 0; seed < SEEDS; seed++) {
    cr_assert_not(run(kernel, told, threads, seed, message), "seed %d: no fault: %s", (int)seed, sentences);
    cr_assert(says_one_of(message, sentences), "seed %d: '%s' is not in: %s", (int)seed, sentences, message);
  }
}

Test(emulator_wgmma, groups_end_in_order_on_two_warpgroups) {
  char message[EMU_MESSAGE_BYTES];
  struct told told;
  for (uint64_t seed = 0; seed < SEEDS; seed++) {
    told = plain_told(seed);
    cr_assert(run(two_groups, &told, 2 * WARPGROUP, seed, message), "%s", message);
    check(&told, 0);
    check(&told, WARPGROUP);
  }
  told.wrong = 1;
  fails(two_groups, &told, WARPGROUP, "reads d[0], which the wgmma_mma at ? may still be writing: wgmma_wait() is missing");
  told.wrong = 2;
  fails(two_groups, &told, WARPGROUP, "which the tensor core may still read for warpgroup 0");
}

/* --- What registers, descriptors and threads must keep to */

static void multiply_wrongly(struct told told) {
  unsigned t = thread_index(), wrong = (unsigned)told.wrong;
  float d[MOST_N / 2] = {0};
  unsigned registers[4] = {0};
  uint64_t a_descriptor = told.a_descriptor[0], b_descriptor = told.b_descriptor[0];
  int n = told.n;
  if (wrong == 1 || wrong == 2) { /* shared memory written by ordinary stores, not by the copy engine */
    for (unsigned i = t; i < 2 * B; i += WARPGROUP) write_bytes(shared(i), &(unsigned char){1}, 1);
    if (wrong == 2) emu_call_sync_threads();
  } else if (wrong == 3) {
    make_barriers(BARRIERS, 1);
  } else {
    fetch_image();
  }
  if (wrong == 4 && t == 100) return;
  if (wrong == 5 && t / 32 == 3) b_descriptor += 2;
  if (wrong == 6) n = 12;
  if (wrong == 7) a_descriptor |= 1 << 14;
  if (wrong == 8) b_descriptor |= UINT64_C(3) << 49;
  if (wrong == 9) b_descriptor += 512 / 16;
  if (wrong == 10) b_descriptor += 112 / 16;
  if (wrong == 11) b_descriptor ^= UINT64_C(512 / 16) << 32;
  if (wrong == 12) a_descriptor += (BARRIERS - 1024) / 16 / 64 * 64;
  if (wrong != 13) emu_call_wgmma_fence();
  if (wrong == 14) emu_call_access(&d[5], 4, true);
  if (wrong == 15) emu_call_access(&registers[2], 4, true);
  bool in_registers = wrong == 15 || wrong == 16;
  emu_call_wgmma(d, n, in_registers ? 0 : a_descriptor, in_registers ? registers : NULL, b_descriptor, t > 8 || wrong != 17,
                 false, wrong == 18 && t == 127);
  if (wrong == 16) emu_call_access(&registers[2], 4, true);
  if (wrong == 19) emu_call_wgmma(d, n / 2, a_descriptor, NULL, b_descriptor, true, false, false);
  if (wrong == 20) emu_call_wgmma(d + 4, n, a_descriptor, NULL, b_descriptor, true, false, false);
  if (wrong == 21) emu_call_access(&d[7], 4, true);
  if (wrong != 22 && wrong != 23) emu_call_wgmma_commit();
  if (wrong == 24) return;
  emu_call_wgmma_wait(0);
  if (wrong == 22) emu_call_access(&d[31], 4, false);
  if (wrong == 25) emu_call_wgmma_wait(8);
  if (wrong == 26) { /* what was right before is not for ever */
    emu_call_access(d, 4, false);
    emu_call_wgmma(d, n, a_descriptor, NULL, b_descriptor, true, false, false);
  }
  if (wrong == 27) write_bytes(image, d, 4), emu_call_shared_address(image);
}

Test(emulator_wgmma, what_is_wrong_is_told) {
  static const char *const sentences[] = {
      [1] = "fence_proxy_async() is missing|a barrier between the two is missing|which nobody has written",
      [2] = "fence_proxy_async() is missing",
      [3] = "wgmma_mma reads byte 0 of shared memory, which nobody has written",
      [4] = "waits for thread 100, which has left the kernel",
      [5] = "thread 96: wgmma_mma has another descriptor of b here than in thread 0",
      [6] = "wgmma_mma's n is 12; it is a multiple of 8 up to 256",
      [7] = "has bits set that mean nothing",
      [8] = "has a base offset, which the emulator does not model",
      [9] = "wgmma_mma's descriptor of b begins at byte 33280 of shared memory, 512 bytes after a multiple of 1024",
      [10] = "wgmma_mma's descriptor of b begins at byte 32880 of shared memory, 112 bytes after a multiple of 1024",
      [11] = "wgmma_mma's descriptor of b says that the next eight rows begin 1536 bytes further",
      [12] = "wgmma_mma's descriptor of a leads to byte 98304 of shared memory for row 16; the block has 98304 bytes",
      [13] = "wgmma_fence() is missing before the thread's first wgmma_mma",
      [14] = "registers of d were touched after wgmma_fence()",
      [15] = "registers of a were touched after wgmma_fence()",
      [16] = "writes a[2], which the wgmma_mma at ? may still be reading: wgmma_commit() after that is missing",
      [17] = "thread 9: wgmma_mma has another accumulate here than in thread 0",
      [18] = "thread 127: wgmma_mma has another type here than in thread 0",
      [19] = "wgmma_mma's d overlaps registers that the one at ? uses otherwise: wgmma_commit() after that is missing",
      [20] = "wgmma_mma's d overlaps registers that the one at ? uses otherwise: wgmma_commit() after that is missing",
      [21] = "writes d[7], which the wgmma_mma at ? may still be writing: wgmma_commit() after that is missing",
      [22] = "reads d[31], which the wgmma_mma at ? may still be writing: wgmma_commit() after that is missing",
      [23] = "the thread leaves the kernel while wgmma_mma may be under way: wgmma_commit() after that is missing",
      [24] = "the thread leaves the kernel while wgmma_mma may be under way: wgmma_wait() is missing",
      [25] = "wgmma_wait leaves 8 groups pending; it can leave 0 to 7",
      [26] = "registers of d were touched after wgmma_fence()",
      [27] = "shared_address: in_shared does not point to shared memory",
  };
  struct told told = plain_told(1);
  for (told.wrong = 1; told.wrong < (int)(sizeof sentences / sizeof *sentences); told.wrong++)
    fails(multiply_wrongly, &told, WARPGROUP, sentences[told.wrong]);
  told.wrong = 0;
  fails(multiply_wrongly, &told, WARPGROUP + 64, "that from thread 128 on has 64");
  char message[EMU_MESSAGE_BYTES];
  for (uint64_t seed = 0; seed < SEEDS; seed++) cr_assert(run(multiply_wrongly, &told, WARPGROUP, seed, message), "%s", message);
}
