/* The emulator's fibres, time, seeds and faults, by kernels written in C. */
#include "calls.h"
#include "costs.h"
#include "emulator.h"

#include <criterion/criterion.h>
#include <cuda.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_TURNS = 4096 };

/* What a kernel is given, and tells. */
struct given {
  struct told {
    unsigned count;
    unsigned short turns[MOST_TURNS]; /* who came one after the other, in a cluster */
  } * told;                           /* [clusters] */
  unsigned *counts;
  unsigned char *numbers;
  unsigned char rest[4064];
  uint64_t last;
};

static struct emu_launch launch_of(void (*kernel)(struct given), const struct given *given, unsigned blocks, unsigned threads) {
  return (struct emu_launch){.kernel = "tried",
                             .entry = (void (*)(void))kernel,
                             .arguments = given,
                             .argument_bytes = sizeof *given,
                             .grid = {blocks, 1, 1},
                             .block_size = {threads, 1, 1},
                             .cluster_size = 1,
                             .shared_bytes = 1024,
                             .registers = 64,
                             .host_threads = 1};
}

static void passes(const struct emu_launch *launch) {
  char message[EMU_MESSAGE_BYTES];
  cr_assert(emu_run(launch, message), "%s", message);
}

/* The launch ends by a fault whose sentence is this one. */
static void fails(const struct emu_launch *launch, const char *sentence) {
  char message[EMU_MESSAGE_BYTES];
  cr_assert_not(emu_run(launch, message), "no fault: %s", sentence);
  cr_assert_str_eq(message, sentence);
}

static void tell(const struct given *given) {
  const struct emu_thread *self = emu_self();
  struct told *told = &given->told[self->block->cluster->index];
  if (told->count < MOST_TURNS) told->turns[told->count++] = (unsigned short)self->actor;
}

/* --- What a thread is told */

static void count_myself(struct given given) {
  const struct emu_view *view = emu_call_view();
  unsigned block = view->block.x + view->grid_size.x * (view->block.y + view->grid_size.y * view->block.z);
  unsigned thread = view->thread.x + view->block_size.x * (view->thread.y + view->block_size.y * view->thread.z);
  cr_assert_eq(view->cluster_rank, view->block.x % view->cluster_size);
  cr_assert_eq((uintptr_t)view->shared % 1024, 0);
  cr_assert_eq(view->shared_bytes, 1024);
  cr_assert_eq(given.last, 0x0123456789ABCDEF);
  given.counts[block * 24 + thread] += 1 + thread;
}

Test(emulator_scheduler, every_thread_runs_once_and_knows_which_it_is) {
  unsigned counts[4 * 3 * 2 * 24] = {0};
  struct given given = {.counts = counts, .last = 0x0123456789ABCDEF};
  struct emu_launch launch = launch_of(count_myself, &given, 1, 1);
  launch.grid = (struct emu_index){4, 3, 2};
  launch.block_size = (struct emu_index){4, 3, 2};
  for (launch.cluster_size = 1; launch.cluster_size <= 4; launch.cluster_size *= 2) {
    memset(counts, 0, sizeof counts);
    launch.host_threads = (int)launch.cluster_size;
    passes(&launch);
    for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++) cr_assert_eq(counts[i], 1 + i % 24, "thread %u of all", i);
  }
}

static void reach_the_peer(struct given given) {
  (void)given;
  const struct emu_thread *self = emu_self();
  const struct emu_cluster *cluster = self->block->cluster;
  cr_assert_eq(cluster->block_count, 2);
  cr_assert_eq(cluster->actors.threads, 2 * 32);
  cr_assert_eq(cluster->blocks[self->block->rank], self->block);
  cr_assert_eq(self->actor, self->block->rank * 32 + self->index);
  cr_assert_eq(self->registers, 64);
}

Test(emulator_scheduler, a_cluster_has_its_blocks) {
  struct given given = {0};
  struct emu_launch launch = launch_of(reach_the_peer, &given, 6, 32);
  launch.cluster_size = 2;
  passes(&launch);
}

/* --- Time and order */

static void take_turns(struct given given) {
  for (int i = 0; i < 8; i++) {
    emu_call_threadfence();
    tell(&given);
  }
}

Test(emulator_scheduler, without_a_seed_whoever_is_earlier_goes_first) {
  struct told told = {0};
  struct given given = {.told = &told};
  struct emu_launch launch = launch_of(take_turns, &given, 1, 40);
  passes(&launch);
  cr_assert_eq(told.count, 8 * 40);
  bool has_come[8][40] = {0};
  for (unsigned i = 0; i < told.count; i++) has_come[i / 40][told.turns[i]] = true;
  for (unsigned i = 0; i < told.count; i++) cr_assert(has_come[i / 40][i % 40], "thread %u in turn %u", i % 40, i / 40);
}

Test(emulator_scheduler, a_seed_is_an_order_whatever_the_threads_of_the_host) {
  enum { CLUSTERS = 12, SEEDS = 8 };
  struct told(*told)[CLUSTERS] = calloc(2 * SEEDS, sizeof *told);
  for (unsigned seed = 1; seed <= SEEDS; seed++)
    for (int threads = 1; threads <= 4; threads += 3) {
      struct told *here = told[2 * (seed - 1) + (threads > 1)];
      struct given given = {.told = here};
      struct emu_launch launch = launch_of(take_turns, &given, CLUSTERS, 96);
      launch.seed = seed;
      launch.host_threads = threads;
      passes(&launch);
      for (unsigned i = 0; i < CLUSTERS; i++) {
        unsigned turns[96] = {0};
        cr_assert_eq(here[i].count, 8 * 96);
        for (unsigned turn = 0; turn < here[i].count; turn++) turns[here[i].turns[turn]]++;
        for (unsigned thread = 0; thread < 96; thread++) cr_assert_eq(turns[thread], 8);
      }
    }
  for (unsigned seed = 0; seed < SEEDS; seed++) {
    cr_assert_arr_eq(told[2 * seed], told[2 * seed + 1], sizeof *told);
    cr_assert_neq(memcmp(told[2 * seed][0].turns, told[2 * seed][1].turns, sizeof told[0][0].turns), 0, "clusters differ");
    cr_assert(seed == 0 || memcmp(told[2 * seed], told[0], sizeof *told) != 0, "seeds differ");
  }
  free(told);
}

/* Thread 0 asks for something that takes 100 cycles; the others take 1000 in steps of 10. */
static void happen(void *thing) {
  struct emu_thread *thread = thing;
  cr_assert_null(emu_self());
  emu_wake(thread, thread->block->cluster->now);
}
static void ask_and_wait(struct given given) {
  struct emu_thread *self = emu_self();
  struct emu_cluster *cluster = self->block->cluster;
  if (self->index == 0) {
    emu_later(cluster, self->now + emu_draw_duration(cluster, 100), happen, self);
    self->waiting = EMU_AT_STORES;
    emu_wait(self);
    cr_assert_eq(self->waiting, EMU_RUNS);
    cr_assert_eq(self->now, cluster->now);
  } else {
    for (int i = 0; i < 100; i++) emu_spend(self, 10);
  }
  tell(&given);
  given.counts[self->index] = (unsigned)self->now;
}

Test(emulator_scheduler, what_is_asynchronous_happens_in_its_time) {
  unsigned times[32];
  for (uint64_t seed = 0; seed <= 2; seed++) { /* as modelled; at once; as late as can be */
    struct told told = {0};
    struct given given = {.told = &told, .counts = times};
    struct emu_launch launch = launch_of(ask_and_wait, &given, 1, 32);
    launch.seed = seed;
    passes(&launch);
    cr_assert_eq(told.turns[seed == 2 ? 31 : 0], 0, "seed %d", (int)seed);
    if (seed == 0) cr_assert_eq(times[0], 100);
    if (seed == 0) cr_assert_eq(times[31], 1000);
    if (seed == 1) cr_assert_eq(times[0], 0);
  }
}

static void cost_what_is_done(struct given given) {
  struct emu_view *view = emu_call_view();
  for (int i = 0; i < 10; i++) emu_call_step();
  view->fused += 7;
  emu_call_access(view->shared, 4, true);
  emu_call_threadfence();
  given.counts[0] = (unsigned)emu_self()->now;
}

Test(emulator_scheduler, code_costs_what_the_table_says) {
  unsigned cycles = 0;
  struct given given = {.counts = &cycles};
  struct emu_launch launch = launch_of(cost_what_is_done, &given, 1, 1);
  passes(&launch);
  cr_assert_eq(cycles, 3 * COST_STEP + 7 * COST_FMA + COST_SHARED + COST_FENCE);
}

/* --- Faults */

static void fault_in_some(struct given given) {
  const struct emu_thread *self = emu_self();
  (void)given;
  if (self->block->index.x % 4 == 3 && self->index == 33) emu_call_not_modelled("a tea kettle");
  emu_call_threadfence();
}

Test(emulator_scheduler, of_all_faults_the_first_clusters_is_told) {
  struct given given = {0};
  for (int threads = 1; threads <= 4; threads++)
    for (uint64_t seed = 0; seed < 8; seed++) {
      struct emu_launch launch = launch_of(fault_in_some, &given, 64, 64);
      launch.host_threads = threads;
      launch.seed = seed;
      fails(&launch, "?: kernel tried, block 3, warp 1, thread 33: a tea kettle, which is not modelled");
    }
  struct emu_launch launch = launch_of(fault_in_some, &given, 4, 64);
  launch.grid.y = 2;
  fails(&launch, "?: kernel tried, block (3, 0, 0), warp 1, thread 33: a tea kettle, which is not modelled");
}

static void fall(void *thing) { emu_fault(thing, NULL, "it fell, %d times", 2); }
static void fault_in_an_event(struct given given) {
  (void)given;
  struct emu_thread *self = emu_begin("let_fall", NULL, 1);
  emu_later(self->block->cluster, self->now, fall, given.last ? self : NULL);
}

Test(emulator_scheduler, an_event_can_have_a_fault) {
  struct given given = {.last = 1};
  struct emu_launch launch = launch_of(fault_in_an_event, &given, 1, 1);
  fails(&launch, "kernel tried, block 0, warp 0, thread 0: it fell, 2 times");
  given.last = 0;
  fails(&launch, "kernel tried: it fell, 2 times");
}

static void spin_by_steps(struct given given) {
  (void)given;
  while (emu_self()->index == 5) emu_call_step();
}
static void spin_by_calls(struct given given) {
  (void)given;
  for (;;) emu_call_threadfence();
}

Test(emulator_scheduler, a_kernel_that_never_ends_is_told_so) {
  struct given given = {0};
  struct emu_launch launch = launch_of(spin_by_steps, &given, 1, 64);
  fails(&launch,
        "?: kernel tried, block 0, warp 0, thread 5: the thread has taken 4194304 steps and not come to the kernel's end: "
        "it never will, or the limit is too low");
  launch.most_steps = 10;
  fails(&launch, "?: kernel tried, block 0, warp 0, thread 5: the thread has taken 10 steps and not come to the kernel's end: "
                 "it never will, or the limit is too low");
  launch = launch_of(spin_by_calls, &given, 2, 1);
  launch.host_threads = 2;
  launch.most_steps = 100000;
  fails(&launch,
        "?: kernel tried, block 0, warp 0, thread 0: the thread has taken 100000 steps and not come to the kernel's end: "
        "it never will, or the limit is too low");
}

static void spin_together(struct given given) {
  (void)given;
  for (;;) emu_call_step();
}

Test(emulator_scheduler, a_block_that_never_ends_is_told_so_before_each_thread_has_taken_all_its_steps) {
  struct given given = {0};
  struct emu_launch launch = launch_of(spin_together, &given, 1, 256);
  launch.most_steps = 100000;
  char message[EMU_MESSAGE_BYTES];
  cr_assert_not(emu_run(&launch, message));
  cr_assert_not_null(strstr(message,
                            "the threads of the cluster have taken 12800000 steps together and not come to the kernel's end: "
                            "they never will, or the limit is too low"),
                     "%s", message);
}

/* A thread's own variables may lie as the compiler likes. */
static void miss_a_multiple(struct given given) {
  _Alignas(8) unsigned char own[16] = {0};
  emu_call_misaligned(own + 4, 8, true);
  emu_call_misaligned(given.last ? own + 3 : emu_call_view()->shared + 4, 8, true);
}

Test(emulator_scheduler, a_misaligned_address_is_told_so) {
  struct given given = {.last = 1};
  struct emu_launch launch = launch_of(miss_a_multiple, &given, 1, 1);
  passes(&launch);
  given.last = 0;
  char message[EMU_MESSAGE_BYTES];
  cr_assert_not(emu_run(&launch, message));
  cr_assert_not_null(strstr(message, "thread 0: writes 8 bytes at 0x"), "%s", message);
  cr_assert_not_null(strstr(message, "4, which is no multiple of 8: a misaligned address on a GPU"), "%s", message);
}

static void touch_what_there_is_not(struct given given) {
  (void)given;
  emu_call_threadfence();
  if (emu_self()->index == 3) *(volatile unsigned char *)(uintptr_t)4096 = 1;
}
static void send_a_signal(struct given given) {
  (void)given;
  emu_call_threadfence();
  kill(getpid(), SIGFPE);
}

static volatile sig_atomic_t signals_seen;
static void see(int number) { signals_seen += number == SIGFPE; }

Test(emulator_scheduler, what_the_processor_refuses_a_thread_is_a_fault_and_of_others_what_it_was) {
  struct sigaction mine = {.sa_handler = see}, after;
  sigaction(SIGFPE, &mine, NULL);
  struct given given = {0};
  struct emu_launch launch = launch_of(touch_what_there_is_not, &given, 4, 32);
  launch.host_threads = 2;
  for (int i = 0; i < 3; i++)
    fails(&launch,
          "?: kernel tried, block 0, warp 0, thread 3: reads, writes or calls what there is not, or is misaligned, at 0x1000");
  launch = launch_of(send_a_signal, &given, 1, 1);
  passes(&launch);
  cr_assert_eq(signals_seen, 1);
  sigaction(SIGFPE, NULL, &after);
  cr_assert(after.sa_handler == see);
}

static unsigned recurse(volatile unsigned depth) {
  volatile unsigned char local[1000];
  emu_call_step();
  local[depth % 1000] = (unsigned char)depth;
  return depth < 1u << 20 ? recurse(depth + 1) + local[depth % 1000] : 0;
}
static void recurse_for_ever(struct given given) { given.counts[0] = recurse(0); }

Test(emulator_scheduler, too_deep_a_stack_is_told_so) {
  unsigned result;
  struct given given = {.counts = &result};
  struct emu_launch launch = launch_of(recurse_for_ever, &given, 1, 2);
  fails(&launch, "?: kernel tried, block 0, warp 0, thread 0: the thread's calls and variables take more than 131072 bytes");
}

static void wait_for_nobody(struct given given) {
  (void)given;
  struct emu_thread *self = emu_self();
  if (self->index == 0 || self->index == 70) return;
  self->waiting = self->index < 64 ? EMU_AT_STORES : EMU_AT_WGMMA;
  self->what = self->index < 64 ? "bulk_wait" : "wgmma_wait";
  self->where = NULL;
  emu_wait(self);
}

Test(emulator_scheduler, when_nobody_can_go_on_it_is_told_who_waits_for_what) {
  struct given given = {0};
  struct emu_launch launch = launch_of(wait_for_nobody, &given, 2, 128);
  fails(&launch, "kernel tried, block 0, warp 0, thread 1: nobody can ever go on; threads 1 to 63 wait in bulk_wait at ?; "
                 "threads 64 to 69 wait in wgmma_wait at ?; threads 71 to 127 wait in wgmma_wait at ?; 2 threads have ended");
  launch.cluster_size = 2;
  launch.block_size.x = 65;
  fails(&launch,
        "kernel tried, block 0, warp 0, thread 1: nobody can ever go on; "
        "block 0, threads 1 to 63 wait in bulk_wait at ?; block 0, warp 2 waits in wgmma_wait at ?; "
        "block 1, threads 1 to 63 wait in bulk_wait at ?; block 1, warp 2 waits in wgmma_wait at ?; 2 threads have ended");
}

/* --- Memory */

static void touch(struct given given) {
  unsigned char *shared = emu_call_view()->shared, mine[16];
  unsigned char *place = given.last == 0 ? shared + 1020 : given.last == 1 ? shared + 1024 : given.last == 2 ? shared - 4 : mine;
  emu_call_access(place, 4, true);
}
static void touch_anothers(struct given given) {
  unsigned char mine[16], **said = (unsigned char **)given.counts;
  if (emu_self()->index == 0) *said = mine;
  emu_call_threadfence();
  if (emu_self()->index == 1) emu_call_access(*said, 8, false);
  emu_call_threadfence();
}
static void add(struct given given) { emu_call_atomic_add(given.counts ? given.counts : (unsigned *)emu_call_view()->shared, 1); }

Test(emulator_scheduler, an_access_is_to_what_the_thread_has) {
  struct given given = {.last = 0};
  struct emu_launch launch = launch_of(touch, &given, 1, 1);
  passes(&launch);
  given.last = 1;
  fails(&launch,
        "?: kernel tried, block 0, warp 0, thread 0: writes 4 bytes at byte 1024 of shared memory, of which the block has 1024");
  given.last = 2;
  fails(&launch,
        "?: kernel tried, block 0, warp 0, thread 0: writes 4 bytes at byte -4 of shared memory, of which the block has 1024");
  given.last = 3;
  passes(&launch);
  unsigned char *said;
  given.counts = (unsigned *)&said;
  launch = launch_of(touch_anothers, &given, 1, 2);
  fails(&launch, "?: kernel tried, block 0, warp 0, thread 1: reads 8 bytes of another thread's own variables");
  launch = launch_of(add, &given, 1, 1);
  fails(&launch, "?: kernel tried, block 0, warp 0, thread 0: writes 4 bytes where it may not: there is no device memory at all");
  given.counts = NULL;
  fails(&launch, "?: kernel tried, block 0, warp 0, thread 0: atomic_add in shared memory, which is not modelled");
}

static void take_a_number(struct given given) {
  unsigned number = emu_call_atomic_add(&given.counts[0], 1);
  given.numbers[number]++;
}

Test(emulator_scheduler, each_gets_a_number_of_its_own) {
  enum { BLOCKS = 32, THREADS = 96 };
  CUdevice device;
  CUcontext context;
  CUdeviceptr counter;
  unsigned char numbers[BLOCKS * THREADS] = {0};
  cr_assert(cuInit(0) == CUDA_SUCCESS && cuDeviceGet(&device, 0) == CUDA_SUCCESS);
  cr_assert(cuDevicePrimaryCtxRetain(&context, device) == CUDA_SUCCESS && cuCtxPushCurrent(context) == CUDA_SUCCESS);
  cr_assert_eq(cuMemAlloc(&counter, sizeof(unsigned)), CUDA_SUCCESS);
  struct given given = {.counts = (unsigned *)counter, .numbers = numbers};
  *given.counts = 0;
  struct emu_launch launch = launch_of(take_a_number, &given, BLOCKS, THREADS);
  launch.host_threads = 4;
  passes(&launch);
  cr_assert_eq(*given.counts, BLOCKS * THREADS);
  for (unsigned i = 0; i < BLOCKS * THREADS; i++) cr_assert_eq(numbers[i], 1, "number %u", i);
  cr_assert_eq(cuMemFree(counter), CUDA_SUCCESS);
}

/* --- Launches that cannot be */

static void never(struct given given) {
  (void)given;
  cr_assert_fail("a refused launch ran");
}

Test(emulator_scheduler, a_launch_that_cannot_be_is_refused) {
  struct given given = {0};
  const struct emu_launch good = launch_of(never, &given, 6, 32);
  struct emu_launch launch = good;
  launch.shared_bytes = 232449;
  fails(&launch, "kernel tried: a block wants 232449 bytes of shared memory; it can have 232448");
  launch = good;
  launch.block_size = (struct emu_index){32, 33, 1};
  fails(&launch, "kernel tried: a block is 32 x 33 x 1 threads; it must be 1 to 1024 together, at most 64 along z");
  launch.block_size = (struct emu_index){1, 1, 65};
  fails(&launch, "kernel tried: a block is 1 x 1 x 65 threads; it must be 1 to 1024 together, at most 64 along z");
  launch.block_size = (struct emu_index){1u << 31, 2, 1u << 31};
  fails(&launch,
        "kernel tried: a block is 2147483648 x 2 x 2147483648 threads; it must be 1 to 1024 together, at most 64 along z");
  launch.block_size = (struct emu_index){32, 0, 1};
  fails(&launch, "kernel tried: a block is 32 x 0 x 1 threads; it must be 1 to 1024 together, at most 64 along z");
  launch = good;
  launch.cluster_size = 4;
  fails(&launch, "kernel tried: a cluster is 4 blocks; it must be 1 to 8, and divide the grid's 6 along x");
  launch.cluster_size = 0;
  fails(&launch, "kernel tried: a cluster is 0 blocks; it must be 1 to 8, and divide the grid's 6 along x");
  launch.cluster_size = launch.grid.x = 16;
  fails(&launch, "kernel tried: a cluster is 16 blocks; it must be 1 to 8, and divide the grid's 16 along x");
  launch = good;
  launch.grid.z = 0;
  fails(&launch, "kernel tried: the grid is 6 x 1 x 0 blocks; it must be 1 to 2147483647 x 1 to 65535 x 1 to 65535");
  launch.grid = (struct emu_index){6, 65536, 1};
  fails(&launch, "kernel tried: the grid is 6 x 65536 x 1 blocks; it must be 1 to 2147483647 x 1 to 65535 x 1 to 65535");
  launch.grid = (struct emu_index){1 << 20, 1 << 10, 1 << 10};
  fails(&launch, "kernel tried: the grid is 1048576 x 1024 x 1024 blocks, more than the emulator can number");
  launch = good;
  launch.argument_bytes = 4097;
  fails(&launch, "kernel tried: its argument is 4097 bytes; it can be 4096");
}
