#include "choose.h"

#include "plan.h"
#include "tuned.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { BLOCK_K = 128, MOST_OF_A_CLUSTER = 8, ROWS = 64 /* of the tensor core */ };

static int64_t divide_up(int64_t x, int64_t by) { return x / by + (x % by != 0); }
static int64_t round_up(int64_t x, int64_t multiple) { return divide_up(x, multiple) * multiple; }

/* --- The machine */

/* An H100's 132 multiprocessors lie in parts of the chip that are no multiple of most sizes: so many clusters were counted. */
int fg_clusters_at_once(int sms, int cluster) {
  static const int on_an_h100[MOST_OF_A_CLUSTER] = {132, 66, 39, 30, 22, 17, 15, 15};
  if (cluster < 1 || cluster > MOST_OF_A_CLUSTER) return 0;
  int64_t clusters = sms / cluster, fit = (int64_t)sms * on_an_h100[cluster - 1] / on_an_h100[0];
  return (int)(fit >= 1 && fit < clusters ? fit : clusters);
}

static int sms_for(const fg_gpu *gpu, const fg_problem *full) {
  return full->sm_limit > 0 && full->sm_limit < gpu->sms ? full->sm_limit : gpu->sms;
}

/* Bytes that come from memory in a microsecond. Measured on an H100 with HBM3, over whole calls; on others in proportion to what NVIDIA
 * states of their memory, TB/s. A slice of a GPU has about the same share of both. */
static double memory_rate(const fg_gpu *gpu) {
  static const double h100_rate = 2.79e6, h100_stated = 3.35;
  static const struct {
    const char *name;
    int sms;
    double stated;
  } memories[] = {{"H200", 132, 4.8}, {"H20", 78, 4.0}, {"H100 PCIe", 114, 2.0}, {"", 132, h100_stated}};
  int i = 0;
  while (!strstr(gpu->name, memories[i].name)) i++;
  double share = gpu->sms < memories[i].sms ? (double)gpu->sms / memories[i].sms : 1;
  return h100_rate * memories[i].stated / h100_stated * share;
}

struct machine {
  int sms;
  double memory_rate;
  int clusters[MOST_OF_A_CLUSTER + 1]; /* at once, by size */
};

static struct machine machine_for(const fg_gpu *gpu, const fg_problem *full) {
  struct machine machine = {.sms = sms_for(gpu, full), .memory_rate = memory_rate(gpu)};
  for (int size = 1; size <= MOST_OF_A_CLUSTER; size++) machine.clusters[size] = fg_clusters_at_once(machine.sms, size);
  return machine;
}

/* --- The model
 *
 * A call takes what any call takes, and two things that overlap, though not wholly: what a block has to do, tile after tile, and the
 * operands' way from memory and D's to it. Constants are microseconds on an H100, cold, fitted to what tests/golden/full_times.txt has;
 * tests/test_choose.c holds the model to it. */

struct work {
  double tiles;  /* that a block has, one after the other */
  double blocks; /* of K, of a tile */
  double block;  /* each */
  double rest;   /* of a tile: before the first block and after the last */
};

/* Of a tile, in units of 64 x 64. */
static double area(const fg_plan *plan) { return plan->block_m / 64.0 * plan->block_n / 64.0; }

/* Few rows. A warpgroup waits for the block, multiplies, promotes: most of it is latency, and grows but slowly with the tile. */
static struct work swapped_work(const struct machine *machine, const fg_problem *full, const fg_plan *plan) {
  double mn = area(plan);
  int64_t tiles = divide_up(full->m, plan->block_m) * divide_up(full->n, plan->block_n);
  return (struct work){.tiles = (double)divide_up(tiles, machine->clusters[plan->cluster]),
                       .blocks = (double)divide_up(divide_up(full->k, BLOCK_K), plan->cluster),
                       .block = 0.1 + 0.113 * mn,
                       .rest = 0.361 + (plan->cluster > 1 ? 0.73 : 0.306) * mn}; /* sums are sent, and added */
}

/* Many rows. What a block of K takes has a part that does not become less with the tile's columns: A's rows come from the L2, whose rate is
 * what narrow tiles take. Tiles that are fewer than the multiprocessors take less, as if each had more of it. */
static struct work full_work(const struct machine *machine, const fg_problem *full, const fg_plan *plan) {
  int64_t rows = round_up(divide_up(full->m, plan->block_m), fg_plan_shares_b(plan));
  int64_t cols = round_up(divide_up(full->n, plan->block_n), fg_plan_shares_a(plan));
  int64_t tiles = rows * cols, at_once = machine->clusters[plan->cluster] * (int64_t)plan->cluster;
  double n = plan->block_n / 128.0, mn = area(plan), idle = tiles < at_once ? 1 - (double)tiles / (double)at_once : 0;
  bool is_uneven = plan->block_n > 64 && plan->block_n % 32 != 0; /* a kernel with code for eight offsets, and small boxes of D */
  struct work work = {.tiles = (double)divide_up(tiles, at_once),
                      .blocks = (double)divide_up(full->k, BLOCK_K),
                      .rest = 0.1125 * mn + (is_uneven ? 0.461 : 0)};
  if (plan->block_m == 256)
    work.block = 0.1556 + 0.519 * n;
  else if (plan->block_m == 128)
    work.block = 0.0842 + 0.2777 * n;
  else
    work.block = 0.0568 + 0.1737 * n;
  work.block *= 1 - 0.256 * idle;
  return work;
}

static double model_us(const struct machine *machine, const fg_problem *full, const fg_plan *plan) {
  static const double full_call = 6.22, swapped_call = 6.18, cluster_launch = 0.9, not_overlapped = 0.193, hot_after = 300,
                      hot = 1.172;
  double m = (double)full->m, n = (double)full->n, k = (double)full->k;
  double d_bytes = 0.984 * (full->d.type == FG_FP32 ? 4 : 2); /* as if a part of D were still in the L2 when the call ends */
  if (full->m == 0 || full->n == 0 || machine->clusters[plan->cluster] == 0) return 0;
  bool is_swapped = plan->order == FG_B_BY_A;
  struct work work = is_swapped ? swapped_work(machine, full, plan) : full_work(machine, full, plan);
  double busy = work.tiles * (work.blocks * work.block + work.rest);
  double memory = (n * k + m * k + d_bytes * m * n) / machine->memory_rate;
  double us = (is_swapped ? swapped_call : full_call) + (plan->cluster > 1 ? cluster_launch : 0);
  us += busy > memory ? busy + not_overlapped * memory : memory + not_overlapped * busy;
  return us > hot_after ? hot_after + (us - hot_after) * hot : us; /* the clock comes down to what power allows */
}

double fg_model_us(const fg_gpu *gpu, const fg_problem *full, const fg_plan *plan) {
  struct machine machine = machine_for(gpu, full);
  return plan->cluster < 1 || plan->cluster > MOST_OF_A_CLUSTER ? 0 : model_us(&machine, full, plan);
}

/* --- The list */

/* The heights of the lowest tiles, then steps of 64 rows, of many rows steps of at most an eighth of them. */
int64_t fg_class_of_m(int64_t m) {
  int64_t step = ROWS;
  if (m <= 8) return 8;
  if (m <= 32) return 32;
  while (step < divide_up(m, 16)) step *= 2;
  return round_up(m, step);
}

struct candidate {
  fg_order order;
  int block_m, block_n, cluster;
};

/* What is chosen from, in the order in which they are taken if the model sees no difference worth a kernel more. */
static const struct candidate usual[] = {
    {FG_B_BY_A, 64, 64, 8},   {FG_B_BY_A, 8, 64, 8},    {FG_A_BY_B, 64, 64, 1},   {FG_A_BY_B, 64, 32, 1},
    {FG_A_BY_B, 64, 16, 1},   {FG_A_BY_B, 128, 128, 1}, {FG_A_BY_B, 128, 192, 1}, {FG_A_BY_B, 256, 128, 1},
    {FG_B_BY_A, 8, 256, 4},   {FG_A_BY_B, 128, 64, 1},  {FG_A_BY_B, 128, 176, 1}, {FG_A_BY_B, 128, 144, 1},
    {FG_A_BY_B, 128, 160, 1}, {FG_A_BY_B, 128, 96, 1},
};
enum { USUAL = sizeof usual / sizeof usual[0] };

/* Within this of the least time, the first of the list is taken: the model errs by more. */
static const double no_difference = 1.025;

/* A wish of 0 leaves it open. */
static bool is_wished(int wish, int value) { return wish == 0 || wish == value; }

/* Ranges of K that the problem or the wish demands; 0: any. */
static int demanded_split(const fg_problem *full, const fg_plan *wish) {
  if (wish->split_k) return wish->split_k;
  return full->split_k > 0 ? full->split_k : full->flags & FG_NO_SPLIT_K ? 1 : 0;
}

static int split_of(const struct candidate *candidate) { return candidate->order == FG_B_BY_A ? candidate->cluster : 1; }

static bool is_open(const struct machine *machine, const fg_problem *full, const fg_plan *wish,
                    const struct candidate *candidate) {
  return is_wished((int)wish->order, (int)candidate->order) && is_wished(wish->block_m, candidate->block_m) &&
         is_wished(wish->block_n, candidate->block_n) && is_wished(wish->cluster, candidate->cluster) &&
         wish->blocks % candidate->cluster == 0 && is_wished(demanded_split(full, wish), split_of(candidate)) &&
         machine->clusters[candidate->cluster] > 0;
}

static void take(const struct candidate *candidate, fg_plan *plan) {
  plan->order = candidate->order;
  plan->block_m = candidate->block_m;
  plan->block_n = candidate->block_n;
  plan->cluster = candidate->cluster;
  plan->split_k = split_of(candidate);
}

/* A tile of 8 or 32 rows of A is for so many rows. */
static bool is_for_rows(const struct candidate *candidate, const fg_plan *wish, int64_t m) {
  return wish->block_m || candidate->block_m >= ROWS || m <= candidate->block_m;
}

static double estimate(const struct machine *machine, const fg_problem *of_class, const struct candidate *candidate) {
  fg_plan plan = {.level = FG_FULL};
  take(candidate, &plan);
  return model_us(machine, of_class, &plan);
}

/* The least time of those that wishes leave open; false: they leave none. */
static bool choose_usual(const struct machine *machine, const fg_problem *of_class, fg_plan *plan) {
  double us[USUAL], least = INFINITY;
  for (int i = 0; i < USUAL; i++) {
    us[i] = INFINITY;
    if (!is_open(machine, of_class, plan, &usual[i]) || !is_for_rows(&usual[i], plan, of_class->m)) continue;
    us[i] = estimate(machine, of_class, &usual[i]);
    if (us[i] < least) least = us[i];
  }
  for (int i = 0; i < USUAL; i++)
    if (isfinite(us[i]) && us[i] <= least * no_difference) {
      take(&usual[i], plan);
      return true;
    }
  return false;
}

/* A wish that is not on the list: what goes with it. */
static void complete(const struct machine *machine, const fg_problem *of_class, fg_plan *plan) {
  int split = demanded_split(of_class, plan), most = machine->sms;
  bool is_swapped_tile = plan->block_m % ROWS != 0 || plan->block_n == 256;
  bool is_full_tile = plan->block_m > 128 || plan->block_n % ROWS != 0;
  if (!plan->order)
    plan->order = split > 1 || plan->cluster > 2 || is_swapped_tile           ? FG_B_BY_A
                  : is_full_tile || of_class->m > 256 || plan->block_m > ROWS ? FG_A_BY_B
                                                                              : FG_B_BY_A;
  bool is_swapped = plan->order == FG_B_BY_A;
  if (!plan->block_m) plan->block_m = !is_swapped ? 128 : of_class->m < ROWS ? (int)of_class->m : ROWS;
  if (!plan->block_n) plan->block_n = 128;
  if (!plan->cluster && is_swapped) plan->cluster = split > 1 ? split : 1;
  if (!plan->cluster) plan->cluster = most > 1 && plan->blocks % 2 == 0 && plan->block_n % 32 == 0 ? 2 : 1;
  if (!plan->split_k) plan->split_k = split ? split : is_swapped ? plan->cluster : 1;
}

static void choose(const fg_gpu *gpu, const fg_problem *full, const struct fg_tuned *own, fg_plan *plan) {
  fg_problem of_class = *full;
  of_class.m = fg_class_of_m(full->m);
  struct machine machine = machine_for(gpu, full);
  if (plan->order && plan->block_m && plan->block_n && plan->cluster) {
    complete(&machine, &of_class, plan);
    return;
  }
  const struct fg_tuned *const tables[] = {own, fg_tuned_shipped()};
  for (int i = 0; i < 2 && full->sm_limit == 0 && plan->blocks == 0; i++) {
    const fg_plan *tuned = tables[i] ? fg_tuned_find(tables[i], gpu, &of_class) : NULL;
    if (!tuned) continue;
    struct candidate candidate = {tuned->order, tuned->block_m, tuned->block_n, tuned->cluster};
    if (!is_open(&machine, full, plan, &candidate) || !is_wished(plan->stages, tuned->stages)) continue;
    take(&candidate, plan);
    plan->stages = tuned->stages;
    return;
  }
  if (!choose_usual(&machine, &of_class, plan)) complete(&machine, &of_class, plan);
}

/* All that a choice depends on; without a gap, so that memcmp() will do. */
struct asked {
  fg_gpu gpu;                /* its name and multiprocessors */
  uint64_t own;              /* the table; 0: none */
  int64_t m, n, k, no_split; /* m: the largest of its class */
  int scaling, d_is_fp32, sm_limit, split_k;
  fg_plan wish;
};
_Static_assert(sizeof(struct asked) == sizeof(fg_gpu) + 5 * sizeof(int64_t) + 4 * sizeof(int) + sizeof(fg_plan), "no gap");

static struct asked asked_of(const fg_gpu *gpu, const fg_problem *full, const struct fg_tuned *own, const fg_plan *wish) {
  struct asked asked = {0};
  memcpy(asked.gpu.name, gpu->name, strnlen(gpu->name, sizeof gpu->name));
  asked.gpu.sms = gpu->sms;
  asked.own = own ? own->id : 0;
  asked.m = fg_class_of_m(full->m), asked.n = full->n, asked.k = full->k;
  asked.scaling = (int)full->b.scaling, asked.d_is_fp32 = full->d.type == FG_FP32;
  asked.sm_limit = full->sm_limit, asked.split_k = full->split_k, asked.no_split = (full->flags & FG_NO_SPLIT_K) != 0;
  asked.wish = *wish;
  return asked;
}

/* A model's products come again, call after call: each thread remembers what it chose for the last of them. */
void fg_choose(const fg_gpu *gpu, const fg_problem *full, const struct fg_tuned *own, fg_plan *plan) {
  enum { REMEMBERED = 32 };
  static _Thread_local struct {
    struct asked asked;
    fg_plan plan;
  } last[REMEMBERED];
  struct asked asked = asked_of(gpu, full, own, plan);
  uint64_t hash = ((uint64_t)asked.m * 31 + (uint64_t)asked.n) * 31 + (uint64_t)asked.k;
  size_t at = (hash * 0x9E3779B97F4A7C15u) >> 59; /* one of 32 */
  if (last[at].plan.order && memcmp(&last[at].asked, &asked, sizeof asked) == 0) {
    *plan = last[at].plan;
    return;
  }
  choose(gpu, full, own, plan);
  if (!own || own->id) last[at].asked = asked, last[at].plan = *plan;
}

/* --- All that may be tried */

struct ranked {
  struct candidate candidate;
  double us;
};

static int add_ranked(struct ranked *list, int count, const struct candidate *candidate, double us) {
  int at = count;
  if (count == FG_MOST_CANDIDATES) return count;
  for (; at > 0 && list[at - 1].us > us; at--) list[at] = list[at - 1];
  list[at] = (struct ranked){*candidate, us};
  return count + 1;
}

int fg_candidates(const fg_gpu *gpu, const fg_problem *full, fg_plan *plans, int capacity) {
  static const int heights[] = {8, 16, 24, 32, 48, 64, 128}, swapped_widths[] = {64, 128, 192, 256};
  static const struct candidate wide[] = {
      {FG_A_BY_B, 64, 16, 1},   {FG_A_BY_B, 64, 32, 1},   {FG_A_BY_B, 64, 48, 1},   {FG_A_BY_B, 64, 64, 1},
      {FG_A_BY_B, 64, 96, 1},   {FG_A_BY_B, 64, 96, 2},   {FG_A_BY_B, 64, 128, 1},  {FG_A_BY_B, 64, 128, 2},
      {FG_A_BY_B, 64, 192, 1},  {FG_A_BY_B, 64, 192, 2},  {FG_A_BY_B, 128, 32, 1},  {FG_A_BY_B, 128, 48, 1},
      {FG_A_BY_B, 128, 64, 1},  {FG_A_BY_B, 128, 96, 1},  {FG_A_BY_B, 128, 96, 2},  {FG_A_BY_B, 128, 112, 1},
      {FG_A_BY_B, 128, 112, 2}, {FG_A_BY_B, 128, 128, 1}, {FG_A_BY_B, 128, 128, 2}, {FG_A_BY_B, 128, 144, 1},
      {FG_A_BY_B, 128, 144, 2}, {FG_A_BY_B, 128, 160, 1}, {FG_A_BY_B, 128, 160, 2}, {FG_A_BY_B, 128, 176, 1},
      {FG_A_BY_B, 128, 176, 2}, {FG_A_BY_B, 128, 192, 1}, {FG_A_BY_B, 128, 192, 2}, {FG_A_BY_B, 256, 128, 1},
      {FG_A_BY_B, 256, 128, 2}, {FG_A_BY_B, 256, 96, 1},  {FG_A_BY_B, 256, 96, 2},  {FG_A_BY_B, 256, 64, 2}};
  struct ranked ranked[FG_MOST_CANDIDATES];
  fg_problem of_class = *full;
  of_class.m = fg_class_of_m(full->m);
  struct machine machine = machine_for(gpu, full);
  const fg_plan none = {0}, *wish = full->plan ? full->plan : &none;
  int count = 0;
  for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
    if (is_open(&machine, full, wish, &wide[i]))
      count = add_ranked(ranked, count, &wide[i], estimate(&machine, &of_class, &wide[i]));
  for (int h = 0; h < 7; h++)
    for (int w = 0; w < 4; w++)
      for (int cluster = 1; cluster <= MOST_OF_A_CLUSTER; cluster++) {
        struct candidate candidate = {FG_B_BY_A, heights[h], swapped_widths[w], cluster};
        bool has_registers = candidate.block_m * candidate.block_n <= 128 * 128;
        bool is_useful = heights[h] <= ROWS ? heights[h] >= full->m || heights[h] == ROWS : full->m > ROWS;
        bool is_near = heights[h] / 4 < full->m || heights[h] == 8; /* none of more than four times the rows */
        if (has_registers && is_useful && is_near && is_open(&machine, full, wish, &candidate))
          count = add_ranked(ranked, count, &candidate, estimate(&machine, &of_class, &candidate));
      }
  for (int i = 0; i < count && i < capacity; i++) {
    plans[i] = (fg_plan){.level = FG_FULL, .stages = wish->stages, .blocks = wish->blocks};
    take(&ranked[i].candidate, &plans[i]);
  }
  return count;
}
