/* What the emulator knows of shared memory. In each case one host function plays all threads of a cluster: it says what they do, one
 * after the other, with what makes it right or without. Without, the launch must end with a sentence that names the byte, what
 * happened to it before, and what is missing; with it, nothing must be said. */
#include "calls.h"
#include "emulator.h"
#include "support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { THREADS = 160, BLOCKS = 2, BYTES = 4000, WARPGROUP = 128 };

static void (*script)(struct emu_block *block, bool is_right);
static bool script_is_right;

static void play(void) {
  struct emu_thread *self = emu_self();
  if (self->actor == 0) script(self->block, script_is_right);
}

static bool run_with(void (*what)(struct emu_block *, bool), bool is_right, unsigned threads, char message[EMU_MESSAGE_BYTES]) {
  script = what;
  script_is_right = is_right;
  return emu_run(&(struct emu_launch){.kernel = "played",
                                      .entry = play,
                                      .grid = {BLOCKS, 1, 1},
                                      .block_size = {threads, 1, 1},
                                      .cluster_size = BLOCKS,
                                      .shared_bytes = BYTES,
                                      .registers = 32,
                                      .host_threads = 1},
                 message);
}

/* --- What threads do */

static struct emu_thread *as(struct emu_block *block, unsigned index, const char *what) {
  struct emu_thread *thread = &block->threads[index];
  thread->what = what;
  return thread;
}

static void store(struct emu_block *block, unsigned index, unsigned offset, unsigned bytes) {
  emu_shadow_access(block, offset, bytes, true, as(block, index, "an access"));
}

static void load(struct emu_block *block, unsigned index, unsigned offset, unsigned bytes) {
  emu_shadow_access(block, offset, bytes, false, as(block, index, "an access"));
}

static void fence(struct emu_block *block, unsigned index) { emu_fence_async(&block->threads[index]); }

/* From `first` to `last`, threads meet at a barrier. */
static void meet(struct emu_block *block, unsigned first, unsigned last) {
  struct emu_knowledge knowledge = emu_knowledge_make(block->cluster);
  for (unsigned i = first; i <= last; i++) emu_release(&block->threads[i], &knowledge);
  for (unsigned i = first; i <= last; i++) emu_acquire(&block->threads[i], &knowledge);
  emu_knowledge_free(&knowledge);
}

/* What the first knows, the second then knows too. */
static void tell(struct emu_thread *first, struct emu_thread *second) {
  struct emu_knowledge knowledge = emu_knowledge_make(first->block->cluster);
  emu_release(first, &knowledge);
  emu_acquire(second, &knowledge);
  emu_knowledge_free(&knowledge);
}

static unsigned barrier(struct emu_block *block) { return emu_actor_of_mbarrier(block, 3); }

static void ask_load(struct emu_block *block, unsigned index, unsigned offset, unsigned bytes, uint32_t phase) {
  emu_shadow_async_write(block, offset, bytes, barrier(block), phase, as(block, index, "tma_load"));
}

static void wait_for_load(struct emu_block *block, unsigned index, uint32_t phase) {
  emu_learn(&block->threads[index], barrier(block), phase);
}

/* Bytes 0 to 255 have been loaded, in the mbarrier's first phase. */
static void load_tile(struct emu_block *block) {
  ask_load(block, 0, 0, 256, 1);
  emu_shadow_landed(block, 0, 256);
}

static void multiply(struct emu_block *block, unsigned offset, unsigned bytes, uint32_t group) {
  emu_shadow_async_read_by(block, offset, bytes, emu_actor_of_warpgroup(block, 0), group, as(block, 0, "wgmma"), WARPGROUP);
}

static void ask_store(struct emu_block *block, unsigned index, unsigned offset, unsigned bytes, uint32_t group) {
  emu_shadow_async_read(block, offset, bytes, emu_actor_of_stores(block, 5), group, as(block, index, "tma_store"));
}

/* --- Threads among themselves */

static void load_after_store(struct emu_block *block, bool is_right) {
  store(block, 1, 64, 4);
  if (is_right) meet(block, 0, 40);
  load(block, 40, 64, 4);
}

static void store_after_store(struct emu_block *block, bool is_right) {
  store(block, 1, 64, 16);
  if (is_right) meet(block, 0, 40);
  store(block, 40, 68, 2);
}

static void store_after_load(struct emu_block *block, bool is_right) {
  store(block, 1, 64, 4);
  meet(block, 0, 2);
  load(block, 2, 64, 4);
  if (is_right) meet(block, 0, 2);
  store(block, 1, 64, 4);
}

/* All but one of very many readers are waited for. */
static void store_after_loads(struct emu_block *block, bool is_right) {
  store(block, 0, 64, 4);
  meet(block, 0, THREADS - 1);
  for (unsigned round = 0; round < 3; round++)
    for (unsigned i = 0; i < THREADS; i++) load(block, i, 64, 4);
  for (unsigned i = 1; i < THREADS; i++)
    if (is_right || i != 77) tell(&block->threads[i], &block->threads[0]);
  store(block, 0, 64, 4);
}

/* What is told to one is told to those whom he tells, and no more than what was before. */
static void told_by_another(struct emu_block *block, bool is_right) {
  struct emu_thread *threads = block->threads;
  if (is_right) store(block, 1, 64, 4);
  tell(&threads[1], &threads[2]);
  if (!is_right) store(block, 1, 64, 4);
  tell(&threads[2], &threads[3]);
  load(block, 3, 64, 4);
}

static void neighbours(struct emu_block *block, bool is_right) {
  for (unsigned i = 0; i < 64; i++) store(block, i, i, 1);
  for (unsigned i = 0; i < 16; i++) store(block, i, 64 + 2 * i, 2);
  for (unsigned i = 0; i < 16; i++) store(block, i, 128 + 4 * i, 4);
  for (unsigned i = 0; i < 64; i++) load(block, i, i, 1);
  for (unsigned i = 0; i < 16; i++) load(block, i, 64 + 2 * i, 2);
  for (unsigned i = 0; i < 16; i++) load(block, i, 128 + 4 * i, 4);
  if (is_right) meet(block, 0, THREADS - 1);
  store(block, 7, 7, 2);
}

/* Wide after narrow after wide: what was split has become one again. */
static void wide_and_narrow(struct emu_block *block, bool is_right) {
  store(block, 1, 0, 32);
  load(block, 1, 3, 1);
  meet(block, 1, 2);
  load(block, 2, 3, 1);
  meet(block, 1, 2);
  store(block, 1, 0, 32);
  load(block, 1, 17, 7);
  meet(block, 1, is_right ? 3 : 2);
  load(block, 2, 0, 32);
  load(block, 3, 20, 2);
}

static void not_written(struct emu_block *block, bool is_right) {
  store(block, 1, 32, is_right ? 16 : 12);
  load(block, 1, 32, 16);
}

static void out_of_bounds(struct emu_block *block, bool is_right) { store(block, 1, BYTES - 8, is_right ? 8 : 16); }

static void far_out_of_bounds(struct emu_block *block, bool is_right) { store(block, 1, is_right ? 0 : UINT32_MAX - 3, 8); }

static void mbarrier_touched(struct emu_block *block, bool is_right) {
  emu_shadow_reserve(block, 512, 8);
  store(block, 0, is_right ? 520 : 512, 8);
}

static void peer_written(struct emu_block *block, bool is_right) {
  struct emu_block *peer = block->cluster->blocks[1];
  store(block, 2, 16, 16);
  if (is_right) tell(&block->threads[2], &peer->threads[2]);
  emu_shadow_access(block, 16, 16, true, &peer->threads[2]);
}

static void peer_read(struct emu_block *block, bool is_right) {
  struct emu_block *peer = block->cluster->blocks[1];
  store(peer, 9, 16, 16);
  tell(&peer->threads[9], &block->threads[2]);
  emu_shadow_access(peer, 16, 16, false, &block->threads[2]);
  if (is_right) tell(&block->threads[2], &peer->threads[9]);
  store(peer, 9, 20, 4);
}

/* --- The copy engine's loads */

static void not_waited(struct emu_block *block, bool is_right) {
  load_tile(block);
  if (is_right) wait_for_load(block, 7, 1);
  load(block, 7, 100, 4);
}

static void under_way(struct emu_block *block, bool is_right) {
  ask_load(block, 0, 0, 256, 1);
  if (is_right) emu_shadow_landed(block, 0, 256), wait_for_load(block, 7, 1);
  load(block, 7, 100, 4);
}

static void too_few_expected(struct emu_block *block, bool is_right) {
  ask_load(block, 0, 0, 256, 1);
  emu_shadow_landed(block, 0, is_right ? 256 : 128);
  wait_for_load(block, 7, 1);
  load(block, 7, 100, 60);
}

static void loaded_twice(struct emu_block *block, bool is_right) {
  load_tile(block);
  if (is_right) wait_for_load(block, 0, 1);
  ask_load(block, 0, 240, 32, 2);
}

static void loaded_over_a_load(struct emu_block *block, bool is_right) {
  ask_load(block, 0, 0, 256, 1);
  ask_load(block, 0, is_right ? 256 : 240, 32, 1);
}

static void loaded_over_stores(struct emu_block *block, bool is_right) {
  store(block, 3, 100, 4);
  if (is_right) fence(block, 3);
  meet(block, 0, 3);
  ask_load(block, 0, 0, 256, 1);
}

static void loaded_over_reads(struct emu_block *block, bool is_right) {
  load_tile(block);
  wait_for_load(block, 7, 1);
  load(block, 7, 100, 4);
  tell(&block->threads[7], &block->threads[0]);
  if (!is_right) load(block, 7, 103, 1);
  ask_load(block, 0, 0, 256, 2);
}

static void stored_over_a_load(struct emu_block *block, bool is_right) {
  ask_load(block, 0, 0, 256, 1);
  store(block, 0, is_right ? 256 : 255, 1);
}

/* --- The tensor core */

/* The defect of a pipeline that gives a stage back too early: the warpgroup arrives before it has waited. */
static void stage_overwritten(struct emu_block *block, bool is_right) {
  load_tile(block);
  for (unsigned i = 0; i < WARPGROUP; i++) wait_for_load(block, i, 1);
  multiply(block, 0, 128, 1);
  struct emu_thread *first = &block->threads[0], *producer = &block->threads[WARPGROUP];
  if (is_right) emu_learn(first, emu_actor_of_warpgroup(block, 0), 1);
  tell(first, producer);
  emu_learn(first, emu_actor_of_warpgroup(block, 0), 1);
  ask_load(block, WARPGROUP, 0, 256, 2);
}

static void stored_over_operands(struct emu_block *block, bool is_right) {
  load_tile(block);
  for (unsigned i = 0; i < WARPGROUP; i++) wait_for_load(block, i, 1);
  multiply(block, 0, 128, 1);
  multiply(block, 0, 16, 2);
  emu_learn(&block->threads[5], emu_actor_of_warpgroup(block, 0), is_right ? 2 : 1);
  store(block, 5, 8, 4);
}

/* The tensor core reads what others have read too: who waits for it does not thereby know of them. */
static void read_beside_others(struct emu_block *block, bool is_right) {
  struct emu_thread *threads = block->threads, *writer = &threads[THREADS - 1];
  load_tile(block);
  for (unsigned i = 0; i < THREADS; i++) wait_for_load(block, i, 1);
  for (unsigned i = 140; i < 143; i++) load(block, i, 0, 16), tell(&threads[i], &threads[0]);
  multiply(block, 0, 16, 1);
  emu_learn(&threads[1], emu_actor_of_warpgroup(block, 0), 1);
  tell(&threads[is_right ? 0 : 1], &threads[1]);
  tell(&threads[1], writer);
  store(block, THREADS - 1, 0, 16);
}

static void one_has_not_waited(struct emu_block *block, bool is_right) {
  load_tile(block);
  for (unsigned i = 0; i < WARPGROUP; i++)
    if (is_right || i != 100) wait_for_load(block, i, 1);
  emu_shadow_async_read_by(block, 0, 16, emu_actor_of_warpgroup(block, 0), 1, as(block, 0, "wgmma"), EMU_WARP);
  for (unsigned row = 0; row < 4; row++) multiply(block, 64 * row, 32, 1);
}

static void operands_not_fenced(struct emu_block *block, bool is_right) {
  for (unsigned i = 0; i < WARPGROUP; i++) store(block, i, 4 * i, 4);
  for (unsigned i = 0; i < WARPGROUP; i++)
    if (is_right || i != 9) fence(block, i);
  meet(block, 0, WARPGROUP - 1);
  multiply(block, 0, 4 * WARPGROUP, 1);
}

/* A fence is for what was stored before, not for what others stored or what comes after. */
static void fenced_too_early(struct emu_block *block, bool is_right) {
  fence(block, 9);
  store(block, 9, 0, 16);
  if (is_right) fence(block, 9);
  meet(block, 0, WARPGROUP - 1);
  multiply(block, 0, 16, 1);
}

static void fenced_by_others(struct emu_block *block, bool is_right) {
  store(block, 9, 0, 16);
  if (is_right) fence(block, 9);
  meet(block, 0, WARPGROUP - 1);
  for (unsigned i = 0; i < WARPGROUP; i++) fence(block, i);
  meet(block, 0, is_right ? WARPGROUP - 1 : 8);
  multiply(block, 0, 16, 1);
}

static void fenced_too_late(struct emu_block *block, bool is_right) {
  store(block, 9, 0, 16);
  if (is_right) fence(block, 9);
  meet(block, 0, WARPGROUP - 1);
  fence(block, 9);
  multiply(block, 0, 16, 1);
}

static void operands_not_ordered(struct emu_block *block, bool is_right) {
  store(block, 9, 0, 16);
  fence(block, 9);
  if (is_right) meet(block, 0, WARPGROUP - 1);
  multiply(block, 0, 16, 1);
}

static void operands_not_written(struct emu_block *block, bool is_right) {
  load_tile(block);
  for (unsigned i = 0; i < WARPGROUP; i++) wait_for_load(block, i, 1);
  multiply(block, is_right ? 240 : 256, 16, 1);
}

/* --- The copy engine's stores */

static void store_not_fenced(struct emu_block *block, bool is_right) {
  store(block, 4, 0, 64);
  if (is_right) fence(block, 4);
  ask_store(block, 4, 0, 64, 1);
}

static void stored_over_a_store(struct emu_block *block, bool is_right) {
  store(block, 4, 0, 64);
  fence(block, 4);
  ask_store(block, 4, 0, 64, 1);
  if (is_right) emu_learn(&block->threads[4], emu_actor_of_stores(block, 5), 1);
  store(block, 4, 60, 4);
}

static void stored_over_sent(struct emu_block *block, bool is_right) {
  struct emu_block *peer = block->cluster->blocks[1];
  store(block, 4, 0, 64);
  fence(block, 4);
  emu_shadow_async_read(block, 0, 64, barrier(peer), 1, as(block, 4, "bulk_send"));
  if (is_right) {
    emu_learn(&peer->threads[0], barrier(peer), 1);
    tell(&peer->threads[0], &block->threads[4]);
  }
  store(block, 4, 16, 4);
}

/* --- Pointers */

static void pointer_outside(struct emu_block *block, bool is_right) {
  unsigned char other[16];
  const void *pointer = is_right ? block->shared : other;
  cr_assert_eq(emu_shared_offset(as(block, 1, "tma_load"), "to", pointer, 16, 16), 0);
}

static void pointer_to_peer(struct emu_block *block, bool is_right) {
  const struct emu_block *owner = block->cluster->blocks[is_right ? 0 : 1];
  cr_assert_eq(emu_shared_offset(as(block, 1, "tma_load"), "to", owner->shared + 32, 16, 16), 32);
}

static void pointer_not_aligned(struct emu_block *block, bool is_right) {
  unsigned offset = is_right ? 48 : 40;
  cr_assert_eq(emu_shared_offset(as(block, 1, "tma_load"), "to", block->shared + offset, 16, 16), offset);
}

static void pointer_near_the_end(struct emu_block *block, bool is_right) {
  unsigned offset = BYTES - (is_right ? 16 : 8);
  cr_assert_eq(emu_shared_offset(as(block, 1, "tma_load"), "to", block->shared + offset, 16, 8), offset);
}

static const struct {
  const char *name;
  void (*script)(struct emu_block *block, bool is_right);
  const char *sentences[3]; /* parts of what is said where it is not right */
} cases[] = {
    {"load after store",
     load_after_store,
     {"thread 40: reads byte 64 of shared memory, which thread 1 wrote", "a barrier between"}},
    {"store after store",
     store_after_store,
     {"thread 40: writes byte 68 of shared memory, which thread 1 wrote", "a barrier between"}},
    {"store after load",
     store_after_load,
     {"thread 1: writes byte 64 of shared memory, which thread 2 read", "a barrier between"}},
    {"store after many loads", store_after_loads, {"thread 0: writes byte 64 of shared memory, which thread 77 read"}},
    {"told by another", told_by_another, {"thread 3: reads byte 64 of shared memory, which thread 1 wrote"}},
    {"neighbours", neighbours, {"thread 7: writes byte 8 of shared memory, which thread 8 wrote"}},
    {"wide and narrow", wide_and_narrow, {"thread 3: reads byte 20 of shared memory, which thread 1 wrote"}},
    {"not written", not_written, {"thread 1: reads byte 44 of shared memory, which nobody has written"}},
    {"out of bounds", out_of_bounds, {"thread 1: writes 16 bytes from byte 3992 of shared memory, of which there are 4000"}},
    {"far out of bounds", far_out_of_bounds, {"writes 8 bytes from byte 4294967292 of shared memory, of which there are 4000"}},
    {"an mbarrier", mbarrier_touched, {"thread 0: writes byte 512 of shared memory, which is of the mbarrier initialised"}},
    {"a peer writes",
     peer_written,
     {"writes byte 16 of the shared memory of the cluster's block 0, which thread 2 of the cluster's block 0"}},
    {"a peer reads", peer_read, {"thread 9: writes byte 20 of shared memory, which thread 2 of the cluster's block 0 read"}},
    {"not waited",
     not_waited,
     {"thread 7: reads byte 100 of shared memory, which the copy engine", "for which the thread has not waited"}},
    {"under way",
     under_way,
     {"thread 7: reads byte 100 of shared memory, where the copy engine", "a wait for its mbarrier is missing"}},
    {"too few bytes expected", too_few_expected, {"thread 7: reads byte 128 of shared memory", "told of fewer bytes"}},
    {"loaded twice", loaded_twice, {"thread 0: tma_load writes byte 240 of shared memory, which the copy engine"}},
    {"loaded over a load", loaded_over_a_load, {"thread 0: tma_load writes byte 240 of shared memory, where the copy engine"}},
    {"loaded over stores",
     loaded_over_stores,
     {"thread 0: tma_load writes byte 100 of shared memory, which thread 3 stored", "fence_proxy_async() is missing"}},
    {"loaded over reads", loaded_over_reads, {"thread 0: tma_load writes byte 103 of shared memory, which thread 7 read"}},
    {"stored over a load", stored_over_a_load, {"thread 0: writes byte 255 of shared memory, where the copy engine"}},
    {"a stage overwritten",
     stage_overwritten,
     {"thread 128: tma_load writes byte 0 of shared memory, which the tensor core may still read for warpgroup 0",
      "wgmma_wait() is missing"}},
    {"stored over operands",
     stored_over_operands,
     {"thread 5: writes byte 8 of shared memory, which the tensor core may still read"}},
    {"read beside others", read_beside_others, {"thread 159: writes byte 0 of shared memory, which thread 140 read"}},
    {"one has not waited", one_has_not_waited, {"thread 100: wgmma reads byte 0 of shared memory, which the copy engine"}},
    {"operands not fenced",
     operands_not_fenced,
     {"thread 0: wgmma reads byte 36 of shared memory, which thread 9 stored", "fence_proxy_async() is missing"}},
    {"fenced too early", fenced_too_early, {"wgmma reads byte 0 of shared memory, which thread 9 stored"}},
    {"fenced by others", fenced_by_others, {"wgmma reads byte 0 of shared memory, which thread 9 stored"}},
    {"fenced too late", fenced_too_late, {"wgmma reads byte 0 of shared memory, which thread 9 stored"}},
    {"operands not ordered",
     operands_not_ordered,
     {"wgmma reads byte 0 of shared memory, which thread 9 wrote", "a barrier between"}},
    {"operands not written", operands_not_written, {"wgmma reads byte 256 of shared memory, which nobody has written"}},
    {"a store not fenced",
     store_not_fenced,
     {"thread 4: tma_store reads byte 0 of shared memory, which it itself stored", "fence_proxy_async() is missing"}},
    {"stored over a store",
     stored_over_a_store,
     {"thread 4: writes byte 60 of shared memory, which the copy engine", "bulk_wait_read() is missing"}},
    {"stored over what is sent",
     stored_over_sent,
     {"thread 4: writes byte 16 of shared memory, which the copy engine", "may still read to send it"}},
    {"a pointer outside", pointer_outside, {"thread 1: tma_load: to does not point to shared memory"}},
    {"a pointer to a peer", pointer_to_peer, {"tma_load: to is in the shared memory of the cluster's block 1, not of this one"}},
    {"a pointer not aligned", pointer_not_aligned, {"tma_load: to is byte 40 of shared memory, which is no multiple of 16"}},
    {"a pointer near the end",
     pointer_near_the_end,
     {"tma_load: to is byte 3992 of shared memory, from which there are fewer than 16"}},
};

Test(emulator_shadow, every_fault_is_found_and_nothing_else) {
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char message[EMU_MESSAGE_BYTES];
    cr_expect(run_with(cases[i].script, true, THREADS, message), "%s, right: %s", cases[i].name, message);
    bool is_right = run_with(cases[i].script, false, THREADS, message);
    cr_expect(!is_right, "%s: not found", cases[i].name);
    for (int j = 0; !is_right && j < 3 && cases[i].sentences[j]; j++)
      cr_expect(strstr(message, cases[i].sentences[j]), "%s: %s", cases[i].name, message);
  }
}

/* --- The fence as kernels call it, and fresh memory */

static void fence_called(struct emu_block *block, bool is_right) {
  store(block, 0, 0, 64);
  if (is_right) emu_call_fence_proxy_async();
  ask_store(block, 0, 0, 64, 1);
}

Test(emulator_shadow, fence_proxy_async_is_for_the_calling_thread) {
  char message[EMU_MESSAGE_BYTES];
  cr_expect(run_with(fence_called, true, THREADS, message), "%s", message);
  cr_expect_not(run_with(fence_called, false, THREADS, message));
}

static void fresh(struct emu_block *block, bool is_right) {
  (void)is_right;
  for (unsigned i = 0; i < BYTES; i += 4) {
    float x;
    memcpy(&x, block->shared + i, sizeof x);
    cr_assert(x != x);
    for (unsigned j = 0; j < 4; j++) {
      double e4m3 = decode(FG_E4M3, block->shared[i + j]), e5m2 = decode(FG_E5M2, block->shared[i + j]);
      cr_assert(e4m3 != e4m3 && e5m2 != e5m2);
    }
  }
}

Test(emulator_shadow, fresh_memory_is_nan) {
  char message[EMU_MESSAGE_BYTES];
  cr_expect(run_with(fresh, true, THREADS, message), "%s", message);
}

/* --- Against the definition: every byte by itself, and every actor's last read of it. */

enum { PLAIN_BYTES = 96, PLAIN_ACTORS = 6, PLAIN_THREADS = 3, OPERATIONS = 600, WARPGROUPS_ACTOR = 4 };

enum plain_fate { UNTOUCHED, BY_THREAD, COMING, ARRIVED };

static struct plain {
  enum plain_fate fate;
  unsigned writer;
  uint32_t epoch, read[PLAIN_ACTORS];
} plain[PLAIN_BYTES];
static uint64_t plain_state;
static struct emu_knowledge plain_knowledge; /* what was released; freed outside, since a fault ends the script */
static char plain_expected[64];              /* part of the sentence, "": none was due */

/* Actors 0 to 2 are threads, 3 and 5 mbarriers, 4 a warpgroup that consists of threads 0 and 1. */
static unsigned number_of(const struct emu_block *block, unsigned actor) {
  if (actor < PLAIN_THREADS) return actor;
  return actor == WARPGROUPS_ACTOR ? emu_actor_of_warpgroup(block, 0) : emu_actor_of_mbarrier(block, actor);
}

static bool knows(const struct emu_block *block, unsigned index, unsigned actor, uint32_t epoch) {
  return index == actor || block->threads[index].clock.at[number_of(block, actor)] >= epoch;
}

static bool may_follow(const struct emu_block *block, const struct plain *byte, unsigned index, bool is_write, bool is_async) {
  if (byte->fate == UNTOUCHED && !is_write) return false;
  if (byte->fate == COMING) return false;
  if (byte->fate != UNTOUCHED && !knows(block, index, byte->writer, byte->epoch)) return false;
  if (byte->fate == BY_THREAD && is_async && block->threads[index].fenced.at[byte->writer] < byte->epoch) return false;
  for (unsigned actor = 0; is_write && actor < PLAIN_ACTORS; actor++)
    if (!knows(block, index, actor, byte->read[actor])) return false;
  return true;
}

/* One access. A wrong one is made once in a while, and then ends the launch. */
static bool access(struct emu_block *block, uint32_t *epochs) {
  bool is_async = random_below(&plain_state, 3) == 0, is_write = random_below(&plain_state, 2) == 0;
  unsigned index = (unsigned)random_below(&plain_state, PLAIN_THREADS), actor = index, threads = 1, bytes, offset;
  if (is_async) {
    bytes = 16 * (1 + (unsigned)random_below(&plain_state, 3));
    offset = 16 * (unsigned)random_below(&plain_state, (PLAIN_BYTES - bytes) / 16 + 1);
    actor = is_write ? 3 : WARPGROUPS_ACTOR + (unsigned)random_below(&plain_state, 2);
    if (actor == WARPGROUPS_ACTOR) index = 0, threads = 2;
  } else {
    bytes = 1 + (unsigned)random_below(&plain_state, random_below(&plain_state, 2) ? 4 : 32);
    offset = (unsigned)random_below(&plain_state, PLAIN_BYTES - bytes + 1);
  }
  unsigned wrong = offset;
  for (bool is_right = true; wrong < offset + bytes; wrong += is_right) {
    for (unsigned i = 0; i < threads; i++) is_right = is_right && may_follow(block, &plain[wrong], index + i, is_write, is_async);
    if (!is_right) break;
  }
  bool is_wrong = wrong < offset + bytes;
  if (is_wrong && random_below(&plain_state, 40)) return true;
  if (is_wrong) snprintf(plain_expected, sizeof plain_expected, "%s byte %u of", is_write ? "writes" : "reads", wrong);
  struct emu_thread *by = &block->threads[index];
  uint32_t epoch = is_async ? epochs[actor] + 1 : by->clock.at[by->actor] + 1;
  for (unsigned i = offset; i < offset + bytes; i++) {
    if (is_write) plain[i] = (struct plain){.fate = is_async ? COMING : BY_THREAD, .writer = actor, .epoch = epoch};
    if (!is_write) plain[i].read[actor] = epoch;
  }
  if (!is_async)
    emu_shadow_access(block, offset, bytes, is_write, by);
  else if (is_write)
    emu_shadow_async_write(block, offset, bytes, number_of(block, actor), epoch, by);
  else
    emu_shadow_async_read_by(block, offset, bytes, number_of(block, actor), epoch, by, threads);
  return !is_wrong;
}

static void compare(struct emu_block *block, bool is_right) {
  (void)is_right;
  uint32_t epochs[PLAIN_ACTORS] = {0}; /* of those that are no threads: those that have ended */
  plain_knowledge = emu_knowledge_make(block->cluster);
  memset(plain, 0, sizeof plain);
  plain_expected[0] = 0;
  for (int i = 0; i < OPERATIONS; i++) {
    struct emu_thread *by = &block->threads[random_below(&plain_state, PLAIN_THREADS)];
    unsigned actor = PLAIN_THREADS + (unsigned)random_below(&plain_state, PLAIN_ACTORS - PLAIN_THREADS);
    switch (random_below(&plain_state, 12)) {
    case 0:
      emu_release(by, &plain_knowledge);
      break;
    case 1:
      emu_acquire(by, &plain_knowledge);
      break;
    case 2:
      emu_fence_async(by);
      break;
    case 3:
      emu_learn(by, number_of(block, actor), epochs[actor]);
      break;
    case 4: /* what the actor was asked for is done */
      epochs[actor]++;
      for (unsigned j = 0; j < PLAIN_BYTES; j++)
        if (plain[j].fate == COMING && plain[j].writer == actor) {
          plain[j].fate = ARRIVED;
          emu_shadow_landed(block, j, 1);
        }
      break;
    default:
      if (!access(block, epochs)) cr_assert_fail("not found: %s", plain_expected);
    }
  }
}

Test(emulator_shadow, agrees_with_what_each_byte_would_say_by_itself) {
  int faults = 0, none = 0;
  for (uint64_t seed = 1; seed <= 300; seed++) {
    char message[EMU_MESSAGE_BYTES];
    plain_state = seed;
    bool is_right = run_with(compare, true, PLAIN_THREADS, message);
    emu_knowledge_free(&plain_knowledge);
    cr_expect_eq(is_right, !plain_expected[0], "seed %d: due: %s; said: %s", (int)seed, plain_expected, message);
    cr_expect(is_right || strstr(message, plain_expected), "seed %d: due: %s; said: %s", (int)seed, plain_expected, message);
    faults += !is_right;
    none += is_right;
  }
  cr_expect(faults > 50, "%d faults, %d without", faults, none);
}
