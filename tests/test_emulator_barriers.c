/* Where the emulator's threads meet. Kernels are host functions that call what kernels call, right or with one thing wrong, each under 21
 * seeds: what is right must go through, and what is wrong must be found, under every one unless the test says otherwise. */
#include "calls.h"
#include "emulator.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

enum { SEEDS = 21, BYTES = 4096, LAUNCHED_WITH = 168, WARPGROUP = 128 };
static const unsigned FULL = 0xFFFFFFFF;

static bool is_wrong; /* what the kernel does: the one wrong thing, or everything right */
static int variant;   /* which */

struct shape {
  unsigned threads, blocks; /* one cluster of so many blocks */
};

static bool run(void (*kernel)(void), struct shape shape, uint64_t seed, char message[EMU_MESSAGE_BYTES]) {
  return emu_run(&(struct emu_launch){.kernel = "tried",
                                      .entry = kernel,
                                      .grid = {shape.blocks, 1, 1},
                                      .block_size = {shape.threads, 1, 1},
                                      .cluster_size = shape.blocks,
                                      .shared_bytes = BYTES,
                                      .registers = LAUNCHED_WITH,
                                      .seed = seed,
                                      .most_steps = 1 << 20,
                                      .host_threads = 1},
                 message);
}

/* Nothing is said of it under any seed. */
static void goes_through(void (*kernel)(void), struct shape shape) {
  char message[EMU_MESSAGE_BYTES];
  is_wrong = false;
  for (uint64_t seed = 0; seed < SEEDS; seed++) cr_expect(run(kernel, shape, seed, message), "seed %d: %s", (int)seed, message);
}

/* Under how many seeds a sentence with these words is said of it. */
static int found(void (*kernel)(void), struct shape shape, const char *words) {
  char message[EMU_MESSAGE_BYTES];
  int count = 0;
  is_wrong = true;
  for (uint64_t seed = 0; seed < SEEDS; seed++) count += !run(kernel, shape, seed, message) && strstr(message, words);
  return count;
}

static void is_found(void (*kernel)(void), struct shape shape, const char *words) {
  char message[EMU_MESSAGE_BYTES];
  is_wrong = true;
  for (uint64_t seed = 0; seed < SEEDS; seed++) {
    cr_expect_not(run(kernel, shape, seed, message), "seed %d should say: %s", (int)seed, words);
    cr_expect(strstr(message, words), "seed %d: \"%s\" should have \"%s\"", (int)seed, message, words);
  }
}

static void tells_apart(void (*kernel)(void), struct shape shape, const char *words) {
  goes_through(kernel, shape);
  is_found(kernel, shape, words);
}

/* --- What kernels are made of */

static unsigned thread(void) { return emu_call_view()->thread.x; }
static unsigned lane(void) { return thread() % EMU_WARP; }
static unsigned warp(void) { return thread() / EMU_WARP; }
static unsigned rank(void) { return emu_call_view()->cluster_rank; }

/* The block's shared memory: first barriers, then numbers. */
static unsigned char *barrier(int i) { return emu_call_view()->shared + 8 * i; }
static unsigned *number(unsigned i) { return (unsigned *)(void *)(emu_call_view()->shared + 1024) + i; }

static void put(unsigned i, unsigned value) {
  emu_call_access(number(i), sizeof value, true);
  *number(i) = value;
}

static unsigned get(unsigned i) {
  emu_call_access(number(i), sizeof(unsigned), false);
  return *number(i);
}

/* As an assert() of the kernel. Criterion's own leave by longjmp(), which a fibre must not. */
#define HOLDS(condition)                                                                                                         \
  do {                                                                                                                           \
    if (!(condition)) emu_fault(emu_self(), NULL, "does not hold: %s, line %d", #condition, __LINE__);                           \
  } while (0)

/* About so many cycles. */
static void pass_time(unsigned cycles) {
  for (emu_time until = emu_self()->now + cycles; emu_self()->now < until;) emu_call_fence_proxy_async();
}

/* One place, whatever the compiler makes of what is around it. */
__attribute__((noinline)) static void meet_all(void) {
  emu_call_cluster_arrive();
  emu_call_cluster_wait();
  __asm__ volatile("nop");
}

/* Initialised by thread 0 for all of the cluster. */
static void initialise(int count, const unsigned *arrivals) {
  if (thread() == 0) {
    for (int i = 0; i < count; i++) emu_call_mbarrier_init(barrier(i), arrivals[i]);
    emu_call_fence_mbarrier_init();
  }
  meet_all();
}

/* --- Warps */

static void shuffles(void) {
  unsigned value = 100 * warp() + lane();
  for (unsigned by = 0; by < EMU_WARP; by++) {
    HOLDS(emu_call_shuffle(FULL, value, EMU_SHUFFLE_INDEX, by) == 100 * warp() + by);
    HOLDS(emu_call_shuffle(FULL, value, EMU_SHUFFLE_UP, by) == (lane() >= by ? value - by : value));
    HOLDS(emu_call_shuffle(FULL, value, EMU_SHUFFLE_DOWN, by) == (lane() + by < EMU_WARP ? value + by : value));
    HOLDS(emu_call_shuffle(FULL, value, EMU_SHUFFLE_XOR, by) == 100 * warp() + (lane() ^ by));
    HOLDS(emu_call_shuffle(FULL, value, EMU_SHUFFLE_INDEX, lane() + by) == 100 * warp() + (lane() + by) % EMU_WARP);
  }
}
Test(emulator_barriers, a_warp_exchanges_values) { goes_through(shuffles, (struct shape){96, 1}); }

/* Halves of a warp need not wait for each other, nor come to the same line. */
static void halves(void) {
  unsigned mask = lane() < 16 ? 0xFFFF : 0xFFFF0000;
  if (lane() < 16) {
    for (unsigned i = 0; i < 5; i++) HOLDS(emu_call_shuffle(mask, lane(), EMU_SHUFFLE_XOR, 1) == (lane() ^ 1));
    HOLDS(emu_call_ballot(mask, lane() % 2) == 0xAAAA);
  } else {
    HOLDS(emu_call_ballot(mask, lane() == 20) == 1u << 20);
    emu_call_sync_warp(mask);
  }
  if (lane() % 2)
    HOLDS(emu_call_ballot(FULL, lane() == 1 || lane() == 30) == (2u | 1u << 30));
  else
    HOLDS(emu_call_ballot(FULL, lane() == 1 || lane() == 30) == (2u | 1u << 30));
}
Test(emulator_barriers, parts_of_a_warp_meet_by_masks) { goes_through(halves, (struct shape){64, 1}); }

static void partial_warp(void) {
  unsigned lanes = warp() == 3 ? 4 : 32, all = lanes == 32 ? FULL : 0xF;
  HOLDS(emu_call_ballot(FULL, true) == all);
  emu_call_sync_warp(FULL);
  unsigned elected = emu_call_ballot(FULL, emu_call_elect());
  HOLDS(elected && !(elected & (elected - 1)));
  emu_call_sync_threads();
  emu_call_named_barrier(2, 128, true);
}
Test(emulator_barriers, a_block_may_end_with_part_of_a_warp) { goes_through(partial_warp, (struct shape){100, 1}); }

static unsigned leaders;
static void elects(void) {
  unsigned first = emu_call_ballot(FULL, emu_call_elect());
  HOLDS(first && !(first & (first - 1)));
  for (int i = 0; i < 3; i++) HOLDS(emu_call_ballot(FULL, emu_call_elect()) == first);
  leaders |= first;
  if (emu_self()->block->cluster->launch->seed == 0) HOLDS(first == 1);
}
Test(emulator_barriers, one_thread_is_elected_and_always_the_same) {
  goes_through(elects, (struct shape){128, 1});
  cr_assert(leaders & ~1u, "no seed elects another than the first");
}

static void ordered_in_a_warp(void) {
  put(thread(), thread());
  if (!is_wrong)
    emu_call_sync_warp(FULL);
  else if (variant == 0)
    emu_call_shuffle(FULL, 0, EMU_SHUFFLE_INDEX, 0);
  else if (variant == 1)
    emu_call_ballot(FULL, true);
  else
    emu_call_elect();
  HOLDS(get(thread() ^ 1) == (thread() ^ 1));
}
Test(emulator_barriers, only_sync_warp_orders_memory) {
  for (variant = 0; variant < 3; variant++)
    tells_apart(ordered_in_a_warp, (struct shape){64, 1}, "a barrier between the two is missing");
}

static void diverges(void) {
  switch (is_wrong && lane() >= 16 ? variant : -1) {
  case 0:
    emu_call_ballot(FULL, true);
    break;
  case 1:
    emu_call_shuffle(0xFFFFFF00, 0, EMU_SHUFFLE_XOR, 0);
    break;
  case 2:
    emu_call_shuffle(FULL, 0, EMU_SHUFFLE_UP, 0);
    break;
  case 3:
    emu_call_sync_threads();
    break;
  default:
    emu_call_shuffle(FULL, 0, EMU_SHUFFLE_XOR, 0);
  }
}
Test(emulator_barriers, another_call_in_a_warp_is_found) {
  static const char *const words[] = {"all of them must come to the same call", "the mask 0xffff", "another argument",
                                      "all of them must come to the same call"};
  for (variant = 0; variant < 4; variant++) tells_apart(diverges, (struct shape){64, 1}, words[variant]);
}

enum { KINDS = 5, LATER = KINDS };
static void one_leaves(void) {
  if (is_wrong && thread() == 37) {
    if (variant >= LATER) pass_time(2000);
    return;
  }
  if (variant % KINDS == 0) emu_call_sync_warp(FULL);
  if (variant % KINDS == 1) emu_call_sync_threads();
  if (variant % KINDS == 2) emu_call_named_barrier(1, 64, true);
  if (variant % KINDS == 3) emu_call_cluster_arrive(), emu_call_cluster_wait();
  if (variant % KINDS == 4) emu_call_elect();
}
Test(emulator_barriers, a_thread_of_the_warp_that_has_left_is_found) {
  for (variant = 0; variant < 2 * KINDS; variant++)
    tells_apart(one_leaves, (struct shape){64, 1}, "thread 37, which has left the kernel");
}

static void wrong_masks(void) {
  if (!is_wrong) return;
  if (variant == 0) emu_call_sync_warp(FULL & ~(1u << 3));
  if (variant == 1) emu_call_sync_warp(0);
  if (variant == 2 && lane() < 8) emu_call_shuffle(0xFF, 0, EMU_SHUFFLE_INDEX, 9);
}
Test(emulator_barriers, a_mask_without_the_thread_or_its_source_is_found) {
  static const char *const words[] = {"in which the thread itself is not", "in which the thread itself is not",
                                      "takes the value of thread 9, which is not in the mask"};
  for (variant = 0; variant < 3; variant++) tells_apart(wrong_masks, (struct shape){32, 1}, words[variant]);
}

static void before_the_warpgroup(void) {
  for (unsigned i = 0; i < 3 * warp(); i++) HOLDS(emu_call_shuffle(FULL, lane(), EMU_SHUFFLE_XOR, 1) == (lane() ^ 1));
  emu_call_registers(LAUNCHED_WITH, true);
  HOLDS(emu_call_ballot(FULL, true) == FULL);
}
Test(emulator_barriers, warps_may_meet_before_their_warpgroup_does) {
  goes_through(before_the_warpgroup, (struct shape){WARPGROUP, 1});
}

/* --- Blocks */

static void ordered_in_a_block(void) {
  unsigned threads = emu_call_view()->block_size.x;
  for (unsigned turn = 0; turn < 6; turn++) {
    put(thread(), turn + thread());
    emu_call_sync_threads();
    unsigned other = (thread() + 40) % threads;
    HOLDS(get(other) == turn + other);
    if (!is_wrong) emu_call_sync_threads();
  }
}
Test(emulator_barriers, a_block_meets) {
  tells_apart(ordered_in_a_block, (struct shape){160, 1}, "a barrier between the two is missing");
  goes_through(ordered_in_a_block, (struct shape){100, 1});
}

/* Warps may come at lines of their own; those that have left are not waited for. */
static void warps_apart(void) {
  if (warp() == 1) return;
  if (warp() == 2) {
    emu_call_sync_threads();
    emu_call_sync_threads();
    return;
  }
  emu_call_sync_threads();
  emu_call_sync_threads();
  if (warp() == 0) emu_call_sync_threads();
}
Test(emulator_barriers, warps_come_at_their_own_lines_and_may_have_left) { goes_through(warps_apart, (struct shape){96, 1}); }

/* What follows keeps the compiler from making one place of the two. */
static void lines_apart(void) {
  if (is_wrong && lane() == 5) {
    emu_call_sync_threads();
    __asm__ volatile("nop");
  } else {
    emu_call_sync_threads();
    __asm__ volatile("nop\n nop");
  }
}
Test(emulator_barriers, a_warp_at_two_lines_is_found) {
  tells_apart(lines_apart, (struct shape){64, 1}, "all of them must come to the same call");
}

/* --- Named barriers */

/* Warps 0 and 1 fill, 2 and 3 empty; who fills waits only for the room. */
static void in_turns(void) {
  enum { FILLED = 1, EMPTIED = 2 };
  for (unsigned turn = 0; turn < 8; turn++)
    if (warp() < 2) {
      if (turn && !is_wrong) emu_call_named_barrier(EMPTIED, 128, true);
      put(thread(), turn);
      emu_call_named_barrier(FILLED, 128, false);
    } else {
      emu_call_named_barrier(FILLED, 128, true);
      HOLDS(get(thread() - 64) == turn);
      if (turn < 7) emu_call_named_barrier(EMPTIED, 128, false);
    }
}
Test(emulator_barriers, named_barriers_hand_over) {
  struct shape shape = {128, 1};
  goes_through(in_turns, shape);
  int races = found(in_turns, shape, "a barrier between the two is missing");
  cr_expect(races > 0 && races + found(in_turns, shape, "arrives a second time at barrier 1") == SEEDS);
}

/* Any two that come are let through, also while half of another warp is there. */
static void any_two(void) {
  emu_call_named_barrier(1, 64, true);
  HOLDS(emu_call_ballot(FULL, true) == FULL);
}
Test(emulator_barriers, warps_are_let_through_whole) { goes_through(any_two, (struct shape){256, 1}); }

/* Warps 2 and 3 come after 0 and 1, to the same barrier, but learn nothing of them. */
static void other_two(void) {
  if (warp() < 2) put(thread(), 0);
  if (warp() >= 2) pass_time(2000);
  emu_call_named_barrier(1, 64, true);
  if (warp() >= 2) get(thread() - 64);
}
Test(emulator_barriers, a_barrier_forgets_who_came_before) {
  char message[EMU_MESSAGE_BYTES];
  cr_assert_not(run(other_two, (struct shape){128, 1}, 0, message));
  cr_assert(strstr(message, "a barrier between the two is missing"), "%s", message);
}

static emu_time slowest;
static void slow_ones(void) {
  initialise(1, (unsigned[]){96});
  for (unsigned turn = 0; turn < 5; turn++) {
    if (thread() == 40) {
      pass_time(1000);
      slowest = emu_self()->now;
    }
    if (turn == 0) emu_call_sync_threads();
    if (turn == 1) emu_call_named_barrier(1, 96, true);
    if (turn == 2) meet_all();
    if (turn == 3) emu_call_mbarrier_arrive(barrier(0), 0, false), emu_call_mbarrier_wait(barrier(0), 0, false);
    if (turn == 4) emu_call_sync_warp(FULL);
    HOLDS(emu_self()->now >= slowest || (turn == 4 && warp() != 1));
    emu_call_sync_threads();
  }
}
Test(emulator_barriers, nobody_goes_on_before_the_slowest_has_come) { goes_through(slow_ones, (struct shape){96, 1}); }

static void named_arguments(void) {
  static const int wrong[][2] = {{0, 64}, {16, 64}, {-1, 64}, {1, 48}, {1, 0}, {1, -32}, {1, 96}};
  emu_call_named_barrier(is_wrong ? wrong[variant][0] : 15, is_wrong ? wrong[variant][1] : 64, true);
}
Test(emulator_barriers, a_named_barrier_has_a_number_and_whole_warps) {
  static const char *const words[] = {"there are 1 to 15",
                                      "there are 1 to 15",
                                      "there are 1 to 15",
                                      "48 threads, which is not",
                                      "0 threads, which is not",
                                      "-32 threads, which is not",
                                      "96 threads, and the block has 64"};
  for (variant = 0; variant < 7; variant++) tells_apart(named_arguments, (struct shape){64, 1}, words[variant]);
}

static void two_counts(void) { emu_call_named_barrier(3, is_wrong && warp() == 2 ? 64 : 96, true); }
Test(emulator_barriers, a_named_barrier_for_two_counts_is_found) {
  tells_apart(two_counts, (struct shape){96, 1}, "at barrier 3, where warps wait that came for");
}

static void within_a_warp(void) {
  if (variant == 0) emu_call_named_barrier(is_wrong && lane() == 9 ? 4 : 3, 64, true);
  if (variant == 1) emu_call_named_barrier(3, 64, !(is_wrong && lane() == 9));
}
Test(emulator_barriers, a_named_barrier_is_the_same_for_a_warp) {
  for (variant = 0; variant < 2; variant++)
    tells_apart(within_a_warp, (struct shape){64, 1}, variant ? "must come to the same call" : "another argument");
}

static void unfilled(void) {
  if (warp() < (is_wrong ? 2 : 3)) emu_call_named_barrier(5, 96, true);
}
Test(emulator_barriers, a_named_barrier_that_is_never_filled_is_told) {
  tells_apart(unfilled, (struct shape){96, 1},
              "warps 0 to 1 wait in named_barrier_sync at ? for named barrier 5, where 64 of 96 threads have come");
}

/* --- Clusters */

static void cluster_turns(void) {
  meet_all();
  for (unsigned turn = 0; turn < 5; turn++) {
    float mine[4] = {(float)(turn + rank()), 0, 0, 0}, theirs[4];
    unsigned to = (rank() + 1) % emu_call_view()->cluster_size;
    if (thread() == 0) emu_call_remote(number(16), to, mine, sizeof mine, true);
    emu_call_cluster_arrive();
    if (!is_wrong) emu_call_cluster_wait();
    if (thread() == 40) emu_call_remote(number(16), to, theirs, sizeof theirs, false);
    if (thread() == 40 && !is_wrong) HOLDS(theirs[0] == mine[0]);
    if (is_wrong) emu_call_cluster_wait();
    meet_all();
  }
}
Test(emulator_barriers, a_cluster_meets) {
  goes_through(cluster_turns, (struct shape){64, 2});
  goes_through(cluster_turns, (struct shape){96, 4});
  goes_through(cluster_turns, (struct shape){64, 1});
  is_found(cluster_turns, (struct shape){64, 2}, "of the cluster's block");
}

static void cluster_misuse(void) {
  if (is_wrong && variant == 0) emu_call_cluster_arrive();
  if (is_wrong && variant == 1) emu_call_cluster_wait();
  meet_all();
}
Test(emulator_barriers, a_cluster_s_barrier_is_arrived_at_and_waited_for) {
  variant = 0;
  tells_apart(cluster_misuse, (struct shape){64, 2}, "cluster_arrive comes a second time");
  variant = 1;
  tells_apart(cluster_misuse, (struct shape){64, 2}, "cluster_wait comes without cluster_arrive");
}

/* Whole warps that have left, before or after they arrived, are not waited for. */
static void cluster_leavers(void) {
  if (rank() == 1 && warp() == 1) return;
  emu_call_cluster_arrive();
  if (warp() == 0) return;
  emu_call_cluster_wait();
  meet_all();
}
Test(emulator_barriers, a_cluster_does_not_wait_for_those_who_have_left) { goes_through(cluster_leavers, (struct shape){96, 2}); }

static void cluster_hangs(void) {
  if (is_wrong && rank() == 1 && warp() == 1) emu_call_named_barrier(1, 64, true);
  meet_all();
}
Test(emulator_barriers, who_waits_for_a_cluster_is_told) {
  tells_apart(cluster_hangs, (struct shape){64, 2}, "for the cluster's barrier, where 96 of 128 threads have arrived");
}

/* --- Registers */

/* Two warpgroups multiply, one copies. */
static void hand_over(void) {
  static const int right[][2] = {{40, 232}, {24, 240}};
  bool multiplies = thread() / WARPGROUP != 0;
  int count = is_wrong && multiplies ? 240 : right[variant][multiplies];
  emu_call_registers(count, !multiplies);
  HOLDS(emu_self()->registers == (unsigned)count);
}
Test(emulator_barriers, registers_go_from_one_warpgroup_to_another) {
  for (variant = 0; variant < 2; variant++) goes_through(hand_over, (struct shape){3 * WARPGROUP, 1});
}
Test(emulator_barriers, more_registers_than_there_are_is_a_deadlock_that_says_so) {
  is_found(
      hand_over, (struct shape){3 * WARPGROUP, 1},
      "wait in registers_take at ? for 240 registers for each thread of its warpgroup: that is 9216 more, and of what others "
      "gave back 7168 are left");
}

static void register_counts(void) {
  static const struct {
    int count;
    bool gives;
  } wrong[] = {{16, true}, {264, false}, {100, true}, {176, true}, {160, false}};
  if (is_wrong) emu_call_registers(wrong[variant].count, wrong[variant].gives);
  emu_call_registers(LAUNCHED_WITH, true);
}
Test(emulator_barriers, numbers_of_registers_are_held_to_the_rules) {
  static const char *const words[] = {"a multiple of 8 registers from 24 to 256", "a multiple of 8 registers from 24 to 256",
                                      "a multiple of 8 registers from 24 to 256", "registers_give(176) where the thread has 168",
                                      "registers_take(160) where the thread has 168"};
  for (variant = 0; variant < 5; variant++) tells_apart(register_counts, (struct shape){WARPGROUP, 1}, words[variant]);
}

static void part_of_a_warpgroup(void) {
  if (is_wrong || thread() < WARPGROUP) emu_call_registers(40, true);
}
Test(emulator_barriers, registers_are_a_warpgroup_s) {
  tells_apart(part_of_a_warpgroup, (struct shape){WARPGROUP + 32, 1},
              "is for a warpgroup of 128 threads, and the block's last has 32");
}

static void twice(void) {
  emu_call_registers(40, true);
  if (!is_wrong) emu_call_named_barrier(1, WARPGROUP, true);
  emu_call_registers(168, false);
}
Test(emulator_barriers, warps_meet_between_changes_of_registers) {
  tells_apart(twice, (struct shape){WARPGROUP, 1}, "have not met at a barrier since the first");
}

/* --- mbarriers */

/* Warp 0 fills a ring of two, warps 1 and 2 empty it. */
static void ring(void) {
  enum { STAGES = 2, TURNS = 20, FULL_ONES = 0, EMPTY_ONES = STAGES };
  initialise(4, (unsigned[]){32, 32, 64, 64});
  for (unsigned turn = 0; turn < TURNS; turn++) {
    unsigned stage = turn % STAGES, parity = turn / STAGES % 2;
    void *full = barrier(FULL_ONES + (int)stage), *empty = barrier(EMPTY_ONES + (int)stage);
    if (warp() == 0) {
      if (!(is_wrong && variant == 0)) emu_call_mbarrier_wait(empty, parity ^ 1, false);
      put(32 * stage + lane(), turn + lane());
      emu_call_mbarrier_arrive(full, 0, false);
    } else {
      if (!(is_wrong && variant == 1)) emu_call_mbarrier_wait(full, is_wrong && variant == 2 ? parity ^ 1 : parity, false);
      HOLDS(get(32 * stage + (lane() ^ 3)) == turn + (lane() ^ 3));
      emu_call_mbarrier_arrive(empty, 0, false);
    }
  }
}
Test(emulator_barriers, a_ring_turns) { goes_through(ring, (struct shape){96, 1}); }

/* Where the other side happens to be far ahead it shows otherwise: wrong numbers, a phase that was missed, a deadlock. */
Test(emulator_barriers, a_ring_without_a_wait_is_found) {
  for (variant = 0; variant < 3; variant++) {
    cr_expect_eq(found(ring, (struct shape){96, 1}, ""), SEEDS);
    int races = found(ring, (struct shape){96, 1}, "a barrier between the two is missing") +
                found(ring, (struct shape){96, 1}, "which nobody has written");
    cr_expect(races > SEEDS / 2, "variant %d: %d", variant, races);
  }
}

/* What was known in an earlier phase is known in a later one. */
static void earlier_phases(void) {
  initialise(1, (unsigned[]){1});
  for (unsigned phase = 0; phase < 4; phase++) {
    if (thread() == 32 * phase) {
      put(phase, phase);
      emu_call_mbarrier_arrive(barrier(0), 0, false);
    }
    emu_call_mbarrier_wait(barrier(0), phase % 2, false);
    if (phase < 3) emu_call_sync_threads();
  }
  for (unsigned phase = 0; phase < 4; phase++) HOLDS(get(phase) == phase);
}
Test(emulator_barriers, what_earlier_phases_told_stays_known) { goes_through(earlier_phases, (struct shape){128, 1}); }

static void early_use(void) {
  if (thread() == 0) {
    emu_call_mbarrier_init(barrier(1), 1);
    if (!(is_wrong && variant == 2)) emu_call_fence_mbarrier_init();
  }
  if (!(is_wrong && variant == 1)) emu_call_sync_threads();
  if (thread() == 32) {
    if (variant == 2)
      emu_mbarrier_slot(emu_self()->block, 8, emu_self(), true);
    else
      emu_call_mbarrier_arrive(barrier(is_wrong && variant == 0 ? 2 : 1), 0, false);
  }
}
Test(emulator_barriers, an_mbarrier_is_initialised_before_its_use) {
  variant = 0;
  tells_apart(early_use, (struct shape){64, 1},
              "names the mbarrier at byte 16 of shared memory, where none has been initialised");
  variant = 2;
  tells_apart(early_use, (struct shape){64, 1}, "fence_mbarrier_init() is missing between that and the barrier");
  variant = 1;
  goes_through(early_use, (struct shape){64, 1});
  int unordered = found(early_use, (struct shape){64, 1}, "by thread 0: a barrier between the two is missing");
  cr_expect(unordered && unordered + found(early_use, (struct shape){64, 1}, "where none has been initialised") == SEEDS);
}

/* The fence for ordinary stores does for one's own block, as NVIDIA's programming guide has it. A fence after the
 * barrier, or another thread's, does not. */
static void fences(void) {
  if (thread() == 0) {
    emu_call_mbarrier_init(barrier(0), 1);
    if (!is_wrong && variant >= 2) emu_call_fence_mbarrier_init();
    if (variant < 2) emu_call_fence_proxy_async();
  }
  if (thread() == 1 && is_wrong && variant == 3) emu_call_fence_mbarrier_init();
  meet_all();
  if (thread() == 0 && is_wrong && variant == 2) emu_call_fence_mbarrier_init();
  emu_call_sync_warp(1u << lane());
  if (variant == 0 && thread() == 0) emu_mbarrier_slot(emu_self()->block->cluster->blocks[is_wrong], 0, emu_self(), true);
  if (variant == 1 && thread() == 0) emu_call_mbarrier_arrive_cluster(barrier(0), is_wrong ? 1 - rank() : rank());
  if (variant >= 2 && thread() == 32) pass_time(2000), emu_mbarrier_slot(emu_self()->block, 0, emu_self(), true);
  meet_all();
}
Test(emulator_barriers, each_user_wants_its_fence) {
  static const char *const words[] = {"for the cluster's other blocks to see it", "for the cluster's other blocks to see it",
                                      "for the copy engine to see it", "for the copy engine to see it"};
  variant = 0;
  goes_through(fences, (struct shape){32, 1});
  is_found(fences, (struct shape){32, 2}, words[0]);
  for (variant = 1; variant < 4; variant++) tells_apart(fences, (struct shape){64, 2}, words[variant]);
}

static void looks_inside(void) {
  if (thread()) return;
  emu_call_mbarrier_init(barrier(0), 1);
  emu_call_access(barrier(is_wrong ? 0 : 1), 8, true);
}
Test(emulator_barriers, an_mbarrier_is_no_number) {
  tells_apart(looks_inside, (struct shape){32, 1}, "which is of the mbarrier initialised");
}

static void wrong_initialisation(void) {
  if (thread()) return;
  emu_call_mbarrier_init(barrier(0), 1);
  emu_call_mbarrier_init(barrier(1), (1 << 20) - 1);
  if (!is_wrong) return;
  if (variant == 0) emu_call_mbarrier_init(barrier(2), 0);
  if (variant == 1) emu_call_mbarrier_init(barrier(2), 1 << 20);
  if (variant == 2) emu_call_mbarrier_init(barrier(1), 1);
  if (variant == 3) emu_call_mbarrier_init(barrier(2) + 4, 1);
  if (variant == 4) emu_call_mbarrier_init(barrier(0) + BYTES, 1);
  if (variant == 5) emu_call_mbarrier_arrive(barrier(0) + 4, 0, false);
  if (variant == 6) emu_call_mbarrier_wait(barrier(0), 2, false);
  if (variant == 7)
    for (int i = 2; i <= EMU_MOST_MBARRIERS; i++) emu_call_mbarrier_init(barrier(i), 1);
  if (variant == 8) emu_mbarrier_slot(emu_self()->block, 4, emu_self(), true);
  if (variant == 9) emu_call_mbarrier_arrive_cluster(barrier(0), 1);
}
Test(emulator_barriers, initialisation_is_held_to_the_rules) {
  static const char *const words[] = {"is for 0 arrivals",
                                      "is for 1048576 arrivals",
                                      "mbarrier_init comes to the mbarrier at byte 8, initialised at ?, which is in use",
                                      "no multiple of 8",
                                      "does not point to shared memory",
                                      "no multiple of 8",
                                      "parity is 2",
                                      "more than 128 mbarriers",
                                      "no multiple of 8",
                                      "names block 1 of the cluster, which has 1"};
  for (variant = 0; variant < 10; variant++) tells_apart(wrong_initialisation, (struct shape){32, 1}, words[variant]);
}

/* --- Bytes: the test plays the copy engine */

struct landing {
  struct emu_block *block;
  unsigned slot, bytes;
};
static struct landing landings[8];
static int landing_count;

static void land(void *thing) {
  struct landing *landing = thing;
  emu_mbarrier_bytes(landing->block, landing->slot, landing->bytes);
}

static void copy(int to, unsigned bytes) {
  struct emu_thread *self = emu_self();
  struct landing *landing = &landings[landing_count++ % 8];
  *landing = (struct landing){self->block, emu_mbarrier_slot(self->block, 8 * (unsigned)to, self, true), bytes};
  emu_later(self->block->cluster, self->now + emu_draw_duration(self->block->cluster, 500), land, landing);
}

/* Copies that come before they are announced, or after; in one phase after the other. */
static void bytes_land(void) {
  initialise(1, (unsigned[]){2});
  for (unsigned phase = 0; phase < 6; phase++) {
    if (thread() == 0) {
      if (phase % 2) copy(0, 1000);
      emu_call_mbarrier_arrive(barrier(0), (unsigned)(3000 + (is_wrong ? variant : 0)), true);
      copy(0, 2000);
      if (phase % 2 == 0) copy(0, 1000);
    }
    if (thread() == 33) emu_call_mbarrier_arrive(barrier(0), 0, false);
    const struct emu_thread *self = emu_self();
    unsigned actor = emu_actor_of_mbarrier(self->block, 0);
    uint32_t epoch = phase + 1;
    HOLDS(self->clock.at[actor] < epoch);
    emu_call_mbarrier_wait(barrier(0), phase % 2, false);
    HOLDS(self->clock.at[actor] == epoch && emu_mbarrier_epoch(self->block, 0) == epoch + 1);
    emu_call_sync_threads();
  }
}
Test(emulator_barriers, bytes_land_before_and_after_they_are_announced) { goes_through(bytes_land, (struct shape){64, 1}); }

Test(emulator_barriers, too_many_bytes_announced_is_a_deadlock_that_says_so) {
  variant = 16;
  is_found(bytes_land, (struct shape){64, 1}, "in phase 0, which still misses 16 bytes");
}

/* Where pieces land one by one the phase may have ended with the last piece but one; the piece is then too many for the next. */
Test(emulator_barriers, too_few_bytes_announced_is_found) {
  variant = -16;
  is_found(bytes_land, (struct shape){64, 1}, "bytes more have landed than were announced");
}

static void most_bytes(void) {
  initialise(1, (unsigned[]){2});
  if (thread() == 0) {
    emu_call_mbarrier_arrive(barrier(0), (1 << 20) - (is_wrong && variant == 0 ? 0 : 2), true);
    emu_call_mbarrier_arrive(barrier(0), is_wrong ? 2 : 1, true);
    copy(0, (1 << 20) - 1);
    emu_call_mbarrier_wait(barrier(0), 0, false);
  }
}
Test(emulator_barriers, a_phase_counts_so_many_bytes) {
  for (variant = 0; variant < 2; variant++)
    tells_apart(most_bytes, (struct shape){32, 1}, "a phase can expect 1048575 at a time");
}

static void landed_unannounced(void) {
  initialise(1, (unsigned[]){1});
  if (thread() == 0) {
    for (int i = 0; is_wrong && i < 2; i++) copy(0, (1 << 20) - 1);
    emu_call_mbarrier_wait(barrier(0), is_wrong ? 0 : 1, false);
  }
}
Test(emulator_barriers, bytes_that_nobody_announces_are_found) {
  tells_apart(landed_unannounced, (struct shape){32, 1},
              "bytes have landed for the mbarrier at byte 0, initialised at ? that nobody announced");
}

static void arrival_too_many(void) {
  initialise(1, (unsigned[]){1});
  if (thread() == 0) {
    emu_call_mbarrier_arrive(barrier(0), 64, true);
    if (is_wrong) emu_call_mbarrier_arrive(barrier(0), 0, false);
    copy(0, 64);
    emu_call_mbarrier_wait(barrier(0), 0, false);
  }
}
Test(emulator_barriers, an_arrival_too_many_is_found) {
  tells_apart(arrival_too_many, (struct shape){32, 1},
              "arrives at the mbarrier at byte 0, initialised at ?, once too often: all 1 of phase 0");
}

static void in_the_midst(void) {
  initialise(2, (unsigned[]){2, 1});
  if (thread() == 0) emu_call_mbarrier_arrive(barrier(0), is_wrong ? 64 : 0, true);
}
Test(emulator_barriers, bytes_that_never_land_are_found_and_arrivals_that_never_come_are_none_of_its_business) {
  tells_apart(
      in_the_midst, (struct shape){32, 1},
      "the block leaves the kernel in the midst of a phase of the mbarrier at byte 0, initialised at ?, in phase 0, which still "
      "misses 1 of 2 arrivals and 64 bytes");
}

/* Two phases end while warp 1 waits for the first. Where it comes later it waits for ever, and where it is quick it goes well. */
static void missed_phase(void) {
  initialise(1, (unsigned[]){32});
  for (unsigned phase = 0; phase < 2; phase++) {
    if (warp() == 0) emu_call_mbarrier_arrive(barrier(0), 0, false);
    if (warp() == 1) emu_call_mbarrier_wait(barrier(0), phase, false);
    if (!is_wrong) emu_call_sync_threads();
  }
}
Test(emulator_barriers, a_phase_that_can_be_missed_is_found) {
  goes_through(missed_phase, (struct shape){64, 1});
  int missed = found(missed_phase, (struct shape){64, 1}, "and phase 1 can end before the thread has seen it");
  int hangs = found(missed_phase, (struct shape){64, 1}, "nobody can ever go on");
  cr_expect(missed && missed + hangs > SEEDS / 2, "missed %d, hangs %d", missed, hangs);
}

/* --- Who is told of in a deadlock */

static void forgets_to_arrive(void) {
  initialise(2, (unsigned[]){64, 1});
  for (unsigned phase = 0; phase < 3; phase++) {
    if (!(is_wrong && phase == 2 && warp() == 1)) emu_call_mbarrier_arrive(barrier(0), 0, false);
    if (is_wrong && phase == 2 && warp() == 1) emu_call_mbarrier_wait(barrier(1), 0, false);
    emu_call_mbarrier_wait(barrier(0), phase % 2, false);
  }
}
Test(emulator_barriers, who_has_not_arrived_is_told) {
  tells_apart(
      forgets_to_arrive, (struct shape){64, 1},
      "in phase 2, which still misses 32 of 64 arrivals (thread 32 and 31 others arrived in the phase before; the first is in "
      "mbarrier_wait at ?)");
}

/* --- Other blocks' mbarriers */

/* Block 0 fills numbers in all blocks, whose warp 1 reads them and says so; a cluster's barrier says that they are there. */
static void cluster_ring(void) {
  unsigned blocks = emu_call_view()->cluster_size;
  initialise(1, (unsigned[]){32 * blocks});
  for (unsigned turn = 0; turn < 4; turn++) {
    if (rank() == 0 && thread() == 0) {
      if (turn) emu_call_mbarrier_wait(barrier(0), (turn - 1) % 2, !is_wrong);
      for (unsigned i = 0; i < blocks; i++) {
        float value[4] = {(float)turn, 0, 0, 0};
        emu_call_remote(number(16), i, value, sizeof value, true);
      }
    }
    emu_call_sync_warp(FULL);
    meet_all();
    if (warp() == 1) {
      float value[4];
      emu_call_remote(number(16), rank(), value, sizeof value, false);
      HOLDS(value[0] == (float)turn);
      emu_call_mbarrier_arrive_cluster(barrier(0), 0);
    }
  }
  meet_all();
}
Test(emulator_barriers, blocks_arrive_at_each_other_s_mbarriers) {
  tells_apart(cluster_ring, (struct shape){64, 2}, "a barrier between the two is missing");
  goes_through(cluster_ring, (struct shape){64, 4});
  goes_through(cluster_ring, (struct shape){64, 1});
}

/* Nobody reads it, and still it could come before the block has its shared memory. */
static void stores_at_once(void) {
  float value[4] = {0};
  if (!is_wrong) meet_all();
  if (thread() == 0) emu_call_remote(number(16), 1 - rank(), value, sizeof value, true);
  meet_all();
}
Test(emulator_barriers, a_store_into_a_block_that_may_not_have_begun_is_found) {
  tells_apart(stores_at_once, (struct shape){64, 2}, "which may not have begun: a cluster's barrier is missing");
}

/* An arrival at another block's mbarrier promises nothing that was stored; the cluster's barrier does. */
static void stores_and_arrives(void) {
  float value[4] = {0};
  initialise(1, (unsigned[]){1});
  if (thread() == 0) emu_call_remote(number(16), 1 - rank(), value, sizeof value, true);
  emu_call_sync_warp(FULL);
  if (!is_wrong) meet_all();
  if (thread() == 0) emu_call_mbarrier_arrive_cluster(barrier(0), 1 - rank());
  meet_all();
}
Test(emulator_barriers, an_arrival_elsewhere_promises_no_stores) {
  tells_apart(stores_and_arrives, (struct shape){64, 2}, "promises another block nothing that the thread has stored");
}

/* Each block's thread 0 arrives at the other's mbarrier; the block must be there until then. */
static void arrives_and_leaves(void) {
  initialise(1, (unsigned[]){1});
  if (thread() == 0 && !(is_wrong && rank() == 1)) emu_call_mbarrier_arrive_cluster(barrier(0), 1 - rank());
  if (is_wrong) return;
  if (variant == 0) meet_all();
  if (variant == 1) emu_call_mbarrier_wait(barrier(0), 0, true);
}
Test(emulator_barriers, a_block_that_may_have_left_is_not_reached) {
  for (variant = 0; variant < 2; variant++) goes_through(arrives_and_leaves, (struct shape){64, 2});
  int too_late = found(arrives_and_leaves, (struct shape){64, 2}, ", which has left the kernel");
  int in_time = found(arrives_and_leaves, (struct shape){64, 2}, ", which may have left the kernel by then");
  cr_expect(too_late && in_time && too_late + in_time == SEEDS, "%d and %d", too_late, in_time);
}

static void arrives_nowhere(void) {
  initialise(1, (unsigned[]){2});
  if (thread() < 2) emu_call_mbarrier_arrive_cluster(barrier(0), is_wrong ? 2 : rank());
}
Test(emulator_barriers, a_cluster_has_so_many_blocks) {
  tells_apart(arrives_nowhere, (struct shape){64, 2}, "names block 2 of the cluster, which has 2");
}
