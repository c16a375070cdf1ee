/* Every kernel at every plan, compiled for GPUs that need not be here: without a warning, without a spilled register, without a stack.
 * That takes long, so that a run without FG_ALL_PLANS=1 in the environment takes some of the tile sizes, of the pairs of
 * types and of the kinds, and says how many. Skipped, and said so, where NVRTC is not. */
#include "compiler.h"
#include "plan.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_JOBS = 16384, MOST_ARCHS = 32, REGISTERS_OF_A_MULTIPROCESSOR = 65536, STATIC_SHARED_BYTES = 48 << 10 };

/* A kernel to be compiled, and what the compiler said of it. */
struct job {
  struct fg_kernel_id id;
  int arch; /* 90 */
  int threads;
  fg_status status;
  char *log; /* the compiler's; after a failure the message */
};

static struct job jobs[MOST_JOBS];
static int job_count;

/* Of all GPUs; and of Hopper's alone, which serve dense problems. */
static const fg_level levels[] = {FG_NAIVE, FG_SHARED};
static const fg_level rungs[] = {FG_WGMMA, FG_TMA, FG_PIPELINE, FG_PERSISTENT, FG_CLUSTER};
static const fg_order orders[] = {FG_A_BY_B, FG_B_BY_A}; /* of level full */
enum { LEVELS = sizeof levels / sizeof *levels, RUNGS = sizeof rungs / sizeof *rungs, ORDERS = sizeof orders / sizeof *orders };

/* From 9.0 on, what is special about a chip wants the suffix. */
static void name_arch(int arch, char name[16]) { snprintf(name, 16, "sm_%d%s", arch, arch >= 90 ? "a" : ""); }

static void need_compiler(void) {
  if (fg_compiler_version() != 0) return;
  fprintf(stderr, "skipped: %s\n", fg_message());
  cr_skip_test("%s", fg_message());
}

/* The plan that has what is wished, where there is one. */
static bool plan_like(fg_level level, const fg_plan *wish, fg_plan *plan) {
  const fg_problem problem = {.m = 4096, .n = 4096, .k = 4096, .level = level, .plan = wish};
  return fg_plan_make(&fg_known_gpus(NULL)[0], &problem, plan) == FG_OK;
}

/* Zeros: the default. */
static bool plan_with(fg_level level, int block_m, int block_n, fg_plan *plan) {
  return plan_like(level, &(fg_plan){.block_m = block_m, .block_n = block_n}, plan);
}

/* With all kinds (a rung has one) and pairs of types, or with those whose turn it is. */
static void add_jobs(const fg_plan *plan, int arch, bool all) {
  static const fg_kind kinds[] = {FG_DENSE, FG_GROUPED_ROWS, FG_MASKED, FG_GROUPED_K}; /* a batch is dense */
  int step = plan->level >= FG_WGMMA ? 4 : 1, turn = job_count * step % 16;
  for (int i = 0; i < 16; i += step) {
    if (!all && i != turn) continue;
    cr_assert_lt(job_count, MOST_JOBS);
    const fg_problem full = {
        .kind = kinds[i % 4], .a = {.type = i & 4 ? FG_E5M2 : FG_E4M3}, .b = {.type = i & 8 ? FG_E5M2 : FG_E4M3}};
    jobs[job_count++] = (struct job){.id = fg_kernel_id_of(plan, &full), .arch = arch, .threads = plan->threads};
  }
}

/* What a kernel of level full has constants for, besides its plan: bits 0 and 1 are the types, 2 the scaling of B, 3 who brings scales, 4
 * whether sums are rounded on their way to D; and D's type then. false: there is no such plan. */
static bool add_full(const fg_plan *wish, int constants) {
  static _Alignas(16) float there[8];
  bool by_tma = constants & 8, is_plain = constants & 16;
  const fg_problem full = {.m = 4096,
                           .n = 4096,
                           .k = 4096,
                           .a = {.type = constants & 1 ? FG_E5M2 : FG_E4M3,
                                 .scale = there + !by_tma,
                                 .scaling = FG_1X128,
                                 .scale_layout = FG_ROWS_CONTIGUOUS,
                                 .scale_ld = 4096},
                           .b = {.type = constants & 2 ? FG_E5M2 : FG_E4M3,
                                 .scale = there,
                                 .scaling = constants & 4 ? FG_1X128 : FG_128X128,
                                 .scale_layout = FG_ROWS_CONTIGUOUS,
                                 .scale_ld = 4096},
                           .c = {.data = is_plain ? NULL : there},
                           .d = {.data = there, .ld = 4096, .type = (fg_type)(FG_BF16 + constants / 32 % 3)},
                           .level = FG_FULL,
                           .plan = wish};
  fg_plan plan;
  cr_assert_lt(job_count, MOST_JOBS);
  if (fg_plan_make(&fg_known_gpus(NULL)[0], &full, &plan) != FG_OK) return false;
  struct fg_kernel_id id = fg_kernel_id_of(&plan, &full);
  cr_assert(id.scales_by_tma == by_tma && id.b_is_1x128 == constants / 4 % 2 && id.a_is_e5m2 == constants % 2);
  bool is_stored = is_plain && full.d.type != FG_FP32;
  cr_assert_eq(id.d_type, is_stored ? (int)full.d.type : 0);
  jobs[job_count++] = (struct job){.id = id, .arch = 90, .threads = plan.threads};
  return true;
}

static void compile_one(struct job *job) {
  struct fg_kernel_defines defines = fg_kernel_defines_of(&job->id);
  const char *texts[FG_MOST_KERNEL_DEFINES];
  for (int i = 0; i < defines.count; i++) texts[i] = defines.text[i];
  char arch[16];
  name_arch(job->arch, arch);
  struct fg_compilation compilation = {
      .source = fg_kernel_source(job->id.level, job->id.order), .arch = arch, .defines = texts, .define_count = defines.count};
  void *cubin;
  size_t bytes;
  job->status = fg_compile(&compilation, &cubin, &bytes, &job->log);
  if (job->status != FG_OK) {
    free(job->log);
    job->log = strdup(fg_message());
  }
  free(cubin);
}

static void compile_all(void) {
#pragma omp parallel for schedule(dynamic)
  for (int i = 0; i < job_count; i++) compile_one(&jobs[i]);
}

/* The number before " WORDS" or, if `before`, after "WORDS " in the log; -1: it does not say. */
static int number_in(const char *log, const char *words, bool before) {
  const char *at = strstr(log, words);
  if (!at) return -1;
  if (!before) return atoi(at + strlen(words));
  while (at > log && at[-1] >= '0' && at[-1] <= '9') at--;
  return atoi(at);
}

/* Looks at what was compiled; the kernel's registers. */
static int check_one(const struct job *job) {
  char name[128];
  snprintf(name, sizeof name, "%s %dx%d, %d stages, clusters of %d, for sm_%d, a e%dm%d, b e%dm%d, kind %d, %d %d %d",
           fg_kernel_name(job->id.level, job->id.order), job->id.block_m, job->id.block_n, job->id.stages, job->id.cluster,
           job->arch, 4 + job->id.a_is_e5m2, 3 - job->id.a_is_e5m2, 4 + job->id.b_is_e5m2, 3 - job->id.b_is_e5m2, job->id.kind,
           job->id.b_is_1x128, job->id.scales_by_tma, job->id.d_type);
  cr_expect_eq(job->status, FG_OK, "%s: %s", name, job->log);
  if (job->status != FG_OK) return -1;
  cr_assert_not_null(job->log, "%s: there is no log", name);
  cr_expect_eq(number_in(job->log, " bytes stack frame", true), 0, "%s has a stack:\n%s", name, job->log);
  cr_expect_eq(number_in(job->log, " bytes spill stores", true), 0, "%s spills:\n%s", name, job->log);
  cr_expect_eq(number_in(job->log, " bytes spill loads", true), 0, "%s spills:\n%s", name, job->log);
  cr_expect(!strstr(job->log, "warning") && !strstr(job->log, "Warning"), "%s: %s", name, job->log);
  int registers = number_in(job->log, "Used ", false), shared_bytes = number_in(job->log, " bytes smem", true);
  cr_expect(registers >= 16 && registers <= 255, "%s has %d registers", name, registers);
  cr_expect_leq(registers * job->threads, REGISTERS_OF_A_MULTIPROCESSOR, "%s cannot be launched", name);
  cr_expect_leq(shared_bytes, STATIC_SHARED_BYTES, "%s", name);
  return registers;
}

static void free_jobs(void) {
  for (int i = 0; i < job_count; i++) free(jobs[i].log);
  job_count = 0;
}

/* A row for each level and architecture: of all that was compiled, the fewest and the most registers and what has them. */
static void print_table(const int registers[MOST_JOBS]) {
  for (int first = 0, next; first < job_count; first = next) {
    int least = first, most = first;
    for (next = first; next < job_count && jobs[next].arch == jobs[first].arch && jobs[next].id.level == jobs[first].id.level &&
                       jobs[next].id.order == jobs[first].id.order;
         next++) {
      if (registers[next] < registers[least]) least = next;
      if (registers[next] > registers[most]) most = next;
    }
    printf("%-10s sm_%-4d %4d kernels, registers from %3d (%dx%d) to %3d (%dx%d)\n",
           fg_kernel_name(jobs[first].id.level, jobs[first].id.order), jobs[first].arch, next - first, registers[least],
           jobs[least].id.block_m, jobs[least].id.block_n, registers[most], jobs[most].id.block_m, jobs[most].id.block_n);
  }
}

static void compile_and_check(void) {
  static int registers[MOST_JOBS];
  compile_all();
  for (int i = 0; i < job_count; i++) registers[i] = check_one(&jobs[i]);
  print_table(registers);
  free_jobs();
}

/* Of what plans admit: the smallest, the largest, the longest, and some whose sides are no powers of two. */
static const struct {
  fg_level level;
  int block_m, block_n;
} some_tiles[] = {{FG_NAIVE, 1, 32},   {FG_NAIVE, 32, 1},   {FG_NAIVE, 1, 1024}, {FG_NAIVE, 1024, 1}, {FG_NAIVE, 16, 16},
                  {FG_NAIVE, 32, 32},  {FG_NAIVE, 3, 32},   {FG_NAIVE, 96, 5},   {FG_NAIVE, 7, 128},  {FG_NAIVE, 64, 15},
                  {FG_NAIVE, 11, 32},  {FG_SHARED, 16, 16}, {FG_SHARED, 16, 64}, {FG_SHARED, 64, 16}, {FG_SHARED, 64, 64},
                  {FG_SHARED, 32, 32}, {FG_SHARED, 48, 48}, {FG_SHARED, 32, 48}, {FG_SHARED, 48, 16}};

static bool is_taken(const fg_plan *plan) {
  for (size_t i = 0; i < sizeof some_tiles / sizeof *some_tiles; i++)
    if (some_tiles[i].level == plan->level && some_tiles[i].block_m == plan->block_m && some_tiles[i].block_n == plan->block_n)
      return true;
  return getenv("FG_ALL_PLANS") != NULL;
}

Test(kernels, compile_at_every_plan) {
  need_compiler();
  int taken = 0;
  for (int l = 0; l < LEVELS; l++) {
    int tiles = 0, before = taken;
    fg_plan plan;
    for (int block_m = 1; block_m <= 1025; block_m++)
      for (int block_n = 1; block_n <= 1025; block_n++) {
        if (!plan_with(levels[l], block_m, block_n, &plan)) continue;
        cr_assert(block_m <= 1024 && block_n <= 1024, "there are larger tiles than this test looks for");
        tiles++;
        if (!is_taken(&plan)) continue;
        add_jobs(&plan, 90, getenv("FG_ALL_PLANS") != NULL);
        taken++;
      }
    printf("%-10s %d of the %d tile sizes that plans admit\n", fg_kernel_name((int)levels[l], 0), taken - before, tiles);
  }
  cr_assert_geq(taken, (int)(sizeof some_tiles / sizeof *some_tiles));
  compile_and_check();
}

/* Each tile with each depth of the ring and each size of a cluster; or with one of these, another each time. */
static int add_rung(fg_level level, bool all) {
  enum { MOST = 128 };
  int plans = 0;
  for (int block_m = 64; block_m <= 256; block_m += 64)
    for (int block_n = 8; block_n <= 256; block_n += 8) {
      static fg_plan fitting[MOST];
      int fit = 0;
      for (int stages = 0; stages <= 9; stages++)
        for (int cluster = 1; cluster <= 8; cluster++) {
          fg_plan wish = {.block_m = block_m, .block_n = block_n, .stages = stages, .cluster = cluster};
          cr_assert_lt(fit, MOST);
          if (plan_like(level, &wish, &fitting[fit]) && fitting[fit].stages == stages) fit++;
        }
      for (int i = 0; i < fit; i++)
        if (all || i == plans * 5 % fit) add_jobs(&fitting[i], 90, all);
      plans += fit;
    }
  return plans;
}

/* Of these, 64 accumulators and as many sums make it tight. */
Test(kernels, compile_at_every_plan_of_tensor_cores) {
  need_compiler();
  for (int r = 0; r < RUNGS; r++) {
    int before = job_count, plans = add_rung(rungs[r], getenv("FG_ALL_PLANS") != NULL);
    cr_assert_geq(job_count - before, rungs[r] == FG_CLUSTER ? 4 : 10);
    printf("%-10s %d of the %d kernels that plans admit\n", fg_kernel_name((int)rungs[r], 0), job_count - before, 4 * plans);
  }
  compile_and_check();
}

/* One in three tiles of an order, each with some depth of the ring, some size of a cluster and some other constants; or each with all of the
 * latter. */
Test(kernels, compile_at_every_tile_of_full) {
  enum { MOST_STAGES = 24, MOST_CLUSTER = 8, VARIANTS = 96, STEP = 37 };
  need_compiler();
  for (int o = 0; o < ORDERS; o++) {
    int tiles = 0, before = job_count;
    for (int block_m = 8; block_m <= 256; block_m += 8)
      for (int block_n = 8; block_n <= 256; block_n += 8) {
        static fg_plan fitting[MOST_STAGES * MOST_CLUSTER];
        int fit = 0;
        for (int stages = 2; stages <= MOST_STAGES; stages++)
          for (int cluster = 1; cluster <= MOST_CLUSTER; cluster++) {
            fg_plan made;
            fitting[fit] =
                (fg_plan){.order = orders[o], .block_m = block_m, .block_n = block_n, .stages = stages, .cluster = cluster};
            if (plan_like(FG_FULL, &fitting[fit], &made)) fit++;
          }
        if (fit == 0) continue;
        int turn = tiles++ * STEP;
        for (int i = 0; i < VARIANTS; i++)
          if (getenv("FG_ALL_PLANS"))
            add_full(&fitting[(turn + i) % fit], i);
          else if (tiles % 3 == 1 && i == turn % VARIANTS && !add_full(&fitting[turn % fit], i))
            cr_assert(add_full(&fitting[turn % fit], i & ~4)); /* scales for each row of B have no room beside it */
      }
    cr_assert_geq(tiles, orders[o] == FG_A_BY_B ? 28 : 50);
    printf("%-10s %d of the %d kernels of its %d tiles\n", fg_kernel_name(FG_FULL, (int)orders[o]), job_count - before,
           VARIANTS * tiles, tiles);
  }
  compile_and_check();
}

Test(kernels, compile_for_every_architecture) {
  need_compiler();
  int archs[MOST_ARCHS], count = fg_compiler_archs(archs, MOST_ARCHS);
  cr_assert(count > 0 && count <= MOST_ARCHS);
  for (int l = 0; l < LEVELS; l++)
    for (int i = 0; i < count; i++) {
      fg_plan plan;
      cr_assert(plan_with(levels[l], 0, 0, &plan), "%s", fg_message());
      add_jobs(&plan, archs[i], archs[i] == 90 || getenv("FG_ALL_PLANS"));
    }
  for (int r = 0; r < RUNGS; r++)
    for (int block_m = 64; block_m <= 128; block_m += 64) {
      fg_plan plan;
      cr_assert(plan_with(rungs[r], block_m, 0, &plan), "%s", fg_message());
      add_jobs(&plan, 90, true);
    }
  compile_and_check();
}

/* What level full has constants for makes another kernel, and nothing else does. */
Test(kernels, of_full_differ_by_their_constants) {
  enum { VARIANTS = 96 };
  for (int o = 0; o < ORDERS; o++) {
    const fg_plan wish = {.order = orders[o], .block_m = 64, .block_n = 64};
    int distinct = 0;
    for (int i = 0; i < VARIANTS; i++) {
      bool is_new = true;
      cr_assert(add_full(&wish, i));
      char text[sizeof((fg_kernel){0}.defines)], other[sizeof text];
      fg_kernel_describe(&jobs[i].id, text, sizeof text);
      cr_assert_lt(strlen(text), sizeof text - 1, "%s", text);
      for (int before = 0; before < i; before++) {
        fg_kernel_describe(&jobs[before].id, other, sizeof other);
        bool is_same = memcmp(&jobs[i].id, &jobs[before].id, sizeof jobs[i].id) == 0;
        cr_expect_eq(is_same, strcmp(text, other) == 0, "%s and %s", text, other);
        if (is_same) is_new = false;
      }
      distinct += is_new;
    }
    cr_expect_eq(distinct, 16 * 3, "%d kernels", distinct); /* with a type of 16 bits of D, or none */
    free_jobs();
  }
}

/* A kernel for each kind, but one for a matrix and a batch, and for every size. */
Test(kernels, differ_by_their_constants) {
  fg_plan plan;
  cr_assert(plan_with(FG_SHARED, 0, 0, &plan), "%s", fg_message());
  for (int one = FG_DENSE; one <= FG_GROUPED_K; one++)
    for (int other = FG_DENSE; other <= FG_GROUPED_K; other++) {
      struct fg_kernel_id ids[] = {fg_kernel_id_of(&plan, &(fg_problem){.kind = (fg_kind)one, .m = 1, .n = 2, .k = 3}),
                                   fg_kernel_id_of(&plan, &(fg_problem){.kind = (fg_kind)other, .m = 4, .n = 5, .k = 6})};
      bool same = one == other || (one <= FG_BATCHED && other <= FG_BATCHED);
      cr_expect_eq(memcmp(&ids[0], &ids[1], sizeof ids[0]) == 0, same, "kinds %d and %d", one, other);
      struct fg_kernel_defines defines[] = {fg_kernel_defines_of(&ids[0]), fg_kernel_defines_of(&ids[1])};
      cr_assert(defines[0].count == defines[1].count && defines[0].count >= 5);
      for (int i = 0; i < defines[0].count; i++) {
        bool equal = strcmp(defines[0].text[i], defines[1].text[i]) == 0, is_kind = strncmp(defines[0].text[i], "KIND=", 5) == 0;
        cr_expect_eq(equal, same || !is_kind, "kinds %d and %d", one, other);
      }
    }
}

/* What is looked for stands in this compiler's log: of a kernel that needs a stack it says so. */
Test(kernels, a_stack_is_seen) {
  need_compiler();
  setenv("FG_KERNEL_DIR", FG_SOURCE_DIR, 1);
  const struct fg_compilation stack = {.source = "tests/kernels/stack.cu", .arch = "sm_90a"};
  void *cubin;
  size_t bytes;
  char *log;
  cr_assert_eq(fg_compile(&stack, &cubin, &bytes, &log), FG_OK, "%s", fg_message());
  cr_assert_geq(number_in(log, " bytes stack frame", true), 64 * (int)sizeof(int), "%s", log);
  cr_assert_eq(number_in(log, " bytes spill stores", true), 0, "%s", log);
  cr_assert_gt(number_in(log, "Used ", false), 0, "%s", log);
  free(log);
  free(cubin);
}
