#include "names.h"

/* Through unsigned, so that a negative value is no index either. */
#define NAME_OF(value, ...)                                                                                                      \
  static const char *const names[] = {__VA_ARGS__};                                                                              \
  return (unsigned)(value) < sizeof names / sizeof *names ? names[(unsigned)(value)] : "none"

const char *fg_type_name(fg_type type) {
  NAME_OF(type, "FG_DEFAULT_TYPE", "FG_E4M3", "FG_E5M2", "FG_BF16", "FG_FP16", "FG_FP32");
}
const char *fg_scaling_name(fg_scaling scaling) { NAME_OF(scaling, "FG_DEFAULT_SCALING", "FG_1X128", "FG_128X128", "FG_TENSOR"); }
const char *fg_scale_layout_name(fg_scale_layout layout) { NAME_OF(layout, "FG_BLOCKS_CONTIGUOUS", "FG_ROWS_CONTIGUOUS"); }
const char *fg_kind_name(fg_kind kind) {
  NAME_OF(kind, "FG_DENSE", "FG_BATCHED", "FG_GROUPED_ROWS", "FG_MASKED", "FG_GROUPED_K");
}
const char *fg_group_by_name(fg_group_by group_by) {
  NAME_OF(group_by, "FG_BY_DEFAULT", "FG_BY_INDEX", "FG_BY_ENDS", "FG_BY_OFFSETS", "FG_BY_COUNTS");
}
const char *fg_index_type_name(fg_index_type type) { NAME_OF(type, "FG_INT32", "FG_INT64"); }
