/* What the tests of the levels with tensor cores share, on a Hopper GPU or on the emulator: larger problems, and calls that are tried with many
 * plans, repeated, captured. */
#ifndef HOPPER_RUNS_H
#define HOPPER_RUNS_H

#include "finegemm_kernels.h"
#include "gpu_memory.h"

/* A CUDA context of the first GPU. Where that is no Hopper GPU the test is skipped, or fails, as gpu_context() says. */
fg_context *hopper_context(void);

bool is_emulated(void);

/* On the emulator each call has a schedule of its own, the first that of the cost model. */
void choose_schedule(uint64_t seed);

/* Draws m, n and k, a multiple of `step`, for many tiles, and rings that go round often. */
void choose_large_shape(struct spec *spec, int64_t step);

/* D's bytes as the CPU's level `hopper` gives them, which the tests of that hold to the definition. The caller frees. */
unsigned char *bytes_by_hopper(struct problem *problem);

/* What is said of a call besides its operands: level, plan, split_k, flags, sm_limit. The rest is not looked at. */
struct manner {
  const char *name;
  fg_problem call;
};

/* What plan number p of `plans` is tried with, drawn from `seed`. Its types, scales and C follow from p alone: compiling is what takes time. */
typedef struct spec plan_spec_function(uint64_t seed, const fg_plan *plan, int p);

/* Tries all plans, on the emulator as many of them as `sample`, with some problems each, D by the definition. */
void try_plans(struct gpu_memory *memory, const struct manner *manner, fg_plan *plans, int count, int sample,
               plan_spec_function *spec_of);

/* A problem of `spec` 1,000 times in 8 streams into results of their own, while other kernels run in other streams. */
void repeat_in_streams(struct gpu_memory *memory, const struct manner *manner, const struct spec *spec);

/* Prepared with other pointers, then captured once, a call runs on whatever is in its memory when the graph is launched. */
void capture_and_replay(struct gpu_memory *memory, const struct manner *manner, const struct spec *spec, CUstream stream,
                        CUstreamCaptureMode mode, bool is_new);

#endif
