/* Is the problem legal? One question after another, the cheapest and most general first; of all pointers only
 * group_values is followed, since it says how many scales there are. */
#include "core.h"
#include "extent.h"
#include "names.h"

static fg_status check_enumerator(const char *name, int value, int last) {
  if (value < 0 || value > last)
    return fg_fail(FG_BAD_ENUM, "%s is %d; it must be an enumerator, from 0 to %d", name, value, last);
  return FG_OK;
}

#define TRY(call)                                                                                                                \
  do {                                                                                                                           \
    fg_status try_status = (call);                                                                                               \
    if (try_status != FG_OK) return try_status;                                                                                  \
  } while (0)

static fg_status check_sizes(const fg_problem *full) {
  TRY(check_enumerator("kind", (int)full->kind, FG_GROUPED_K));
  TRY(fg_check_size("m", full->m));
  TRY(fg_check_size("n", full->n));
  TRY(fg_check_size("k", full->k));
  if (full->kind != FG_DENSE) TRY(fg_check_size("groups", full->groups));
  TRY(fg_check_size("group_align", full->group_align));
  TRY(fg_check_size("expected_m", full->expected_m));
  if (full->sm_limit < 0) return fg_fail(FG_BAD_SIZE, "sm_limit is %d; it must be 0 (all) or more", full->sm_limit);
  if (full->split_k < 0) return fg_fail(FG_BAD_SIZE, "split_k is %d; it must be 0 (as the plan says) or more", full->split_k);
  if (full->flags & FG_NO_SPLIT_K && full->split_k > 1)
    return fg_fail(FG_BAD_SIZE, "split_k is %d; with FG_NO_SPLIT_K in flags it must be 0 or 1", full->split_k);
  if (full->flags & ~(unsigned)(FG_NO_SPLIT_K | FG_DEPENDENT_LAUNCH))
    return fg_fail(FG_BAD_ENUM, "flags is 0x%x; the flags of a problem are FG_NO_SPLIT_K = 0x%x and FG_DEPENDENT_LAUNCH = 0x%x",
                   full->flags, FG_NO_SPLIT_K, FG_DEPENDENT_LAUNCH);
  return FG_OK;
}

static fg_status check_groups_are(const fg_problem *full) {
  TRY(check_enumerator("group_by", (int)full->group_by, FG_BY_COUNTS));
  TRY(check_enumerator("group_type", (int)full->group_type, FG_INT64));
  bool ranges = full->group_by != FG_BY_INDEX, counts = full->group_by == FG_BY_COUNTS;
  bool fits = full->kind == FG_GROUPED_ROWS || (full->kind == FG_GROUPED_K && ranges) || (full->kind == FG_MASKED && counts);
  if (!fits)
    return fg_fail(FG_BAD_ENUM, "group_by is %s, which %s does not take", fg_group_by_name(full->group_by),
                   fg_kind_name(full->kind));
  return FG_OK;
}

/* A and B: FP8 with scales. */
static fg_status check_factor(const char *name, const fg_operand *operand) {
  if (operand->type != FG_E4M3 && operand->type != FG_E5M2)
    return fg_fail(FG_BAD_ENUM, "%s.type is %d (%s); it must be FG_E4M3 or FG_E5M2", name, (int)operand->type,
                   fg_type_name(operand->type));
  if (operand->scaling < FG_1X128 || operand->scaling > FG_TENSOR)
    return fg_fail(FG_BAD_ENUM, "%s.scaling is %d; it must be FG_1X128, FG_128X128 or FG_TENSOR", name, (int)operand->scaling);
  if (operand->scale_layout != FG_BLOCKS_CONTIGUOUS && operand->scale_layout != FG_ROWS_CONTIGUOUS)
    return fg_fail(FG_BAD_ENUM, "%s.scale_layout is %d; it must be FG_BLOCKS_CONTIGUOUS or FG_ROWS_CONTIGUOUS", name,
                   (int)operand->scale_layout);
  return FG_OK;
}

/* C, bias and D: floating point without scales. */
static fg_status check_float(const char *name, const fg_operand *operand) {
  if (operand->type < FG_E4M3 || operand->type > FG_FP32)
    return fg_fail(FG_BAD_ENUM, "%s.type is %d; it must be FG_BF16, FG_FP16 or FG_FP32", name, (int)operand->type);
  bool result = name[0] == 'd';
  if (operand->type < FG_BF16)
    return fg_fail(result ? FG_UNSUPPORTED : FG_BAD_ENUM, "%s.type is %s; %s FG_BF16, FG_FP16 or FG_FP32", name,
                   fg_type_name(operand->type), result ? "no level writes other types than" : "it must be");
  if (operand->scale)
    return fg_fail(result ? FG_UNSUPPORTED : FG_BAD_ENUM, "%s.scale is %p; it must be NULL: %s has no scales", name,
                   (const void *)operand->scale, name);
  return FG_OK;
}

static void fill_defaults(fg_device device, fg_problem *full) {
  if (full->kind == FG_DENSE) full->groups = 1;
  if (full->group_by == FG_BY_DEFAULT) full->group_by = full->kind == FG_GROUPED_ROWS ? FG_BY_INDEX : FG_BY_COUNTS;
  if (full->group_align == 0) full->group_align = 1;
  if (full->a.type == FG_DEFAULT_TYPE) full->a.type = FG_E4M3;
  if (full->b.type == FG_DEFAULT_TYPE) full->b.type = FG_E4M3;
  if (full->d.type == FG_DEFAULT_TYPE) full->d.type = FG_BF16;
  if (full->c.type == FG_DEFAULT_TYPE) full->c.type = full->d.type;
  if (full->bias.type == FG_DEFAULT_TYPE) full->bias.type = FG_FP32;
  if (full->a.scaling == FG_DEFAULT_SCALING) full->a.scaling = FG_1X128;
  if (full->b.scaling == FG_DEFAULT_SCALING) full->b.scaling = FG_128X128;
  if (device == FG_CPU && full->split_k == 0) full->split_k = 1; /* else the plan says */
  if (device == FG_CPU && full->level == FG_BEST) full->level = full->flags & FG_NO_SPLIT_K ? FG_EXACT : FG_BLAS;
}

/* Every array of the problem, in the order in which they are checked. */
enum { A, A_SCALE, B, B_SCALE, C, BIAS, GROUP_VALUES, D, ARRAYS };

static struct fg_array list_scales(const char *name, const fg_problem *full, const fg_operand *operand, int64_t matrices,
                                   int64_t rows, int64_t blocks) {
  int64_t scale_rows, default_ld;
  fg_scale_shape(operand->scaling, rows, full->k, &scale_rows, &default_ld);
  if (operand->scaling == FG_TENSOR && blocks > 1) blocks = 1;
  struct fg_array array = fg_scale_array(name, operand, matrices, scale_rows, blocks);
  if (operand->scale_layout == FG_BLOCKS_CONTIGUOUS && array.ld == 0) array.ld = default_ld;
  return array;
}

/* `blocks` is what a row of scales holds: along grouped K every range may end in a short block of its own. */
static void list_arrays(const fg_problem *full, int64_t blocks, struct fg_array arrays[ARRAYS]) {
  bool dense = full->kind == FG_DENSE, rows = full->kind == FG_GROUPED_ROWS, along_k = full->kind == FG_GROUPED_K;
  int64_t groups = full->groups, a_matrices = dense || rows || along_k ? 1 : groups, b_matrices = along_k ? 1 : groups;
  int64_t d_matrices = rows ? 1 : groups;
  arrays[A] = fg_data_array("a", &full->a, a_matrices, full->m, full->k);
  arrays[A_SCALE] = list_scales("a", full, &full->a, a_matrices, full->m, blocks);
  arrays[B] = fg_data_array("b", &full->b, b_matrices, full->n, full->k);
  arrays[B_SCALE] = list_scales("b", full, &full->b, b_matrices, full->n, blocks);
  arrays[C] = fg_data_array("c", &full->c, full->c.data ? d_matrices : 0, full->m, full->n);
  arrays[BIAS] = fg_data_array("bias", &full->bias, full->bias.data ? full->groups : 0, 1, full->n);
  fg_operand d = fg_as_operand(&full->d);
  arrays[D] = fg_data_array("d", &d, d_matrices, full->m, full->n);
  bool grouped = rows || along_k || full->kind == FG_MASKED;
  int64_t values = !grouped ? 0 : full->group_by == FG_BY_INDEX ? full->m : groups + (full->group_by == FG_BY_OFFSETS);
  arrays[GROUP_VALUES] = (struct fg_array){.argument = "group_values",
                                           .is_bare = true,
                                           .data = full->group_values,
                                           .matrices = 1,
                                           .rows = 1,
                                           .cols = values,
                                           .element_bytes = full->group_type == FG_INT64 ? 8 : 4};
}

static bool same_place(const fg_problem *full) {
  return full->c.data == full->d.data && full->c.type == full->d.type && full->c.ld == full->d.ld &&
         full->c.stride == full->d.stride;
}

fg_status fg_check_output(const fg_problem *full, const struct fg_array *output) {
  struct fg_array arrays[ARRAYS];
  int64_t blocks;
  TRY(fg_check_groups(full, &blocks));
  list_arrays(full, blocks, arrays);
  for (int i = 0; i < D; i++) {
    TRY(fg_check_array(&arrays[i]));
    TRY(fg_check_apart(output, &arrays[i]));
  }
  return FG_OK;
}

/* With rows contiguous, scale_ld counts from the second block of K on. Along grouped K there may be one that was not seen here. */
static int64_t scale_ld(const fg_problem *full, const fg_operand *operand, const struct fg_array *scales) {
  bool rows_contiguous = operand->scale_layout == FG_ROWS_CONTIGUOUS && operand->scaling != FG_TENSOR;
  if (full->kind != FG_GROUPED_K || !rows_contiguous || scales->rows != 1) return scales->ld;
  return operand->scale_ld ? operand->scale_ld : scales->packed_ld;
}

static fg_status check_arrays(const fg_context *context, fg_problem *full, enum fg_purpose purpose) {
  struct fg_array arrays[ARRAYS];
  /* How many blocks the ranges of K have is not known to fg_prepare(), which must not refuse what fg_gemm() does not; nor where the
   * ranges are in device memory. */
  int64_t blocks = full->kind == FG_GROUPED_K ? full->k > 0 : fg_blocks(full->k);
  list_arrays(full, blocks, arrays);
  if ((purpose == FG_TO_RUN || purpose == FG_TO_BOUND) && context->device == FG_CPU) {
    TRY(fg_check_array(&arrays[GROUP_VALUES]));
    TRY(fg_check_pointer(&arrays[GROUP_VALUES]));
    TRY(fg_check_groups(full, &blocks));
    list_arrays(full, blocks, arrays);
  }
  if (purpose == FG_TO_BOUND) arrays[D].matrices = 0;
  for (int i = 0; i < ARRAYS; i++) TRY(fg_check_array(&arrays[i]));
  for (int i = 0; i < ARRAYS && purpose != FG_TO_PLAN; i++) TRY(fg_check_pointer(&arrays[i]));
  fg_operand *operands[ARRAYS] = {[A] = &full->a, [B] = &full->b, [C] = &full->c, [BIAS] = &full->bias};
  for (int i = 0; i < ARRAYS; i++)
    if (operands[i]) operands[i]->ld = arrays[i].ld, operands[i]->stride = arrays[i].stride;
  full->a.scale_ld = scale_ld(full, &full->a, &arrays[A_SCALE]), full->a.scale_stride = arrays[A_SCALE].stride;
  full->b.scale_ld = scale_ld(full, &full->b, &arrays[B_SCALE]), full->b.scale_stride = arrays[B_SCALE].stride;
  full->d.ld = arrays[D].ld, full->d.stride = arrays[D].stride;
  for (int i = 0; i < D && purpose != FG_TO_PLAN; i++)
    if (i != C || !same_place(full)) TRY(fg_check_apart(&arrays[D], &arrays[i]));
  return FG_OK;
}

fg_status fg_check_terms(fg_device device, const fg_problem *problem, fg_problem *full) {
  *full = *problem;
  TRY(check_sizes(full));
  TRY(fg_check_level(device, full->level));
  fill_defaults(device, full);
  if (full->level == FG_BLAS && full->flags & FG_NO_SPLIT_K)
    return fg_fail(FG_UNSUPPORTED, "flags has FG_NO_SPLIT_K, but level is blas, where sgemm lets a row's bits depend on m");
  if (full->split_k > 1 && full->level != FG_BEST && full->level != FG_HOPPER && full->level != FG_FULL)
    return fg_fail(FG_UNSUPPORTED,
                   "split_k is %d, but level is %s, which sums K in one range; levels hopper and full can split it",
                   full->split_k, fg_level_find(full->level)->name);
  if (full->plan && device == FG_CPU)
    return fg_fail(FG_UNSUPPORTED, "plan is %p, but level is %s, which has none; it must be NULL", (const void *)full->plan,
                   fg_level_find(full->level)->name);
  if (full->kind != FG_DENSE && full->kind != FG_BATCHED) TRY(check_groups_are(full));
  TRY(check_factor("a", &full->a));
  TRY(check_factor("b", &full->b));
  fg_operand d = fg_as_operand(&full->d);
  TRY(check_float("d", &d));
  if (full->c.data) TRY(check_float("c", &full->c));
  if (full->bias.data) TRY(check_float("bias", &full->bias));
  return FG_OK;
}

fg_status fg_check_problem(const fg_context *context, const fg_problem *problem, enum fg_purpose purpose, fg_problem *full) {
  if (!context) return fg_fail(FG_NULL_POINTER, "context is NULL; make one with fg_context_create()");
  if (!problem) return fg_fail(FG_NULL_POINTER, "problem is NULL; it must describe the operands");
  TRY(fg_check_terms(context->device, problem, full));
  if (full->stream && context->device == FG_CPU)
    return fg_fail(FG_UNSUPPORTED, "stream is %p; it must be NULL in a CPU context", (void *)full->stream);
  return check_arrays(context, full, purpose);
}
