/* What the commands of the program share. A failure anywhere ends the process through fail(), so nothing here returns one. */
#ifndef CLI_H
#define CLI_H

#include "finegemm.h"
#include "finegemm_kernels.h"
#include "tensor_file.h"
#include <jansson.h>
#include <popt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit codes. */
enum outcome {
  DONE = 0,
  DIFFERENT = 1,   /* results differ or exceed the bound; something does not work */
  BAD_USAGE = 2,   /* an option, an argument or a command that there is not */
  BAD_INPUT = 3,   /* a file that cannot be read, or whose tensors are not what the command needs */
  NOT_WRITTEN = 4, /* an output that cannot be written */
  REFUSED = 5      /* a status of the library other than FG_OK */
};

struct command {
  const char *name;
  const char *arguments; /* as --help shows them after the name */
  const char *summary;   /* one line, in the list of commands */
  const char *about;     /* the paragraph above the options, "" if the summary says it all */
  enum outcome (*run)(const struct command *command, int argc, const char **argv); /* argv[0] is the command's name */
};

extern const struct command command_levels, command_doctor, command_quantize, command_gemm, command_compare, command_inspect,
    command_explain, command_demo, command_lesson, command_plan, command_precompile, command_cache, command_emulate, command_tune;

/* say.c: messages, memory that lives until the process ends, time. */
void set_program(const char *name); /* what messages begin with */
_Noreturn void fail(enum outcome outcome, const char *format, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void leave(enum outcome outcome);        /* the end that is no failure, unless standard output cannot be written */
void require(fg_status status, const char *about); /* unless FG_OK: REFUSED, with the status and the sentence; about may be "" */
void *claim(int64_t count, int64_t element_bytes, const char *what); /* never NULL, aligned to 64 bytes */
void *claim_matrix(int64_t rows, int64_t cols, int64_t element_bytes, const char *what);
void release(void *memory); /* earlier than at the end; NULL too */
char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *printable(const char *raw); /* names from files, harmless to a terminal */
double seconds_now(void);
void progress(const char *what, int64_t done, int64_t all); /* one line on stderr, only if that is a terminal */
void progress_clear(void);

/* table.c: aligned columns on stdout. `alignment` has an l or r for each column; a NULL heading line is left out. */
struct table;
struct table *table_begin(const char *alignment, const char *const *headings);
void table_cell(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3))); /* row by row */
void table_print(const struct table *table);

/* json.c: one object on stdout. */
json_t *json_number(double value);     /* null for what JSON has no number for */
json_t *json_text(const char *string); /* any bytes */
json_t *json_shape(const struct tensor *tensor);
void json_print(json_t *object); /* takes the reference */

/* options.c */
#define OPTIONS_END                                                                                                              \
  { NULL, '\0', 0, NULL, 0, NULL, NULL }
#define OPTION_JSON(json)                                                                                                        \
  { "json", '\0', POPT_ARG_NONE, &(json), 0, "print one JSON object", NULL }
#define OPTION_THREADS(threads)                                                                                                  \
  { "threads", '\0', POPT_ARG_STRING, &(threads), 0, "use at most N threads (default: all)", "N" }
#define OPTION_DEVICE(device)                                                                                                    \
  { "device", '\0', POPT_ARG_STRING, &(device), 0, "of a GPU level: use CUDA device N (default: 0)", "N" }
#define OPTION_MATRICES(config, weights, n, k)                                                                                   \
  {"config", '\0', POPT_ARG_STRING, &(config), 0, "the linear layers of this model", "config.json"},                             \
      {"weights", '\0', POPT_ARG_STRING, &(weights), 0, "the FP8 matrices of this file", "FILE.safetensors"},                    \
      {"n", '\0', POPT_ARG_STRING, &(n), 0, "rows of B, each with every k", "N,..."}, {                                          \
    "k", '\0', POPT_ARG_STRING, &(k), 0, "columns of B", "K,..."                                                                 \
  }
#define OPTION_SPLIT_K(split_k)                                                                                                  \
  { "split-k", '\0', POPT_ARG_STRING, &(split_k), 0, "sum K in N ranges, then add these (level hopper; default: 1)", "N" }

/* Reads the options and up to `most` other arguments, which must be at least `least`; returns how many. Handles --help. */
int parse(const struct command *command, int argc, const char **argv, struct poptOption *options, int least, int most,
          const char **arguments);
fg_level level_option(const char *option, const char *name);     /* FG_BEST for NULL */
fg_scaling scaling_option(const char *option, const char *name); /* FG_DEFAULT_SCALING for NULL */
fg_type fp8_option(const char *option, const char *name);        /* FG_DEFAULT_TYPE for NULL */
fg_type out_type_option(const char *option, const char *name);   /* FG_DEFAULT_TYPE for NULL */
fg_kind kind_option(const char *option, const char *name);       /* FG_DENSE for NULL */
const fg_level_info *level_info(fg_level level);                 /* not of FG_BEST */
const char *level_name(fg_level level);
const char *level_idea(fg_level level);
const char *kind_name(fg_kind kind);          /* "grouped-rows" */
const char *scaling_name(fg_scaling scaling); /* "1x128" */
const char *type_name(fg_type type);          /* as safetensors has it: "F8_E4M3" */
int64_t type_bytes(fg_type type);
int64_t number_option(const char *option, const char *number, int64_t least, int64_t most); /* `least` for NULL */
int threads_option(const char *count);                                                      /* 0 for NULL: all */
int split_k_option(const char *count);                                                      /* 1 for NULL */
fg_context *make_context(int threads);

/* model_shapes.c: the matrices B of a model's linear layers, without repetitions of a name. */
struct shape {
  const char *name; /* "q_b_proj" */
  int64_t n, k;
  int64_t groups; /* of experts; 0: a single matrix */
  fg_type b_type; /* FG_DEFAULT_TYPE: not known */
};
struct shapes {
  struct shape *list;
  int64_t count;
};
void shapes_add(struct shapes *shapes, struct shape shape);
struct shapes shapes_of_config(const char *path);  /* Hugging Face's config.json */
struct shapes shapes_of_weights(const char *path); /* .safetensors: FP8 with scales beside */

/* lists.c: options that are lists, "A,B,C"; each returns how many there are. */
enum { MOST_ITEMS = 64 };
#define MOST_LISTED ((int64_t)1 << 40) /* of a size */
struct range {
  int64_t first, last;
};
int split_option(const char *option, const char *list, const char *items[MOST_ITEMS]);
int ranges_option(const char *option, const char *list, struct range ranges[MOST_ITEMS]); /* "1-64,4096" */
struct shapes shapes_of_lists(const char *n_list, const char *k_list, int64_t groups);    /* every n with every k */

/* device.c: levels whose operands are in a GPU's memory. To the rest of the program all matrices are in the host's. */
fg_device memory_of(fg_level level);             /* FG_CPU for FG_BEST */
fg_level host_level(fg_level level);             /* a level of the CPU with the same bound: itself, or its twin */
fg_status level_exists(fg_level level);          /* in this version, on whichever machine */
const char *gpu_name(const fg_context *context); /* NULL: of the CPU */
fg_status cuda_context(int ordinal, fg_context **out);
fg_status level_runs(fg_context *context, fg_level level);              /* here and now: its kernel can be had, too */
fg_status level_serves(fg_context *context, const fg_problem *problem); /* such a problem, whose operands are in host memory */

/* The context for --level and --device (NULL: 0): `host` or one of CUDA, which lives until the process ends. FG_BEST, which is of the
 * CPU unless a device is named, becomes the level that it stands for. */
fg_context *context_for(fg_level *level, const char *device, fg_context *host);
/* The plan of a problem of such a context, whose operands lie in its memory as send_operands() lays them. */
void plan_there(fg_context *context, const fg_problem *problem, fg_plan *plan);
/* The level of such a problem: where it is FG_BEST, the one that will multiply it. */
fg_level planned_level(fg_context *context, const fg_problem *problem);

/* The same problem with packed operands, but rows of a and b in whole 16 bytes for level full, and groups' values of 32 bits by default, in
 * the context's memory; in a context of the CPU the problem itself. D is to be waited for, fetched and freed
 * with the rest; unless FG_OK, nothing is. */
fg_status send_operands(fg_context *context, const fg_problem *problem, fg_problem *there);
fg_status wait_for_result(fg_context *context, const fg_problem *there);
fg_status fetch_result(fg_context *context, const fg_problem *there, const fg_problem *problem);
void free_operands(fg_context *context, const fg_problem *there);

/* gpus.c: the GPU that a command plans or compiles for. */
struct gpu_choice {
  const char *name, *arch, *sms;
};
#define OPTION_GPU(of)                                                                                                           \
  {                                                                                                                              \
      "gpu",      '\0', POPT_ARG_STRING,                                                                                         \
      &(of).name, 0,    "a GPU that 'finegemm plan --gpus' lists (default: the one here, else H100 SXM)",                        \
      "NAME"},                                                                                                                   \
      {"arch", '\0', POPT_ARG_STRING, &(of).arch, 0, "a GPU of this architecture instead", "sm_90a"}, {                          \
    "sms", '\0', POPT_ARG_STRING, &(of).sms, 0, "its multiprocessors (default: as the GPU of that name or architecture)", "N"    \
  }
fg_gpu gpu_option(const struct gpu_choice *of);
json_t *json_gpu(const fg_gpu *gpu);
const char *gpu_text(const fg_gpu *gpu); /* "H20 (sm_90a, 78 multiprocessors)" */

/* problem_options.c: the options that make a problem without operands, and its plan. What they point to must live as long as it. */
struct problem_choice {
  const char *m, *n, *k, *kind, *groups, *expected_m, *a_type, *b_type, *level, *sm_limit, *split_k;
  const char *block_m, *block_n, *stages, *blocks, *cluster;
  int no_split_k;
  fg_plan wish;
};
#define OPTION_PROBLEM(of)                                                                                                       \
  {"m", '\0', POPT_ARG_STRING, &(of).m, 0, "rows of A and D", "M"},                                                              \
      {"n", '\0', POPT_ARG_STRING, &(of).n, 0, "rows of B, columns of D", "N"},                                                  \
      {"k", '\0', POPT_ARG_STRING, &(of).k, 0, "columns of A and B", "K"},                                                       \
      {"kind",                                                                                                                   \
       '\0',                                                                                                                     \
       POPT_ARG_STRING,                                                                                                          \
       &(of).kind,                                                                                                               \
       0,                                                                                                                        \
       "what is multiplied (default: dense)",                                                                                    \
       "dense|batched|grouped-rows|masked|grouped-k"},                                                                           \
      {"groups", '\0', POPT_ARG_STRING, &(of).groups, 0, "of kinds other than dense (default: 1)", "G"},                         \
      {"expected-m", '\0', POPT_ARG_STRING, &(of).expected_m, 0, "of masked: rows to expect in a group", "M"},                   \
      {"type-a", '\0', POPT_ARG_STRING, &(of).a_type, 0, "FP8 type of A (default: e4m3)", "e4m3|e5m2"},                          \
      {"type-b", '\0', POPT_ARG_STRING, &(of).b_type, 0, "FP8 type of B (default: e4m3)", "e4m3|e5m2"},                          \
      {"sm-limit", '\0', POPT_ARG_STRING, &(of).sm_limit, 0, "use at most N multiprocessors (default: all)", "N"},               \
      {"split-k", '\0', POPT_ARG_STRING, &(of).split_k, 0, "sum K in N ranges (default: as the plan says)", "N"},                \
      {"no-split-k", '\0', POPT_ARG_NONE, &(of).no_split_k, 0, "a row's bits may depend on nothing but that row", NULL},         \
      {"block-m", '\0', POPT_ARG_STRING, &(of).block_m, 0, "instead of what the plan says", "N"},                                \
      {"block-n", '\0', POPT_ARG_STRING, &(of).block_n, 0, "likewise", "N"},                                                     \
      {"stages", '\0', POPT_ARG_STRING, &(of).stages, 0, "likewise", "N"},                                                       \
      {"blocks", '\0', POPT_ARG_STRING, &(of).blocks, 0, "likewise", "N"}, {                                                     \
    "cluster", '\0', POPT_ARG_STRING, &(of).cluster, 0, "likewise", "N"                                                          \
  }
fg_problem problem_option(struct problem_choice *of);
json_t *json_problem(const fg_problem *problem);
json_t *json_plan(const fg_plan *plan);
void print_plan(const fg_gpu *gpu, const fg_problem *problem, const fg_plan *plan);

/* random_problem.c: operands of any kind, packed and in the host's memory, from a seed: every finite code alike, scales of some
 * thousandths; D full of one NaN. The problem has its kind, sizes, types and scalings already; C and bias are made if they have a type. */
void make_operands(fg_context *host, fg_problem *problem, uint64_t seed);
/* Which make_operands() does first: where the problem's level has the copy engine bring scales of A and takes them in no other way, their
 * rows are beside each other, in whole 16 bytes. */
void lay_out_scales(fg_problem *problem);
/* How many matrices A, B and D have, and how many scales one of A or B of so many rows. */
int64_t matrices_of_a(const fg_problem *problem);
int64_t matrices_of_b(const fg_problem *problem);
int64_t matrices_of_d(const fg_problem *problem);
int64_t scales_of(const fg_problem *problem, const fg_operand *operand, int64_t rows);
int64_t result_bytes(const fg_problem *problem); /* of D */

/* timeline_svg.c: a picture of a trace of the emulator; *bytes long, the caller frees. */
char *timeline_svg(const json_t *trace, const char *title, size_t *bytes);

/* recorded.c: the numbers of lessons that are kernels, as their pages have them, between two markers. */
struct page {
  const char *name, *text; /* "lessons/06_wgmma.md" */
};
extern const struct page kernel_pages[];        /* up to one whose name is NULL: cmake/embed.cmake writes them */
const char *recorded_numbers(const char *name); /* Markdown; NULL: no page of that name, or it has none */
void print_numbers(const char *markdown);       /* tables as table.c has them */

/* kernel_lesson.c: lessons that are a kernel and not a program. The ladder's GPU levels, in order, are lessons from FIRST on. */
enum { FIRST_KERNEL_LESSON = 4 };
fg_level kernel_of_lesson(long number); /* FG_BEST: there is none in this version */
enum outcome run_kernel_lesson(long number, fg_level level, const struct command *command, int argc, const char **argv);

/* doctor's finding of this name. What stands below it is not looked at. */
fg_finding finding_named(const char *name);
/* operands.c: matrices of files, ready for the library. */
enum { BLOCK = 128 };
static inline int64_t blocks_of(int64_t length) { return length / BLOCK + (length % BLOCK != 0); }

/* A tensor that a user named as FILE or FILE:NAME. */
struct source {
  const char *spec; /* printable */
  const struct tensor_file *file;
  const struct tensor *tensor;
};
struct tensor_file *file_open(const char *path); /* mapped until the process ends */
struct source source_find(const char *spec);
const char *split_spec(const char *spec, const char **path); /* the name in FILE:NAME, NULL if there is none */
const char *dtype_of(const struct tensor *tensor);           /* "F32", whether the file says F32 or <f4 */
const char *shape_of(const struct tensor *tensor);           /* "[512, 7168]" */
const void *packed_data(const struct source *source);        /* row-major and aligned: the map itself, or else a copy */

/* The scales beside an FP8 tensor: NULL if there are none. `scaling` is what their shape says, FG_DEFAULT_SCALING if it fits none;
 * where several fit (they mean the same then) it is `preferred` if that is among them. */
const struct tensor *scales_beside(const struct tensor_file *file, const struct tensor *tensor, fg_scaling preferred,
                                   fg_scaling *scaling);

/* A or B. Found first, so that shapes can be compared before anything is read; FP8 then comes straight from the map, and asked
 * scaling and type must be the file's; floats are quantised as asked, or else to `otherwise` and e4m3. */
struct factor {
  struct source source;
  int64_t rows, cols;
  bool quantised; /* here, from floats */
  fg_operand fp8; /* packed */
};
struct factor factor_find(const char *spec);
json_t *json_factor(const struct factor *factor);
void require_same_k(const struct factor *a, const struct factor *b);
void factor_load(fg_context *context, struct factor *factor, fg_scaling asked, fg_scaling otherwise, fg_type type);

/* [groups, rows, cols] of packed floats to FP8 with packed scales; `about` comes before a message. */
fg_operand quantise(fg_context *context, const fg_operand *from, int64_t groups, int64_t rows, int64_t cols, fg_type type,
                    fg_scaling scaling, unsigned flags, const char *about);
int64_t scale_count(fg_scaling scaling, int64_t rows, int64_t cols);

/* `count` elements to FP32; `data` need not be aligned. */
void to_float(fg_context *context, fg_type type, const void *data, int64_t first, int64_t count, float *out);

/* The options of gemm and compare that say what is multiplied, and the problem they make: dense, every ld given, D not there yet. */
struct multiplication {
  const char *a_spec, *b_spec, *c_spec;
  const char *a_scaling, *b_scaling, *a_type, *b_type;
  struct factor a, b;
  double load_seconds; /* to bring A and B to FP8 */
};
#define OPTION_MULTIPLICATION(of)                                                                                                \
  {"a", '\0', POPT_ARG_STRING, &(of).a_spec, 0, "A [m, k]: X.npy or FILE.safetensors:NAME", "X"},                                \
      {"b", '\0', POPT_ARG_STRING, &(of).b_spec, 0, "B [n, k], likewise", "W"},                                                  \
      {"c", '\0', POPT_ARG_STRING, &(of).c_spec, 0, "C [m, n], floats that are added", "C"},                                     \
      {"scaling-a",           '\0', POPT_ARG_STRING, &(of).a_scaling, 0, "scales of A (default: the file's, else 1x128)",        \
       "1x128|128x128|tensor"},                                                                                                  \
      {"scaling-b",           '\0', POPT_ARG_STRING, &(of).b_scaling, 0, "scales of B (default: the file's, else 128x128)",      \
       "128x128|1x128|tensor"},                                                                                                  \
      {"type-a", '\0', POPT_ARG_STRING, &(of).a_type, 0, "FP8 type of A (default: the file's, else e4m3)", "e4m3|e5m2"}, {       \
    "type-b", '\0', POPT_ARG_STRING, &(of).b_type, 0, "FP8 type of B (default: the file's, else e4m3)", "e4m3|e5m2"              \
  }
fg_problem read_problem(fg_context *context, struct multiplication *of);

/* panels.c: parts of a problem, and long calls in pieces, for the line of progress. The pieces follow from the problem alone: so do
 * the bits. */

/* An operand's rows from `first`; if there are more than one, `first` is a multiple of 128 where the scaling is 128x128. */
fg_operand rows_of(const fg_operand *operand, int64_t first, int64_t k);
/* Rows of D from `first`, which are rows of A; or along n columns of D, which are rows of B. */
fg_problem panel_of(const fg_problem *problem, bool along_n, int64_t first, int64_t count);
/* All of it, on the level's context; returns seconds, in which nothing is copied or compiled. */
double multiply(fg_context *context, const fg_problem *problem, const char *what);

/* How D compares with fg_exact(). An element is outside unless error <= bound. */
struct verdict {
  int64_t elements, outside;
  int64_t i, j; /* the element with the largest error / bound; it counts as infinite where NaN or infinity is wrong */
  double d, value, error, bound, ratio;
};
/* In a context of the CPU. `d` is packed, of type d_type; the bound is that of a result rounded to `rounded`. problem->d is not looked at. */
struct verdict judge(fg_context *context, const fg_problem *problem, const void *d, fg_type d_type, fg_type rounded,
                     const char *what);

/* output.c: where a result goes. */
struct output {
  const char *spec;        /* printable */
  const char *path, *name; /* name NULL: .npy */
};
struct output output_find(const char *option, const char *spec, bool npy_too); /* fails early where writing could not succeed */
void output_write(fg_context *context, const struct output *output, const void *d, fg_type type, int64_t rows, int64_t cols);

#endif
