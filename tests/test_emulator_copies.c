/* The emulator's copy engine between blocks and without maps; groups of stores; a peer's shared memory; stmatrix. */
#include "emulated_map.h"
#include "engine_kernels.h"
#include "support.h"

enum { GLOBAL = 1 << 16, HALF = GLOBAL / 2, TO = 1024, ROWS = 16, ROW = 64, BOX = ROWS * ROW, MOST_BLOCKS = 4, SHARED = 32768 };

static _Alignas(1024) unsigned char global[GLOBAL];

static void make_global(void) {
  uint64_t state = 1;
  for (int i = 0; i < GLOBAL; i++) global[i] = (unsigned char)next_random(&state);
  stub_register(global, sizeof global, STUB_PINNED);
}

static void free_global(void) { stub_register(global, sizeof global, STUB_UNKNOWN); }

TestSuite(emulator_copies, .init = make_global, .fini = free_global);

struct told {
  unsigned char map[EMU_MAP_BYTES]; /* of global, in rows of ROW bytes; aligned to 64, as all arguments are */
  int wrong;                        /* which defect the kernel has; 0: none */
  unsigned unused[8];
};

static struct told tell(void) {
  _Alignas(64) struct told told = {0};
  const uint64_t sizes[] = {ROW, GLOBAL / ROW, 1}, strides[] = {ROW, GLOBAL};
  const uint32_t box[] = {ROW, ROWS, 1}, ones[] = {1, 1, 1};
  cr_assert(emu_map_pack(told.map, 0, 3, global, sizes, strides, box, ones, 0, 0, 0, 0));
  return told;
}

static bool run(void (*kernel)(struct told), const struct told *told, unsigned blocks, unsigned threads, uint64_t seed,
                char message[EMU_MESSAGE_BYTES]) {
  return launch((void (*)(void))kernel, told, sizeof *told, blocks, threads, SHARED, seed, message);
}

static void passes(void (*kernel)(struct told), unsigned blocks, unsigned threads, uint64_t seed) {
  char message[EMU_MESSAGE_BYTES];
  _Alignas(64) struct told told = tell();
  cr_assert(run(kernel, &told, blocks, threads, seed, message), "seed %d: %s", (int)seed, message);
}

static void fails(void (*kernel)(struct told), int wrong, unsigned blocks, unsigned threads, const char *sentence) {
  char message[EMU_MESSAGE_BYTES];
  _Alignas(64) struct told told = tell();
  told.wrong = wrong;
  for (uint64_t seed = 0; seed < SEEDS; seed++) {
    cr_assert_not(run(kernel, &told, blocks, threads, seed, message), "seed %d: no fault: %s", (int)seed, sentence);
    cr_assert(says_one_of(message, sentence), "seed %d: '%s' is not in: %s", (int)seed, sentence, message);
  }
}

/* A thread's copy of what has come to its block's shared memory. */
static void show(unsigned at, unsigned offset, unsigned bytes) {
  for (unsigned i = 0; i < bytes; i++) global[HALF + at + i] = read_byte(shared(offset) + i);
}

/* --- Multicast: each block loads a part for itself and for those after it */

static unsigned rank(void) { return emu_call_view()->cluster_rank; }

KERNEL multicast(struct told told) {
  const int at[] = {0, (int)(rank() * ROWS), 0};
  make_barriers(0, 1);
  meet_cluster();
  if (told.wrong == 1 && rank() == 3) return; /* nobody need have come to it by then */
  if (thread_index() == 0) {
    emu_call_mbarrier_arrive(shared(0), (rank() + 1) * BOX - (told.wrong == 2 ? 16 : 0), true);
    emu_call_tma_load(shared(TO + rank() * BOX), told.map, shared(0), 3, at, 0xFu << rank() & 0xF, true);
  }
  if (told.wrong == 3 && rank() == 3) {
    meet_cluster();
    return;
  }
  emu_call_mbarrier_wait(shared(0), 0, false);
  if (thread_index() == 0) show(rank() * MOST_BLOCKS * BOX, TO, (rank() + 1) * BOX);
  if (told.wrong == 3) meet_cluster();
}

Test(emulator_copies, multicast_comes_to_each_block_and_tells_its_barrier) {
  for (uint64_t seed = 0; seed < SEEDS; seed++) {
    passes(multicast, MOST_BLOCKS, 32, seed);
    for (unsigned block = 0; block < MOST_BLOCKS; block++)
      cr_assert_eq(memcmp(global + HALF + block * MOST_BLOCKS * BOX, global, (block + 1) * BOX), 0, "seed %d", (int)seed);
    memset(global + HALF, 0, HALF);
  }
}

Test(emulator_copies, a_block_may_not_leave_while_its_memory_is_needed) {
  fails(
      multicast, 1, MOST_BLOCKS, 32,
      "block 3 of the cluster, which has left|block 3 of the cluster, which leaves|the block leaves the kernel in the midst of a phase");
  fails(
      multicast, 3, MOST_BLOCKS, 32,
      "may still need the shared memory of block 3 of the cluster|is still under way to the shared memory of block 3|the block leaves the kernel in the midst of a phase");
  char message[EMU_MESSAGE_BYTES];
  _Alignas(64) struct told told = tell();
  told.wrong = 2;
  for (uint64_t seed = 0; seed < SEEDS; seed++) cr_assert_not(run(multicast, &told, MOST_BLOCKS, 32, seed, message));
}

/* --- Bytes in a row */

/* From global memory, to the next block of the cluster, and back from there. */
static void around(struct told told) {
  unsigned next = (rank() + 1) % 2;
  make_barriers(0, 2);
  meet_cluster();
  if (thread_index() == 0) {
    emu_call_mbarrier_arrive(shared(0), BOX, true);
    emu_call_bulk_load(shared(TO), global + rank() * BOX, BOX, shared(0));
    emu_call_mbarrier_wait(shared(0), 0, false);
    emu_call_mbarrier_arrive(shared(8), BOX, true);
    meet_cluster();
    emu_call_bulk_send(shared(TO + BOX), next, shared(TO), BOX, shared(8));
    if (told.wrong == 1) write_bytes(shared(TO), "overwritten", 12);
    emu_call_mbarrier_wait(shared(8), 0, true);
    emu_call_bulk_store(global + HALF + rank() * BOX, shared(TO + BOX), BOX);
    emu_call_bulk_commit();
    emu_call_bulk_wait(0, true);
  }
  if (told.wrong != 2) meet_cluster();
}

Test(emulator_copies, bytes_go_around) {
  for (uint64_t seed = 0; seed < SEEDS; seed++) {
    passes(around, 2, 1, seed);
    for (unsigned block = 0; block < 2; block++)
      cr_assert_eq(memcmp(global + HALF + block * BOX, global + (1 - block) * BOX, BOX), 0, "seed %d", (int)seed);
    memset(global + HALF, 0, HALF);
  }
  fails(around, 1, 2, 1, "may still read to send it");
  fails(around, 2, 2, 1,
        "bulk_send may still need the shared memory of block|bulk_send is still under way from the shared memory of block");
}

/* --- Groups: of two stores, the first may be overwritten when one is still pending */

static void two_groups(struct told told) {
  if (thread_index()) return;
  for (unsigned i = 0; i < 2; i++) {
    for (unsigned j = 0; j < ROW; j++) write_bytes(shared(TO + i * ROW + j), &(unsigned char){(unsigned char)(i * ROW + j)}, 1);
    if (told.wrong != 1) emu_call_fence_proxy_async();
    emu_call_bulk_store(global + HALF + i * ROW, shared(TO + i * ROW), ROW);
    emu_call_bulk_commit();
  }
  emu_call_bulk_wait(1, true);
  write_bytes(shared(TO + (told.wrong == 2 ? ROW : 0)), "overwritten", 12);
  emu_call_bulk_wait(0, false);
  for (unsigned i = 0; i < 2 * ROW; i++) cr_assert_eq(global[HALF + i], i, "what is waited for is there");
  write_bytes(shared(TO + ROW), "overwritten", 12);
}

Test(emulator_copies, groups_are_waited_for_in_order) {
  for (uint64_t seed = 0; seed < SEEDS; seed++) passes(two_groups, 1, 1, seed);
  fails(two_groups, 1, 1, 1, "fence_proxy_async() is missing");
  fails(two_groups, 2, 1, 1, "writes byte 1088 of shared memory");
}

/* A thread that never stored commits nothing, and waits for nothing. */
static void no_groups(struct told told) {
  (void)told;
  emu_call_bulk_commit();
  emu_call_bulk_wait(0, true);
  emu_call_bulk_wait(0, false);
}

static void many_store(struct told told) {
  unsigned from = TO + 16 * thread_index();
  (void)told;
  for (unsigned i = 0; i < 16; i++) write_bytes(shared(from + i), &(unsigned char){7}, 1);
  emu_call_fence_proxy_async();
  emu_call_bulk_store(global + HALF + 16 * thread_index(), shared(from), 16);
  emu_call_bulk_commit();
  emu_call_bulk_wait(0, true);
}

Test(emulator_copies, threads_have_groups_of_their_own) {
  for (uint64_t seed = 0; seed < SEEDS; seed++) {
    passes(no_groups, 1, 64, seed);
    passes(many_store, 1, EMU_MOST_STORES, seed);
    for (unsigned i = 0; i < 16 * EMU_MOST_STORES; i++) cr_assert_eq(global[HALF + i], 7);
    memset(global + HALF, 0, HALF);
  }
  fails(many_store, 0, 1, EMU_MOST_STORES + 1, "thread number 129 that stores");
}

/* --- Four bytes, by threads themselves: thread 0 asks for two numbers and a zero, thread 1 reads them */

static void fours(struct told told) {
  static const unsigned char wanted[12] = {0};
  unsigned char *empty = shared(8);
  make_barriers(0, 2);
  if (thread_index() == 0) {
    for (unsigned turn = 0; turn < 2; turn++) {
      if (turn == 1 && told.wrong != 1) emu_call_mbarrier_wait(empty, 0, false);
      for (unsigned i = 0; i < 3; i++)
        emu_call_copy_four_bytes(shared(TO + 4 * i + (told.wrong == 2 ? 2 : 0)),
                                 global + (told.wrong == 3 ? 2 : 0) + (told.wrong == 4 ? GLOBAL : 4 * (turn + i)), i != 2);
      if (told.wrong == 5)
        emu_call_mbarrier_arrive(shared(0), 0, false);
      else
        emu_call_mbarrier_arrive_when_copied(shared(0));
    }
    if (told.wrong == 6) read_byte(shared(TO));
    if (told.wrong == 7) {
      emu_call_mbarrier_wait(shared(0), 1, false);
      emu_call_bulk_store(global + HALF, shared(TO), 16);
    }
  } else {
    for (unsigned turn = 0; turn < 2; turn++) {
      if (told.wrong == 8) return;
      if (told.wrong != 9) emu_call_mbarrier_wait(shared(0), turn, false);
      for (unsigned i = 0; i < 12; i++) {
        unsigned char byte = read_byte(shared(TO + i));
        cr_assert_eq(byte, i < 8 ? global[4 * turn + i] : wanted[i]);
      }
      emu_call_mbarrier_arrive(empty, 0, false);
    }
  }
}

Test(emulator_copies, threads_copy_for_themselves) {
  for (uint64_t seed = 0; seed < SEEDS; seed++) passes(fours, 1, 2, seed);
  fails(
      fours, 1, 1, 2,
      "is still under way: mbarrier_arrive_when_copied() is missing, or a wait|which thread 1 read|for which this one has not waited");
  fails(fours, 2, 1, 2, "copy_four_bytes: to is byte 1026 of shared memory, which is no multiple of 4");
  fails(fours, 3, 1, 2, "in global memory; it is a multiple of 4");
  fails(fours, 4, 1, 2, "copy_four_bytes reads global memory where it may not");
  fails(fours, 5, 1, 2, "is still under way: mbarrier_arrive_when_copied() is missing, or a wait");
  fails(fours, 6, 1, 2, "is still under way: mbarrier_arrive_when_copied() is missing|for which this one has not waited");
  fails(fours, 7, 1, 2, "came by ordinary means|which nobody has written");
  fails(fours, 8, 1, 2, "nobody can ever go on");
  fails(fours, 9, 1, 2, "which nobody has written|is still under way|for which this one has not waited");
}

/* Nobody waits for what was asked for last. */
static void fours_left(struct told told) {
  make_barriers(0, 1);
  emu_call_copy_four_bytes(shared(TO), global, true);
  if (told.wrong == 1) emu_call_mbarrier_arrive_when_copied(shared(0));
}

/* An arrival after no copies tells of none, and of nothing else. */
static void no_fours(struct told told) {
  make_barriers(0, 1);
  if (thread_index() == 0) {
    write_bytes(shared(TO), "told", 4);
    if (told.wrong == 1) emu_call_mbarrier_arrive_when_copied(shared(0));
    if (told.wrong != 1) emu_call_mbarrier_arrive(shared(0), told.wrong == 2 ? 16 : 0, told.wrong == 2);
    if (told.wrong == 2) emu_call_mbarrier_arrive_when_copied(shared(0));
  } else {
    emu_call_mbarrier_wait(shared(0), 0, false);
    read_byte(shared(TO));
  }
}

Test(emulator_copies, a_block_does_not_leave_before_its_threads_copies) {
  fails(fours_left, 0, 1, 1,
        "copy_four_bytes may still come to shared memory when its block leaves the kernel: "
        "mbarrier_arrive_when_copied() is missing");
  fails(
      fours_left, 1, 1, 1,
      "copy_four_bytes may still come to shared memory when its block leaves the kernel: a wait|may still need the shared memory");
  for (uint64_t seed = 0; seed < SEEDS; seed++) passes(no_fours, 1, 2, seed);
  fails(no_fours, 1, 1, 2, "which thread 0 wrote");
  fails(no_fours, 2, 1, 2, "arrives at the mbarrier at byte 0, initialised at ?, once too often");
}

static void prefetched(struct told told) { emu_call_prefetch(global + (told.wrong ? GLOBAL : GLOBAL - 1)); }

Test(emulator_copies, a_line_is_asked_for_where_there_is_one) {
  passes(prefetched, 1, 1, 0);
  fails(prefetched, 1, 1, 1, "prefetch is of global memory where it may not");
}

/* --- A peer's shared memory */

static void reach(struct told told) {
  float value[4] = {(float)rank(), 1, 2, 3};
  unsigned other = 1 - rank();
  meet_cluster();
  emu_call_remote(shared(TO + (told.wrong == 1 ? 8 : 0)), told.wrong == 2 ? 2 : other, value, sizeof value, true);
  if (told.wrong != 3) meet_cluster();
  emu_call_access(shared(TO), 4, false);
  cr_assert_eq(*(float *)(void *)shared(TO), (float)other);
  emu_call_remote(shared(TO), other, value, sizeof value, false);
  cr_assert_eq(value[0], (float)rank());
  if (told.wrong != 4) meet_cluster();
}

Test(emulator_copies, a_peers_memory_is_read_and_written) {
  for (uint64_t seed = 0; seed < SEEDS; seed++) passes(reach, 2, 1, seed);
  fails(reach, 1, 2, 1, "store_remote: in_shared is byte 1032 of shared memory, which is no multiple of 16");
  fails(reach, 2, 2, 1, "store_remote names block 2 of the cluster, which has 2");
  fails(reach, 3, 2, 1, "reads byte 1024 of shared memory, which");
  fails(reach, 4, 2, 1, "reaches into the shared memory of the cluster's block");
}

/* --- stmatrix: matrix i of warp w is the rows from TO + (4 w + i) * 8 on */

static void store_matrices(struct told told) {
  unsigned thread = thread_index() % 32, warp = thread_index() / 32;
  unsigned m[4];
  unsigned char *row = shared(TO + 16 * (warp * 32 + thread));
  for (unsigned i = 0; i < 4; i++) { /* an element is its matrix, row and column */
    unsigned low = warp << 12 | i << 8 | thread / 4 << 4 | thread % 4 * 2;
    m[i] = low | (low + 1) << 16;
  }
  if (told.wrong == 1) row += 8;
  if (told.wrong == 2 && thread == 31) return;
  emu_call_stmatrix(row, m, told.wrong == 3);
  emu_call_sync_warp(0xFFFFFFFF);
  for (unsigned i = 0; i < 16; i++) global[HALF + (unsigned)(row - shared(TO)) + i] = read_byte(row + i);
}

Test(emulator_copies, matrices_are_stored_plain_and_transposed) {
  for (uint64_t seed = 0; seed < 2 * SEEDS; seed++) {
    char message[EMU_MESSAGE_BYTES];
    _Alignas(64) struct told told = tell();
    told.wrong = seed % 2 ? 3 : 0;
    cr_assert(run(store_matrices, &told, 1, 64, seed / 2, message), "%s", message);
    for (unsigned at = 0; at < 2 * 4 * 8 * 8; at++) {
      unsigned warp = at / 256, matrix = at / 64 % 4, row = at / 8 % 8, col = at % 8;
      unsigned short expected = (unsigned short)(warp << 12 | matrix << 8 | (told.wrong ? col << 4 | row : row << 4 | col)),
                     found;
      memcpy(&found, global + HALF + 2 * at, 2);
      cr_assert_eq(found, expected, "row %u, column %u", row, col);
    }
    memset(global + HALF, 0, HALF);
  }
  fails(store_matrices, 1, 1, 64, "stmatrix: row is byte");
  fails(store_matrices, 2, 1, 64,
        "stmatrix waits for thread 31, which has left the kernel|stmatrix waits for thread 63, which has left the kernel");
  fails(store_matrices, 0, 1, 40, "stmatrix is by a warp of 32 threads; that from thread 32 on has 8");
}
