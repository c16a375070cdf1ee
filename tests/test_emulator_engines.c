/* The emulator's copy engine: every swizzle, what lies outside, multicast, groups, and what it will not have. */
#include "emulated_map.h"
#include "engine_kernels.h"
#include "support.h"

enum {
  GLOBAL = 1 << 17,
  HALF = GLOBAL / 2, /* the second one is where kernels store */
  TO = 4096,         /* in shared memory */
  BARRIERS = 0,
  SHARED = TO + 64 * 1024,
  TYPES = 3
};

static _Alignas(1024) unsigned char global[GLOBAL];

static void make_global(void) {
  uint64_t state = 1;
  for (int i = 0; i < GLOBAL; i++) global[i] = (unsigned char)next_random(&state);
  stub_register(global, sizeof global, STUB_PINNED);
}

static void free_global(void) { stub_register(global, sizeof global, STUB_UNKNOWN); }

TestSuite(emulator_engines, .init = make_global, .fini = free_global);

/* What kernels are told. */
struct told {
  unsigned char maps[2][EMU_MAP_BYTES]; /* aligned to 64, as all arguments are */
  int rank, at[2][3];
  unsigned swizzle, row_bytes, bytes, offset; /* of the box, and where it goes */
  int wrong;                                  /* which defect the kernel has; 0: none */
};

static bool run(void (*kernel)(struct told), const struct told *told, unsigned blocks, unsigned threads, uint64_t seed,
                char message[EMU_MESSAGE_BYTES]) {
  return launch((void (*)(void))kernel, told, sizeof *told, blocks, threads, SHARED, seed, message);
}

static void passes(void (*kernel)(struct told), const struct told *told, unsigned blocks, unsigned threads, uint64_t seed) {
  char message[EMU_MESSAGE_BYTES];
  cr_assert(run(kernel, told, blocks, threads, seed, message), "seed %d: %s", (int)seed, message);
}

/* Whatever the order, the launch ends by a fault that says this. */
static void fails(void (*kernel)(struct told), const struct told *told, unsigned blocks, unsigned threads, const char *sentence) {
  char message[EMU_MESSAGE_BYTES];
  for (uint64_t seed = 0; seed < SEEDS; seed++) {
    cr_assert_not(run(kernel, told, blocks, threads, seed, message), "seed %d: no fault: %s", (int)seed, sentence);
    cr_assert(says_one_of(message, sentence), "seed %d: '%s' is not in: %s", (int)seed, sentence, message);
  }
}

/* --- Boxes */

struct tensor {
  unsigned type, element, begin; /* in global */
  uint64_t sizes[3], strides[2];
  uint32_t box[3];
};

static void pack(unsigned char *to, const struct tensor *tensor, unsigned rank, unsigned swizzle) {
  const uint32_t ones[] = {1, 1, 1};
  cr_assert(emu_map_pack(to, tensor->type, rank, global + tensor->begin, tensor->sizes, tensor->strides, tensor->box, ones, 0,
                         swizzle, 0, 0));
}

static unsigned pick(uint64_t *state, unsigned least, unsigned most) {
  return least + (unsigned)random_below(state, most - least + 1);
}

/* A tensor whose boxes have rows of `row_bytes`, with gaps between rows and matrices. */
static struct tensor make_tensor(uint64_t *state, unsigned row_bytes, unsigned begin) {
  static const unsigned types[TYPES] = {0, 9, 7}; /* bytes, BF16, FP32 */
  struct tensor tensor = {.type = types[random_below(state, TYPES)], .begin = begin};
  tensor.element = emu_map_element_bytes(tensor.type);
  tensor.box[0] = row_bytes / tensor.element, tensor.box[1] = pick(state, 1, 40), tensor.box[2] = pick(state, 1, 3);
  tensor.sizes[0] = pick(state, 1, 200) / tensor.element + 1, tensor.sizes[1] = pick(state, 1, 50),
  tensor.sizes[2] = pick(state, 1, 4);
  tensor.strides[0] = (tensor.sizes[0] * tensor.element + 15) / 16 * 16 + 16 * pick(state, 0, 1);
  tensor.strides[1] = tensor.strides[0] * (tensor.sizes[1] + pick(state, 0, 1));
  cr_assert_leq(tensor.strides[1] * tensor.sizes[2], HALF);
  return tensor;
}

/* The byte in row (y, z) at `in_row` of a box, in global; NULL: outside of the tensor. */
static unsigned char *byte_of(const struct tensor *tensor, const int at[3], unsigned in_row, unsigned y, unsigned z) {
  int64_t x = at[0] + (int64_t)(in_row / tensor->element), row = at[1] + (int64_t)y, matrix = at[2] + (int64_t)z;
  if (x < 0 || row < 0 || matrix < 0 || x >= (int64_t)tensor->sizes[0] || row >= (int64_t)tensor->sizes[1] ||
      matrix >= (int64_t)tensor->sizes[2])
    return NULL;
  return global + tensor->begin + (uint64_t)matrix * tensor->strides[1] + (uint64_t)row * tensor->strides[0] +
         (uint64_t)x * tensor->element + in_row % tensor->element;
}

/* CUDA C++ Programming Guide, "Swizzle modes": in row r of those that begin at a multiple of the pattern, piece p goes to p ^ r, for
 * 128 bytes, p ^ r / 2 for 64, p ^ r / 4 for 32. */
static unsigned swizzled(unsigned address, unsigned row_bytes, unsigned swizzle_bytes) {
  if (!swizzle_bytes) return address;
  unsigned row = address / row_bytes, piece = address % row_bytes / 16, rows = 128 / swizzle_bytes;
  return row * row_bytes + (piece ^ (row / rows % (swizzle_bytes / 16))) * 16 + address % 16;
}

/* Loads a box, stores what has come to the other tensor, and lets thread 1 copy it as it lies. */
KERNEL round_trip(struct told told) {
  unsigned char *to = shared(told.offset), *barrier = shared(BARRIERS);
  make_barriers(BARRIERS, 1);
  if (thread_index() == 0) {
    emu_call_tma_prefetch(told.maps[0]);
    emu_call_mbarrier_arrive(barrier, told.bytes, true);
    emu_call_tma_load(to, told.maps[0], barrier, told.rank, told.at[0], 0, false);
  }
  if (told.wrong != 1) emu_call_mbarrier_wait(barrier, 0, false);
  if (thread_index() == 1)
    for (unsigned i = 0; i < told.bytes; i++) global[HALF - told.bytes + i] = read_byte(to + i);
  if (thread_index() == 0) {
    emu_call_tma_store(told.maps[1], to, told.rank, told.at[1]);
    if (told.wrong != 2) emu_call_bulk_commit();
    if (told.wrong != 3) emu_call_bulk_wait(told.wrong == 4, true);
  }
}

static void check_box(const struct told *told, const struct tensor *from, const struct tensor *to, unsigned depth) {
  for (unsigned z = 0; z < depth; z++)
    for (unsigned y = 0; y < from->box[1]; y++)
      for (unsigned i = 0; i < told->row_bytes; i++) {
        const unsigned char *source = byte_of(from, told->at[0], i, y, z), *stored = byte_of(to, told->at[1], i, y, z);
        unsigned char expected = source ? *source : 0;
        unsigned place = swizzled(told->offset + (z * from->box[1] + y) * told->row_bytes + i, told->row_bytes,
                                  emu_map_swizzle_bytes(told->swizzle)) -
                         told->offset;
        cr_assert_eq(global[HALF - told->bytes + place], expected, "byte %u of row %u of matrix %u", i, y, z);
        if (stored) cr_assert_eq(*stored, expected, "byte %u of row %u of matrix %u, stored", i, y, z);
      }
}

static unsigned char before[HALF];

/* What is stored, and nothing beside it. */
static void check_rest(const struct told *told, const struct tensor *to, unsigned depth) {
  for (unsigned z = 0; z < depth; z++)
    for (unsigned y = 0; y < to->box[1]; y++)
      for (unsigned i = 0; i < told->row_bytes; i++) {
        const unsigned char *stored = byte_of(to, told->at[1], i, y, z);
        if (stored) before[stored - global - HALF] = *stored;
      }
  cr_assert_eq(memcmp(before, global + HALF, HALF), 0);
}

static void draw_round_trip(uint64_t seed, unsigned swizzle, struct told *told, struct tensor *from, struct tensor *to) {
  uint64_t state = seed;
  *told = (struct told){.swizzle = swizzle, .rank = (int)pick(&state, 2, 3)};
  told->row_bytes = swizzle ? emu_map_swizzle_bytes(swizzle) : 16 * pick(&state, 1, 9);
  told->offset = TO + 128 * pick(&state, 0, 15);
  *from = make_tensor(&state, told->row_bytes, 0);
  *to = make_tensor(&state, told->row_bytes, HALF);
  to->type = from->type, to->element = from->element;
  to->sizes[0] +=
      (16 / to->element - to->sizes[0] % (16 / to->element)) % (16 / to->element); /* no store is cut off within a piece */
  to->strides[0] = (to->sizes[0] * to->element + 15) / 16 * 16, to->strides[1] = to->strides[0] * to->sizes[1];
  memcpy(to->box, from->box, sizeof to->box);
  for (int i = 0; i < 2; i++) {
    const struct tensor *tensor = i ? to : from;
    for (int j = 0; j < told->rank; j++)
      told->at[i][j] = (int)pick(&state, 0, (unsigned)tensor->sizes[j] + tensor->box[j] + 2) - (int)tensor->box[j] - 1;
    told->at[i][0] -= told->at[i][0] % (16 / (int)tensor->element);
    for (int j = 0; i && j < told->rank; j++) /* a store's are not negative */
      if (told->at[i][j] < 0) told->at[i][j] = 0;
    pack(told->maps[i], tensor, (unsigned)told->rank, swizzle);
  }
  told->bytes = told->row_bytes * from->box[1] * (told->rank == 3 ? from->box[2] : 1);
}

Test(emulator_engines, every_swizzle_comes_and_goes_and_what_lies_outside_does_not) {
  _Alignas(64) struct told told;
  struct tensor from, to;
  for (unsigned swizzle = 0; swizzle <= 3; swizzle++)
    for (uint64_t seed = 0; seed < 4 * SEEDS; seed++) {
      draw_round_trip(100 * seed + swizzle, swizzle, &told, &from, &to);
      unsigned depth = told.rank == 3 ? from.box[2] : 1;
      memcpy(before, global + HALF, HALF);
      passes(round_trip, &told, 1, 32, seed % SEEDS);
      check_box(&told, &from, &to, depth);
      check_rest(&told, &to, depth);
      make_global();
    }
}

/* A box of 16 rows of 128 bytes, all of it in the tensor. */
static struct told plain_told(void) {
  _Alignas(64) struct told told = {.rank = 3, .row_bytes = 128, .bytes = 2048, .offset = TO, .swizzle = EMU_MAP_SWIZZLE_128B};
  struct tensor tensor = {.element = 1, .sizes = {256, 64, 2}, .strides = {256, 256 * 64}, .box = {128, 16, 1}};
  pack(told.maps[0], &tensor, 3, told.swizzle);
  tensor.begin = HALF;
  pack(told.maps[1], &tensor, 3, told.swizzle);
  return told;
}

Test(emulator_engines, a_copy_that_nobody_waits_for) {
  _Alignas(64) struct told told = plain_told();
  told.wrong = 1;
  fails(round_trip, &told, 1, 32,
        "a wait for its mbarrier is missing|reads byte 4096 of shared memory, which nobody has written");
  told.wrong = 2;
  fails(round_trip, &told, 1, 32, "bulk_commit() is missing");
  told.wrong = 3;
  fails(round_trip, &told, 1, 32,
        "tma_store may still read shared memory when its block leaves the kernel: bulk_wait_read() is missing");
  told.wrong = 4;
  fails(round_trip, &told, 1, 32, "or leaves this group pending");
}

Test(emulator_engines, a_store_is_not_cut_off_within_a_piece) {
  _Alignas(64) struct told told = {.rank = 2, .row_bytes = 48, .bytes = 48, .offset = TO};
  struct tensor tensor = {.element = 1, .sizes = {90, 1, 1}, .strides = {112, 112}, .box = {48, 1, 1}};
  for (uint64_t seed = 0; seed < SEEDS; seed++)
    for (int x = 0; x <= 64; x += 16) {
      pack(told.maps[0], &tensor, 2, 0);
      tensor.begin = HALF;
      pack(told.maps[1], &tensor, 2, 0);
      tensor.begin = 0;
      told.at[0][0] = told.at[1][0] = x;
      if (x + 48 <= 90)
        passes(round_trip, &told, 1, 32, seed);
      else
        fails(round_trip, &told, 1, 32,
              "tma_store_2d reaches beyond the tensor's row of 90 bytes, which does not end with a piece of 16");
    }
  make_global();
}

/* --- What a map and its user must keep to */

/* Asks for one load or store, wrongly. */
KERNEL ask_wrongly(struct told told) {
  _Alignas(64) unsigned char copied[EMU_MAP_BYTES];
  const unsigned char *map = told.maps[0];
  const int at[] = {0, 0, 0}, off[] = {8, 0, 0}, above[] = {0, -1, 0};
  memcpy(copied, map, sizeof copied);
  make_barriers(BARRIERS, 1);
  if (thread_index()) return;
  switch (told.wrong) {
  case 1:
    emu_call_tma_load(shared(TO), copied, shared(BARRIERS), 3, at, 0, false);
    break;
  case 2:
    emu_call_tma_load(shared(TO), shared(TO), shared(BARRIERS), 3, at, 0, false);
    break;
  case 3:
    emu_call_tma_load(shared(TO), map + 32, shared(BARRIERS), 3, at, 0, false);
    break;
  case 4:
    emu_call_tma_load(shared(TO), map + 64, shared(BARRIERS), 3, at, 0, false);
    break;
  case 5:
    emu_call_tma_load(shared(TO + 64), map, shared(BARRIERS), 3, at, 0, false);
    break;
  case 6:
    emu_call_tma_load(shared(SHARED - 1024), map, shared(BARRIERS), 3, at, 0, false);
    break;
  case 7:
    emu_call_tma_load(global, map, shared(BARRIERS), 3, at, 0, false);
    break;
  case 8:
    emu_call_tma_load(shared(TO), map, shared(BARRIERS), 2, at, 0, false);
    break;
  case 9:
    emu_call_tma_load(shared(TO), map, shared(BARRIERS + 8), 3, at, 0, false);
    break;
  case 10:
    emu_call_tma_load(shared(TO), map, shared(BARRIERS), 3, at, 2, true);
    break;
  case 11:
    emu_call_tma_load(shared(TO), map, shared(BARRIERS), 3, at, 0, true);
    break;
  case 12:
    emu_call_tma_prefetch(map + 64);
    break;
  case 13:
    emu_call_tma_load(shared(TO), global, shared(BARRIERS), 3, at, 0, false);
    break;
  case 14:
    emu_call_bulk_load(shared(TO), global, 24, shared(BARRIERS));
    break;
  case 15:
    emu_call_bulk_load(shared(TO), global + 8, 32, shared(BARRIERS));
    break;
  case 16:
    emu_call_bulk_load(shared(TO + 8), global, 32, shared(BARRIERS));
    break;
  case 17:
    emu_call_bulk_load(shared(TO), global + GLOBAL - 16, 32, shared(BARRIERS));
    break;
  case 18:
    emu_call_bulk_store(global, shared(TO), 16);
    break;
  case 19:
    emu_call_bulk_send(shared(TO), 1, shared(TO), 16, shared(BARRIERS));
    break;
  case 20:
    emu_call_tma_store(map, shared(TO), 3, at);
    break;
  case 21:
    emu_call_tma_load(shared(TO), map, shared(BARRIERS), 3, off, 0, false);
    break;
  case 22:
    emu_call_tma_store(map, shared(TO), 3, above);
    break;
  default:
    emu_call_tma_load(shared(TO), map, shared(BARRIERS), 3, at, 0, false);
    break;
  }
}

Test(emulator_engines, what_the_copy_engine_is_asked_must_be_right) {
  static const char *const sentences[] = {
      [1] = "is neither in the kernel's parameter nor in global memory",
      [2] = "is neither in the kernel's parameter nor in global memory",
      [3] = "it is at a multiple of 64",
      [4] = "is no tensor map",
      [5] = "tma_load: to is byte 4160 of shared memory, which is no multiple of 128",
      [6] = "tma_load: to is byte 68608 of shared memory, from which there are fewer than 2048 bytes",
      [7] = "tma_load: to does not point to shared memory",
      [8] = "has 3 dimensions, and the copy is one of 2",
      [9] = "where none has been initialised",
      [10] = "is to the blocks 0x2; the cluster has 1",
      [11] = "it is to one at least",
      [12] = "is no tensor map",
      [13] = "is no tensor map",
      [14] = "bulk_load copies 24 bytes; it copies a multiple of 16",
      [15] = "it is a multiple of 16",
      [16] = "bulk_load: to is byte 4104 of shared memory, which is no multiple of 16",
      [17] = "bulk_load copies 32 bytes in global memory where it may not",
      [18] = "bulk_store reads byte 4096 of shared memory, which nobody has written",
      [19] = "bulk_send names block 1 of the cluster, which has 1",
      [20] = "tma_store reads byte 4096 of shared memory, which nobody has written",
      [21] = "tma_load begins at element 8 along a row; the copy engine begins at a multiple of 16 bytes",
      [22] = "tma_store is to -1 along dimension 1",
  };
  _Alignas(64) struct told told = plain_told();
  for (told.wrong = 1; told.wrong < (int)(sizeof sentences / sizeof *sentences); told.wrong++)
    fails(ask_wrongly, &told, 1, 1, sentences[told.wrong]);
}

Test(emulator_engines, what_is_not_modelled_is_refused) {
  const uint64_t sizes[] = {64, 64, 2}, strides[] = {256, 256 * 64};
  const uint32_t box[] = {16, 16, 1}, ones[] = {1, 1, 1}, twos[] = {2, 2, 1};
  const struct {
    unsigned type, interleave, swizzle, fill;
    const uint32_t *steps;
    const char *sentence;
  } cases[] = {{0, 1, 0, 0, ones, "is interleaved"},
               {7, 0, 0, 1, ones, "fills with NaN"},
               {10, 0, 0, 0, ones, "type 10 changes numbers"},
               {0, 0, 0, 0, twos, "takes one element of 2 along dimension 1"},
               {0, 0, 2, 0, ones, "rows of 16 bytes and a swizzle of 64"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    _Alignas(64) struct told told = {.rank = 3};
    cr_assert(emu_map_pack(told.maps[0], cases[i].type, 3, global, sizes, strides, box, cases[i].steps, cases[i].interleave,
                           cases[i].swizzle, 0, cases[i].fill));
    fails(ask_wrongly, &told, 1, 1, cases[i].sentence);
  }
}

Test(emulator_engines, a_tensor_must_lie_in_memory) {
  _Alignas(64) struct told told = plain_told();
  struct tensor tensor = {
      .element = 1, .begin = GLOBAL - 4096, .sizes = {256, 64, 1}, .strides = {512, 512 * 64}, .box = {128, 16, 1}};
  pack(told.maps[0], &tensor, 3, 0);
  fails(ask_wrongly, &told, 1, 1, "row 8 of the box at (0, 0, 0) lies in the tensor, but not in memory");
}

/* Rules of the driver's reference, each broken alone. */
Test(emulator_engines, the_driver_packs_what_its_reference_allows) {
  struct args {
    uint64_t sizes[5], strides[4];
    uint32_t box[5], steps[5];
    unsigned type, rank, interleave, swizzle, promotion, fill, to, from;
  };
  const struct args right = {
      {64, 8, 8, 8, 8}, {64, 512, 4096, 32768}, {32, 8, 1, 1, 256}, {1, 2, 8, 1, 1}, 0, 5, 0, 3, 3, 0, 0, 0};
  static _Alignas(128) unsigned char map[2 * EMU_MAP_BYTES];
  struct args args[24];
  for (int i = 0; i < 24; i++) args[i] = right;
  args[1].sizes[4] = 0, args[2].sizes[0] = (UINT64_C(1) << 32) + 1, args[3].strides[3] = 8,
  args[4].strides[0] = UINT64_C(1) << 40;
  args[5].box[2] = 0, args[6].box[1] = 257, args[7].steps[1] = 9, args[8].steps[4] = 0, args[9].type = 13, args[10].rank = 6;
  args[11].rank = 0, args[12].interleave = 3, args[13].swizzle = 4, args[14].promotion = 4, args[15].fill = 1, args[16].to = 32;
  args[17].from = 8, args[18].box[0] = 24, args[19].box[0] = 144, args[20].interleave = 2, args[21].interleave = 1,
  args[21].rank = 2;
  args[22].interleave = 2, args[22].swizzle = 1, args[22].from = 16;
  args[23].interleave = 2, args[23].swizzle = 1, args[23].strides[0] = 48;
  for (int i = 0; i < 24; i++) {
    memset(map, 0xAA, sizeof map);
    const struct args *it = &args[i];
    bool is_packed = emu_map_pack(map + it->to, it->type, it->rank, global + it->from, it->sizes, it->strides, it->box, it->steps,
                                  it->interleave, it->swizzle, it->promotion, it->fill);
    cr_assert_eq(is_packed, i == 0, "case %d", i);
    for (size_t j = is_packed ? EMU_MAP_BYTES : 0; j < sizeof map; j++)
      cr_assert_eq(map[j], 0xAA, "case %d wrote byte %zu", i, j);
  }
}
