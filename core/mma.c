/* fg_mma(). */
#include "mma.h"
#include "core.h"
#include "names.h"

static fg_status check_vector(const char *name, fg_type type, const void *data, int64_t k) {
  if (type != FG_DEFAULT_TYPE && type != FG_E4M3 && type != FG_E5M2)
    return fg_fail(FG_BAD_ENUM, "%s_type is %d (%s); it must be FG_E4M3 or FG_E5M2", name, (int)type, fg_type_name(type));
  return data || k == 0 ? FG_OK : fg_fail(FG_NULL_POINTER, "%s is NULL; it must have k = %lld codes", name, (long long)k);
}

fg_status fg_mma(fg_type a_type, const void *a, fg_type b_type, const void *b, int64_t k, float c, float *d, fg_mma_step *steps) {
  fg_status status = fg_check_size("k", k);
  if (status == FG_OK) status = check_vector("a", a_type, a, k);
  if (status == FG_OK) status = check_vector("b", b_type, b, k);
  if (status == FG_OK && !d) status = fg_fail(FG_NULL_POINTER, "d is NULL; it must have room for the result");
  if (status == FG_OK) *d = fg_mma_dot(a_type, a, b_type, b, k, c, steps);
  return status;
}
