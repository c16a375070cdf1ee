/* Fibres, time and events: a simulation that always goes on with what comes first. With a seed it does the same, but how long
 * anything takes is drawn, and so is who is first of those at the same time: any order that a chip could come to may happen. */
#include "scheduler.h"

#include "costs.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
  STEPS_BETWEEN_LOOKS = 1024,
  STEPS_OF_A_CLUSTER = 128, /* times a thread's: where all of a block spin, none comes to its own in a time to wait for */
  STEPS_OF_A_CALL = 16      /* switching fibres takes longer than a step, and should not be waited for for ever either */
};
/* Asynchronous things that come last take so long: all who do not wait for them have come by then to where they do, and those who ask
 * again and again have not yet taken all of their steps. */
static const emu_time LAST = 1 << 22;

_Thread_local struct emu_scheduler *emu_scheduler __attribute__((tls_model("initial-exec")));

struct emu_thread *emu_self(void) {
  return emu_scheduler ? emu_scheduler->self : NULL;
}

/* --- What comes first */

static bool is_before(const struct emu_entry *a, const struct emu_entry *b) {
  return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void add(struct emu_scheduler *scheduler, struct emu_entry entry) {
  if (scheduler->count == scheduler->room) {
    size_t room = 2 * scheduler->room + 1024;
    struct emu_entry *more = realloc(scheduler->entries, room * sizeof *more);
    if (!more) emu_fault(scheduler->self, NULL, "the emulator has no memory for what is to happen");
    scheduler->entries = more;
    scheduler->room = room;
  }
  entry.order = scheduler->run->launch->seed ? emu_draw(&scheduler->cluster, UINT64_MAX) : scheduler->order++;
  size_t i = scheduler->count++;
  for (; i > 0 && is_before(&entry, &scheduler->entries[(i - 1) / 2]); i = (i - 1) / 2)
    scheduler->entries[i] = scheduler->entries[(i - 1) / 2];
  scheduler->entries[i] = entry;
}

static struct emu_entry take_first(struct emu_scheduler *scheduler) {
  struct emu_entry *entries = scheduler->entries, first = entries[0], last = entries[--scheduler->count];
  size_t i = 0;
  for (size_t child; (child = 2 * i + 1) < scheduler->count; i = child) {
    if (child + 1 < scheduler->count && is_before(&entries[child + 1], &entries[child])) child++;
    if (!is_before(&entries[child], &last)) break;
    entries[i] = entries[child];
  }
  entries[i] = last;
  return first;
}

static void add_thread(struct emu_thread *thread) { add(emu_scheduler, (struct emu_entry){.at = thread->now, .thread = thread}); }

void emu_later(struct emu_cluster *cluster, emu_time at, void (*happen)(void *thing), void *thing) {
  add(cluster->scheduler, (struct emu_entry){.at = at > cluster->now ? at : cluster->now, .happen = happen, .thing = thing});
}

/* --- What is drawn: splitmix64 */

uint64_t emu_draw(struct emu_cluster *cluster, uint64_t below) {
  uint64_t x = cluster->random += UINT64_C(0x9E3779B97F4A7C15);
  x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
  x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
  return (x ^ x >> 31) % below;
}

/* Of four seeds one has all that is asynchronous happen at once, one as late as can be, and two draw it each time. */
emu_time emu_draw_duration(struct emu_cluster *cluster, emu_time model) {
  uint64_t seed = cluster->launch->seed;
  if (seed == 0) return model;
  uint64_t kind = seed % 4 == 1 ? 0 : seed % 4 == 2 ? 1 : emu_draw(cluster, 4);
  return kind == 0 ? 0 : kind == 1 ? LAST : kind == 2 ? emu_draw(cluster, 2 * model + 1) : emu_draw(cluster, 64 * model + 1);
}

/* With a seed some warps are slow, and now and then a thread is held up. */
static emu_time draw_cost(struct emu_thread *self, emu_time model) {
  struct emu_cluster *cluster = self->block->cluster;
  if (cluster->launch->seed == 0) return model;
  emu_time cost = emu_draw(cluster, 2 * model + 1) << self->fibre->slowness;
  return emu_draw(cluster, 64) == 0 ? cost + emu_draw(cluster, 1 << 14) : cost;
}

/* --- Fibres */

static void leave(struct emu_thread *self) {
  struct emu_scheduler *scheduler = emu_scheduler;
  scheduler->self = NULL;
  swapcontext(&self->fibre->context, &scheduler->outside);
}

static void enter(struct emu_scheduler *scheduler, struct emu_thread *thread) {
  scheduler->self = thread;
  swapcontext(&scheduler->outside, &thread->fibre->context);
}

/* An argument by value lies on the stack where the caller puts it: at the same place for all that are called from here. */
typedef void (*takes_argument)(struct emu_arguments argument);
static __attribute__((noinline)) void call(takes_argument function, const struct emu_arguments *argument) { function(*argument); }

__attribute__((no_sanitize("address"))) static void find_argument(struct emu_arguments argument) {
  emu_self()->fibre->argument = argument.bytes;
}

bool emu_is_argument(const struct emu_thread *thread, const void *address, size_t bytes) {
  size_t all = thread->block->cluster->launch->argument_bytes;
  uintptr_t offset = (uintptr_t)address - (uintptr_t)thread->fibre->argument;
  return bytes <= all && offset <= all - bytes;
}

static void run_thread(void) {
  struct emu_thread *self = emu_self();
  struct emu_block *block = self->block;
  const struct emu_run_state *run = emu_scheduler->run;
  volatile takes_argument functions[] = {find_argument, (takes_argument)run->launch->entry}; /* so that both calls are alike */
  for (int i = 0; i < 2; i++) call(functions[i], &run->arguments);

  emu_begin("the kernel's end", self->where, 0);
  emu_multipliers_end(self);
  emu_timeline_ended(self);
  self->waiting = EMU_ENDED;
  block->threads_ended++;
  emu_gates_left(self);
  if (block->threads_ended == block->thread_count) {
    emu_mbarriers_end(block);
    emu_engine_end(block);
  }
  leave(self);
}

void emu_start(struct emu_thread *thread) {
  struct emu_fibre *fibre = thread->fibre;
  getcontext(&fibre->context);
  fibre->context.uc_stack.ss_sp = fibre->stack;
  fibre->context.uc_stack.ss_size = FIBRE_BYTES;
  fibre->context.uc_link = NULL;
  makecontext(&fibre->context, run_thread, 0);
  fibre->next_look = STEPS_BETWEEN_LOOKS;
  add_thread(thread);
}

void emu_wait(struct emu_thread *self) {
  emu_time since = self->now;
  leave(self);
  emu_timeline_thread(self, self->what, since, self->now);
}

void emu_wake(struct emu_thread *thread, emu_time at) {
  if (at > thread->now) thread->now = at;
  thread->waiting = EMU_RUNS;
  add_thread(thread);
}

/* Another cluster, whose index is smaller, has found a fault: what this one finds will not be told. */
static bool is_needless(const struct emu_scheduler *scheduler) {
  return atomic_load_explicit(&scheduler->run->fault, memory_order_relaxed) < scheduler->cluster.index;
}

void emu_spend(struct emu_thread *self, emu_time cycles) {
  struct emu_scheduler *scheduler = emu_scheduler;
  self->now += draw_cost(self, cycles);
  if ((scheduler->count && scheduler->entries[0].at < self->now) || is_needless(scheduler)) {
    add_thread(self);
    leave(self);
  }
  scheduler->cluster.now = self->now;
}

/* A multiplication with addition pays for the step that it is in: the chip's compiler unrolls the loops around them. */
emu_time emu_owed(struct emu_thread *self) {
  struct emu_fibre *fibre = self->fibre;
  uint64_t steps = self->steps - fibre->paid_steps, fused = self->view.fused - fibre->paid_fused;
  emu_time owed = fibre->owed + (steps > fused ? steps - fused : 0) * COST_STEP + fused * COST_FMA;
  fibre->owed = 0, fibre->paid_steps = self->steps, fibre->paid_fused = self->view.fused;
  return owed;
}

void emu_look(struct emu_thread *self, const void *where) {
  struct emu_scheduler *scheduler = emu_scheduler;
  uint64_t most = scheduler->run->most_steps;
  if (self->steps >= most)
    emu_fault(self, where,
              "the thread has taken %llu steps and not come to the kernel's end: it never will, or the limit is too low",
              (unsigned long long)most);
  scheduler->steps += self->steps - self->fibre->seen_steps;
  self->fibre->seen_steps = self->steps;
  if (scheduler->steps >= STEPS_OF_A_CLUSTER * most)
    emu_fault(
        self, where,
        "the threads of the cluster have taken %llu steps together and not come to the kernel's end: they never will, or the "
        "limit is too low",
        (unsigned long long)(STEPS_OF_A_CLUSTER * most));
  self->fibre->next_look = self->steps + STEPS_BETWEEN_LOOKS < most ? self->steps + STEPS_BETWEEN_LOOKS : most;
}

struct emu_thread *emu_begin(const char *what, const void *where, emu_time cycles) {
  struct emu_thread *self = emu_self();
  self->what = what;
  self->where = where;
  cycles += emu_owed(self);
  self->steps += STEPS_OF_A_CALL, self->fibre->paid_steps += STEPS_OF_A_CALL;
  if (self->steps >= self->fibre->next_look) emu_look(self, where);
  emu_spend(self, cycles);
  return self;
}

void emu_run_cluster(struct emu_scheduler *scheduler) {
  struct emu_cluster *cluster = &scheduler->cluster;
  while (scheduler->count && !scheduler->is_over && !is_needless(scheduler)) {
    struct emu_entry first = take_first(scheduler);
    cluster->now = first.at;
    if (first.thread)
      enter(scheduler, first.thread);
    else
      first.happen(first.thing);
  }
  if (scheduler->is_over || is_needless(scheduler)) return;
  for (unsigned b = 0; b < cluster->block_count; b++)
    if (cluster->blocks[b]->threads_ended < cluster->blocks[b]->thread_count) emu_deadlock(cluster);
}

/* A fibre that has found a fault is never entered again; its stack holds nothing that wants freeing. */
void emu_fault(const struct emu_thread *thread, const void *where, const char *format, ...) {
  struct emu_scheduler *scheduler = emu_scheduler;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(scheduler->fault, sizeof scheduler->fault, format, arguments);
  va_end(arguments);
  scheduler->fault_thread = thread;
  scheduler->fault_where = where;
  scheduler->is_over = true;
  if (scheduler->self) leave(scheduler->self);
  longjmp(scheduler->end, 1);
}

void *emu_allocate(size_t count, size_t bytes) {
  void *memory = calloc(count ? count : 1, bytes ? bytes : 1);
  if (!memory) emu_fault(emu_self(), NULL, "the emulator has no memory for %zu * %zu bytes", count, bytes);
  return memory;
}
