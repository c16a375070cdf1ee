/* A launch: may it be, and if so, its clusters, one after the other by each of some threads of the host. Every cluster is the same
 * whichever of them runs it, and of several faults the one in the first cluster is told: with one seed, always the same. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, MAP_NORESERVE */
#include "scheduler.h"

#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const uint64_t MOST_STEPS = 1 << 22; /* of a thread, if the launch does not say; beyond it nobody would want to wait */

/* --- A cluster's parts */

static void make_block(struct emu_scheduler *scheduler, unsigned rank) {
  struct emu_cluster *cluster = &scheduler->cluster;
  const struct emu_launch *launch = cluster->launch;
  unsigned across = launch->grid.x / launch->cluster_size; /* clusters */
  struct emu_block *block = cluster->blocks[rank] = emu_allocate(1, sizeof *block);
  *block = (struct emu_block){
      .cluster = cluster,
      .rank = rank,
      .index = {cluster->index % across * launch->cluster_size + rank, cluster->index / across % launch->grid.y,
                cluster->index / across / launch->grid.y},
      .shared = scheduler->shared + (rank + 1) * (size_t)SHARED_WINDOW_BYTES,
      .shared_bytes = launch->shared_bytes,
  };
  block->threads = emu_allocate(scheduler->run->threads, sizeof *block->threads);
  block->thread_count = scheduler->run->threads;
  struct emu_index size = launch->block_size;
  for (unsigned i = 0; i < block->thread_count; i++) {
    struct emu_thread *thread = &block->threads[i];
    *thread = (struct emu_thread){
        .view = {.thread = {i % size.x, i / size.x % size.y, i / size.x / size.y},
                 .block = block->index,
                 .block_size = size,
                 .grid_size = launch->grid,
                 .cluster_rank = rank,
                 .cluster_size = launch->cluster_size,
                 .shared = block->shared,
                 .shared_bytes = block->shared_bytes},
        .block = block,
        .index = i,
        .actor = rank * block->thread_count + i,
        .registers = launch->registers,
        .fibre = &scheduler->fibres[rank * block->thread_count + i],
        .what = "the kernel's begin",
    };
    thread->clock = emu_clock_make(cluster);
    thread->fenced = emu_clock_make(cluster);
    *thread->fibre = (struct emu_fibre){.stack = thread->fibre->stack};
    if (launch->seed) thread->fibre->slowness = i % EMU_WARP ? thread[-1].fibre->slowness : (unsigned)emu_draw(cluster, 6);
  }
  block->shadow = emu_shadow_make(block);
  block->gates = emu_gates_make(block);
  block->mbarriers = emu_mbarriers_make(block);
  block->engine = emu_engine_make(block);
  emu_multipliers_make(block);
}

static void free_block(struct emu_block *block) {
  if (!block) return;
  if (block->threads) emu_multipliers_free(block);
  if (block->engine) emu_engine_free(block->engine);
  if (block->mbarriers) emu_mbarriers_free(block->mbarriers);
  if (block->gates) emu_gates_free(block->gates);
  if (block->shadow) emu_shadow_free(block->shadow);
  for (unsigned i = 0; i < block->thread_count; i++) {
    emu_clock_free(&block->threads[i].clock);
    emu_clock_free(&block->threads[i].fenced);
  }
  free(block->threads);
  free(block);
}

static void make_cluster(struct emu_scheduler *scheduler) {
  struct emu_cluster *cluster = &scheduler->cluster;
  cluster->block_count = cluster->launch->cluster_size;
  emu_count_actors(cluster);
  for (unsigned rank = 0; rank < cluster->block_count; rank++) make_block(scheduler, rank);
  cluster->gate = emu_gate_make(cluster);
  for (unsigned rank = 0; rank < cluster->block_count; rank++)
    for (unsigned i = 0; i < scheduler->run->threads; i++) emu_start(&cluster->blocks[rank]->threads[i]);
}

static void tell(struct emu_scheduler *scheduler) {
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  struct emu_run_state *run = scheduler->run;
  char message[EMU_MESSAGE_BYTES];
  emu_sentence(scheduler, message);
  pthread_mutex_lock(&lock);
  if (scheduler->cluster.index < run->fault) {
    run->fault = scheduler->cluster.index;
    memcpy(run->message, message, sizeof message);
  }
  pthread_mutex_unlock(&lock);
}

static void run_one(struct emu_scheduler *scheduler, uint64_t index) {
  const struct emu_launch *launch = scheduler->run->launch;
  struct emu_cluster *cluster = &scheduler->cluster;
  *cluster = (struct emu_cluster){.launch = launch,
                                  .index = (unsigned)index,
                                  .random = launch->seed * UINT64_C(0xD1342543DE82EF95) + index,
                                  .scheduler = scheduler};
  scheduler->self = NULL;
  scheduler->is_over = false;
  scheduler->fault[0] = 0;
  scheduler->count = scheduler->order = scheduler->steps = 0;
  if (setjmp(scheduler->end) == 0) {
    make_cluster(scheduler);
    emu_run_cluster(scheduler);
  }
  if (scheduler->fault[0]) tell(scheduler);
  if (cluster->gate) emu_gate_free(cluster->gate);
  for (unsigned rank = 0; rank < EMU_MOST_BLOCKS; rank++) free_block(cluster->blocks[rank]);
}

/* --- The host's threads */

static void *map(size_t bytes) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

/* A fibre's stack grows downwards, to a page that is a fault when it is touched. */
static bool make_stacks(struct emu_scheduler *scheduler, size_t fibres) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), each = FIBRE_BYTES + page;
  scheduler->stacks_bytes = fibres * each;
  scheduler->fibres = calloc(fibres, sizeof *scheduler->fibres);
  scheduler->stacks = map(scheduler->stacks_bytes);
  if (!scheduler->fibres || !scheduler->stacks) return false;
  for (size_t i = 0; i < fibres; i++) {
    scheduler->fibres[i].stack = scheduler->stacks + i * each + page;
    if (mprotect(scheduler->stacks + i * each, page, PROT_NONE) != 0) return false;
  }
  return true;
}

static void free_scheduler(struct emu_scheduler *scheduler) {
  if (!scheduler) return;
  if (scheduler->stacks) munmap(scheduler->stacks, scheduler->stacks_bytes);
  if (scheduler->shared) munmap(scheduler->shared, scheduler->shared_bytes);
  free(scheduler->fibres);
  free(scheduler->entries);
  free(scheduler);
}

static struct emu_scheduler *make_scheduler(struct emu_run_state *run) {
  struct emu_scheduler *scheduler = calloc(1, sizeof *scheduler);
  if (!scheduler) return NULL;
  scheduler->run = run;
  scheduler->shared_bytes = (run->launch->cluster_size + 2) * (size_t)SHARED_WINDOW_BYTES;
  scheduler->shared = map(scheduler->shared_bytes);
  if (scheduler->shared && make_stacks(scheduler, (size_t)run->launch->cluster_size * run->threads)) return scheduler;
  free_scheduler(scheduler);
  return NULL;
}

/* Clusters, as long as there are some and none before them had a fault. */
static void *work(void *argument) {
  struct emu_run_state *run = argument;
  struct emu_scheduler *before = emu_scheduler;
  void *signals = emu_signals_begin();
  if (!(emu_scheduler = make_scheduler(run))) {
    atomic_fetch_add(&run->idle, 1);
  } else {
    for (uint64_t index; (index = atomic_fetch_add(&run->next, 1)) < run->clusters && index < run->fault;)
      run_one(emu_scheduler, index);
    free_scheduler(emu_scheduler);
  }
  emu_scheduler = before;
  emu_signals_end(signals);
  return NULL;
}

/* The calling thread is one of those that work; where the system gives no others it does so alone. */
static unsigned work_together(struct emu_run_state *run, unsigned threads) {
  pthread_t others[EMU_MOST_HOST_THREADS];
  unsigned started = 0;
  while (started + 1 < threads && pthread_create(&others[started], NULL, work, run) == 0) started++;
  work(run);
  for (unsigned i = 0; i < started; i++) pthread_join(others[i], NULL);
  return started + 1;
}

/* --- The launch */

static bool refuse(const struct emu_launch *launch, char *message, const char *format, ...) {
  int written = snprintf(message, EMU_MESSAGE_BYTES, "kernel %s: ", launch->kernel);
  va_list arguments;
  va_start(arguments, format);
  if (written >= 0 && written < EMU_MESSAGE_BYTES)
    vsnprintf(message + written, (size_t)(EMU_MESSAGE_BYTES - written), format, arguments);
  va_end(arguments);
  return false;
}

/* What a Hopper GPU would refuse, and what the emulator cannot do. */
static bool may_be(const struct emu_launch *launch, char *message) {
  struct emu_index grid = launch->grid, block = launch->block_size;
  uint64_t threads = (uint64_t)block.x * block.y, cluster = launch->cluster_size;
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > INT_MAX || grid.y > 65535 || grid.z > 65535)
    return refuse(launch, message, "the grid is %u x %u x %u blocks; it must be 1 to 2147483647 x 1 to 65535 x 1 to 65535",
                  grid.x, grid.y, grid.z);
  if (block.x < 1 || block.y < 1 || block.z < 1 || block.z > 64 || threads > EMU_MOST_THREADS ||
      threads * block.z > EMU_MOST_THREADS)
    return refuse(launch, message, "a block is %u x %u x %u threads; it must be 1 to %d together, at most 64 along z", block.x,
                  block.y, block.z, EMU_MOST_THREADS);
  if (cluster < 1 || cluster > EMU_MOST_BLOCKS || grid.x % cluster)
    return refuse(launch, message, "a cluster is %u blocks; it must be 1 to %d, and divide the grid's %u along x",
                  launch->cluster_size, EMU_MOST_BLOCKS, grid.x);
  if (launch->shared_bytes > SHARED_MOST_BYTES)
    return refuse(launch, message, "a block wants %u bytes of shared memory; it can have %d", launch->shared_bytes,
                  SHARED_MOST_BYTES);
  if (launch->argument_bytes > EMU_MOST_ARGUMENT_BYTES)
    return refuse(launch, message, "its argument is %zu bytes; it can be %d", launch->argument_bytes, EMU_MOST_ARGUMENT_BYTES);
  if ((uint64_t)grid.x / cluster * grid.y > UINT_MAX / grid.z)
    return refuse(launch, message, "the grid is %u x %u x %u blocks, more than the emulator can number", grid.x, grid.y, grid.z);
  return true;
}

bool emu_run(const struct emu_launch *launch, char message[EMU_MESSAGE_BYTES]) {
  message[0] = 0;
  if (!may_be(launch, message)) return false;
  struct emu_run_state *run = aligned_alloc(_Alignof(struct emu_run_state), sizeof *run);
  if (!run) return refuse(launch, message, "the emulator has no memory for the launch");
  struct emu_index grid = launch->grid, block = launch->block_size;
  *run = (struct emu_run_state){.launch = launch,
                                .threads = block.x * block.y * block.z,
                                .clusters = (uint64_t)grid.x * grid.y * grid.z / launch->cluster_size,
                                .most_steps = launch->most_steps ? launch->most_steps : MOST_STEPS,
                                .fault = UINT64_MAX,
                                .message = message};
  if (launch->argument_bytes) memcpy(run->arguments.bytes, launch->arguments, launch->argument_bytes);

  uint64_t threads = launch->host_threads < 1 ? 1 : (uint64_t)launch->host_threads;
  if (threads > run->clusters) threads = run->clusters;
  if (threads > EMU_MOST_HOST_THREADS) threads = EMU_MOST_HOST_THREADS;
  unsigned working = work_together(run, (unsigned)threads);
  bool none_worked = run->idle == working, is_right = run->fault == UINT64_MAX;
  free(run);
  if (none_worked) return refuse(launch, message, "the emulator has no memory for the stacks of a cluster's threads");
  return is_right;
}
