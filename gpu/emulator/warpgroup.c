/* The tensor core as a warpgroup asks it. A multiplication is under way from then on and done later, by an event, in the order in which
 * they were asked for; it takes its operands, and touches accumulators, when it is done, so that a kernel that gets by is not safe to
 * get the right numbers. Accumulators, and a where it is in registers, are the kernel's own variables on its threads' stacks. */
#include "calls.h"
#include "costs.h"
#include "engines.h"
#include "gates.h"

#include <stdlib.h>
#include <string.h>

enum {
  MOST_IN_USE = 32,      /* sets of a thread's registers that multiplications under way use */
  GROUPS = 8,            /* of which a wait can leave 7 pending */
  TOUCH_BYTES = 4,       /* a bit stands for so much of a thread's stack, */
  TOUCH_WINDOW = 1 << 17 /* and bits for so much, which is all that its variables may take */
};

/* Variables that are registers of a multiplication. */
struct registers {
  uintptr_t begin, end;
  uint32_t number; /* of the last multiplication that uses them */
  unsigned n;      /* columns of d; 0: it is a */
  const void *where;
};

/* A thread of a warpgroup. */
struct lane {
  struct {
    struct emu_shape shape;
    uint64_t a_descriptor, b_descriptor;
    float *d;
    const unsigned *a;
  } asks; /* in the present call */
  bool has_fenced;
  uint64_t touched[TOUCH_WINDOW / TOUCH_BYTES / 64]; /* since it last called wgmma_fence() */
  struct registers in_use[MOST_IN_USE];
  unsigned in_use_count;
  uintptr_t in_use_begin, in_use_end; /* all of them lie between */
  uint32_t groups, group_end[GROUPS]; /* committed; the last multiplication in each of the last ones */
  uint32_t waits_for;                 /* while it waits: a multiplication */
};

/* A multiplication under way. */
struct multiplication {
  struct multiplication *next;
  emu_time begins;
  struct emu_product product;
};

/* A warpgroup. Multiplications count from 1, and are the epochs of its actor. */
struct emu_multiplier {
  struct emu_block *block;
  struct emu_thread *first; /* of its threads */
  unsigned actor;
  uint32_t asked, done;
  emu_time last_ends;
  struct multiplication *under_way; /* the first asked for first */
  struct lane lanes[EMU_PRODUCT_THREADS];
};

void emu_multipliers_make(struct emu_block *block) {
  for (unsigned first = 0; first < block->thread_count; first += EMU_PRODUCT_THREADS) {
    struct emu_multiplier *multiplier = emu_allocate(1, sizeof *multiplier);
    multiplier->block = block;
    multiplier->first = &block->threads[first];
    multiplier->actor = emu_actor_of_warpgroup(block, first / EMU_PRODUCT_THREADS);
    for (unsigned i = first; i < block->thread_count && i < first + EMU_PRODUCT_THREADS; i++)
      block->threads[i].multiplier = multiplier;
  }
}

void emu_multipliers_free(struct emu_block *block) {
  for (unsigned first = 0; first < block->thread_count; first += EMU_PRODUCT_THREADS) {
    struct emu_multiplier *multiplier = block->threads[first].multiplier;
    if (!multiplier) continue;
    for (struct multiplication *it = multiplier->under_way, *next; it; it = next) {
      next = it->next;
      free(it);
    }
    free(multiplier);
  }
}

static struct lane *lane_of(const struct emu_thread *thread) {
  return &thread->multiplier->lanes[thread->index % EMU_PRODUCT_THREADS];
}

/* --- Registers */

static unsigned touch_bit(uintptr_t address) { return (unsigned)(address % TOUCH_WINDOW) / TOUCH_BYTES; }

static void touch(struct lane *lane, uintptr_t begin, uintptr_t end) {
  for (uintptr_t at = begin; at < end; at = (at / TOUCH_BYTES + 1) * TOUCH_BYTES)
    lane->touched[touch_bit(at) / 64] |= UINT64_C(1) << touch_bit(at) % 64;
}

static bool was_touched(const struct lane *lane, uintptr_t begin, uintptr_t end) {
  for (uintptr_t at = begin; at < end; at += TOUCH_BYTES)
    if (lane->touched[touch_bit(at) / 64] >> touch_bit(at) % 64 & 1) return true;
  return false;
}

static uint32_t last_committed(const struct lane *lane) {
  return lane->groups ? lane->group_end[(lane->groups - 1) % GROUPS] : 0;
}

/* What a thread should have done before it may use registers that a multiplication uses. */
static const char *missing(const struct lane *lane, const struct registers *used) {
  return used->number > last_committed(lane) ? "wgmma_commit() after that is missing, and wgmma_wait()"
                                             : "wgmma_wait() is missing";
}

void emu_check_accumulators(struct emu_thread *thread, const void *address, unsigned bytes, bool is_write) {
  if (!thread->multiplier) return;
  struct lane *lane = lane_of(thread);
  uintptr_t begin = (uintptr_t)address, end = begin + bytes;
  touch(lane, begin, end);
  if (begin >= lane->in_use_end || end <= lane->in_use_begin) return;
  for (unsigned i = 0; i < lane->in_use_count; i++) {
    const struct registers *used = &lane->in_use[i];
    if (begin < used->end && end > used->begin)
      emu_fault(thread, NULL, "%s %s[%u], which the wgmma_mma at %s may still be %s: %s", is_write ? "writes" : "reads",
                used->n ? "d" : "a", (unsigned)(begin > used->begin ? begin - used->begin : 0) / TOUCH_BYTES,
                emu_line_of(thread->block, used->where).text, used->n ? "writing" : "reading", missing(lane, used));
  }
}

/* Multiplications may share d one after the other, if they are of one shape, and a. */
static void use(struct emu_thread *thread, uintptr_t begin, unsigned bytes, unsigned n) {
  struct lane *lane = lane_of(thread);
  uintptr_t end = begin + bytes;
  if (was_touched(lane, begin, end))
    emu_fault(thread, NULL, "registers of %s were touched after wgmma_fence(): another is missing before this wgmma_mma",
              n ? "d" : "a");
  struct registers *found = NULL;
  for (unsigned i = 0; i < lane->in_use_count; i++) {
    struct registers *used = &lane->in_use[i];
    if (begin >= used->end || end <= used->begin || (!n && !used->n)) continue;
    if (used->begin != begin || used->n != n)
      emu_fault(thread, NULL, "wgmma_mma's %s overlaps registers that the one at %s uses otherwise: %s", n ? "d" : "a",
                emu_line_of(thread->block, used->where).text, missing(lane, used));
    found = used;
  }
  if (!found) {
    if (lane->in_use_count == MOST_IN_USE)
      emu_fault(thread, NULL, "multiplications under way use more than %d sets of a thread's registers, which is not modelled",
                MOST_IN_USE);
    found = &lane->in_use[lane->in_use_count++];
  }
  *found = (struct registers){begin, end, thread->multiplier->asked, n, thread->where};
  if (lane->in_use_count == 1 || begin < lane->in_use_begin) lane->in_use_begin = begin;
  if (lane->in_use_count == 1 || end > lane->in_use_end) lane->in_use_end = end;
}

/* Those of multiplications up to this one are the kernel's again. */
static void give_back(struct lane *lane, uint32_t number) {
  unsigned kept = 0;
  lane->in_use_begin = UINTPTR_MAX, lane->in_use_end = 0;
  for (unsigned i = 0; i < lane->in_use_count; i++) {
    const struct registers used = lane->in_use[i];
    if (used.number <= number) continue;
    lane->in_use[kept++] = used;
    if (used.begin < lane->in_use_begin) lane->in_use_begin = used.begin;
    if (used.end > lane->in_use_end) lane->in_use_end = used.end;
  }
  lane->in_use_count = kept;
}

void emu_multipliers_end(struct emu_thread *thread) {
  const struct lane *lane = lane_of(thread);
  if (lane->in_use_count)
    emu_fault(thread, lane->in_use[0].where, "the thread leaves the kernel while wgmma_mma may be under way: %s",
              missing(lane, &lane->in_use[0]));
}

/* --- Multiplications */

static void multiply(void *thing) {
  struct emu_multiplier *multiplier = thing;
  struct emu_block *block = multiplier->block;
  struct multiplication *first = multiplier->under_way;
  emu_multiply(block->shared, &first->product);
  emu_time now = block->cluster->now, begins = first->begins < now ? first->begins : now; /* with a seed it may be early */
  emu_timeline_engine(block, "tensor core", "wgmma", begins, now, "n", first->product.shape.n);
  multiplier->under_way = first->next;
  free(first);
  multiplier->done++;
  for (unsigned i = 0; i < EMU_PRODUCT_THREADS; i++) {
    struct emu_thread *thread = &multiplier->first[i];
    if (thread->waiting == EMU_AT_WGMMA && multiplier->done >= multiplier->lanes[i].waits_for) emu_wake(thread, now);
  }
}

/* Each warp needs its 16 rows of a, and all need b. */
static void read_operand(const struct emu_multiplier *multiplier, const struct emu_operand *operand, bool is_a) {
  for (unsigned row = 0; row < operand->rows; row++)
    for (unsigned half = 0; half < EMU_PRODUCT_K / EMU_PIECE; half++)
      emu_shadow_async_read_by(multiplier->block, emu_operand_piece(operand, row, half), EMU_PIECE, multiplier->actor,
                               multiplier->asked, multiplier->first + (is_a ? row / 16 * EMU_WARP : 0),
                               is_a ? EMU_WARP : EMU_PRODUCT_THREADS);
}

/* The threads of a warpgroup ask for one multiplication. */
static void check_the_same(const struct emu_multiplier *multiplier) {
  const struct lane *mine = &multiplier->lanes[0];
  for (unsigned i = 1; i < EMU_PRODUCT_THREADS; i++) {
    const struct lane *lane = &multiplier->lanes[i];
    const struct emu_shape *one = &mine->asks.shape, *other = &lane->asks.shape;
    const char *what = NULL;
    if (lane->asks.a_descriptor != mine->asks.a_descriptor) what = "descriptor of a";
    if (lane->asks.b_descriptor != mine->asks.b_descriptor) what = "descriptor of b";
    if (one->a_is_in_registers != other->a_is_in_registers) what = "kind of a";
    if (one->accumulate != other->accumulate) what = "accumulate";
    if (one->a_is_e5m2 != other->a_is_e5m2 || one->b_is_e5m2 != other->b_is_e5m2) what = "type";
    if (one->n != other->n) what = "n";
    if (what)
      emu_fault(&multiplier->first[i], NULL, "wgmma_mma has another %s here than in thread %u, of the same warpgroup", what,
                multiplier->first->index);
  }
}

/* By the last of the warpgroup's threads to come. */
static void ask(struct emu_multiplier *multiplier, emu_time now) {
  struct emu_block *block = multiplier->block;
  struct emu_engine *engine = block->engine;
  const struct lane *lanes = multiplier->lanes;
  check_the_same(multiplier);
  struct multiplication *it = emu_allocate(1, sizeof *it), **end = &multiplier->under_way;
  while (*end) end = &(*end)->next;
  *end = it;
  const struct emu_shape shape = lanes[0].asks.shape;
  it->product.shape = shape;
  multiplier->asked++;
  for (unsigned i = 0; i < EMU_PRODUCT_THREADS; i++) {
    it->product.d[i] = lanes[i].asks.d;
    it->product.a_registers[i] = lanes[i].asks.a;
    use(&multiplier->first[i], (uintptr_t)lanes[i].asks.d, shape.n / 2 * (unsigned)sizeof(float), shape.n);
    if (shape.a_is_in_registers) use(&multiplier->first[i], (uintptr_t)lanes[i].asks.a, 4 * sizeof(unsigned), 0);
  }
  if (!shape.a_is_in_registers) {
    it->product.a = emu_operand_of(multiplier->first, "a", lanes[0].asks.a_descriptor, EMU_PRODUCT_ROWS);
    read_operand(multiplier, &it->product.a, true);
  }
  it->product.b = emu_operand_of(multiplier->first, "b", lanes[0].asks.b_descriptor, shape.n);
  read_operand(multiplier, &it->product.b, false);

  it->begins = engine->products_until > now ? engine->products_until : now;
  engine->products_until = it->begins + EMU_PRODUCT_ROWS * EMU_PRODUCT_K * shape.n / COST_WGMMA_MACS;
  emu_time ends = now + emu_draw_duration(block->cluster, engine->products_until + COST_WGMMA_LATENCY - now);
  if (multiplier->last_ends < ends) multiplier->last_ends = ends;
  emu_later(block->cluster, multiplier->last_ends, multiply, multiplier); /* the first under way, whichever event comes first */
}

/* --- What kernels call */

unsigned emu_call_shared_address(const void *in_shared) {
  struct emu_thread *self = emu_begin("shared_address", __builtin_return_address(0), 0);
  return emu_shared_offset(self, "in_shared", in_shared, 1, 1);
}

void emu_call_wgmma_fence(void) {
  struct emu_thread *self = emu_begin("wgmma_fence", __builtin_return_address(0), COST_FENCE);
  emu_align_warp(self);
  struct lane *lane = lane_of(self);
  lane->has_fenced = true;
  memset(lane->touched, 0, sizeof lane->touched);
}

void emu_call_wgmma(float *d, int n, unsigned long long a_descriptor, const unsigned *a_registers,
                    unsigned long long b_descriptor, bool accumulate, bool a_is_e5m2, bool b_is_e5m2) {
  struct emu_thread *self = emu_begin("wgmma_mma", __builtin_return_address(0), COST_WGMMA_ISSUE);
  struct lane *lane = lane_of(self);
  unsigned first = self->index / EMU_PRODUCT_THREADS * EMU_PRODUCT_THREADS;
  if (first + EMU_PRODUCT_THREADS > self->block->thread_count)
    emu_fault(self, NULL, "wgmma_mma is by a warpgroup of 128 threads; that from thread %u on has %u", first,
              self->block->thread_count - first);
  if (n < 8 || n > 256 || n % 8) emu_fault(self, NULL, "wgmma_mma's n is %d; it is a multiple of 8 up to 256", n);
  if (!lane->has_fenced) emu_fault(self, NULL, "wgmma_fence() is missing before the thread's first wgmma_mma");
  lane->asks.shape = (struct emu_shape){(unsigned)n, accumulate, a_is_e5m2, b_is_e5m2, a_registers != NULL};
  lane->asks.a_descriptor = a_descriptor, lane->asks.b_descriptor = b_descriptor;
  lane->asks.d = d, lane->asks.a = a_registers;
  if (!emu_meet(self, EMU_PRODUCT_THREADS)) return;
  ask(self->multiplier, self->now);
  emu_meeting_over(self, EMU_PRODUCT_THREADS);
}

void emu_call_wgmma_commit(void) {
  struct emu_thread *self = emu_begin("wgmma_commit", __builtin_return_address(0), COST_WGMMA_ISSUE);
  emu_align_warp(self);
  struct lane *lane = lane_of(self);
  lane->group_end[lane->groups++ % GROUPS] = self->multiplier->asked;
}

void emu_call_wgmma_wait(int pending) {
  struct emu_thread *self = emu_begin("wgmma_wait", __builtin_return_address(0), COST_WGMMA_ISSUE);
  struct lane *lane = lane_of(self);
  const struct emu_multiplier *multiplier = self->multiplier;
  if (pending < 0 || pending >= GROUPS)
    emu_fault(self, NULL, "wgmma_wait leaves %d groups pending; it can leave 0 to 7", pending);
  emu_align_warp(self);
  if (lane->groups <= (uint32_t)pending) return;
  lane->waits_for = lane->group_end[(lane->groups - 1 - (uint32_t)pending) % GROUPS];
  if (multiplier->done < lane->waits_for) {
    self->waiting = EMU_AT_WGMMA, self->waits_for = multiplier;
    emu_wait(self);
  }
  give_back(lane, lane->waits_for);
  emu_learn(self, multiplier->actor, lane->waits_for);
}
