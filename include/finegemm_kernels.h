/**
 * @file finegemm_kernels.h
 * @brief What lies between a call and its kernel: the GPU as a plan sees it, plans, compiling ahead, device memory.
 *
 * For tools, deployments and experiments: multiplying needs finegemm.h alone, whose rules hold here too.
 */
#ifndef FINEGEMM_KERNELS_H
#define FINEGEMM_KERNELS_H

#include "finegemm.h"

#ifdef __cplusplus
extern "C" {
#endif

/** @name GPUs
 * @{ */

/** What a plan depends on. A slice of a GPU (MIG) is a GPU with fewer multiprocessors. */
typedef struct fg_gpu {
  char name[64];    /**< "NVIDIA H100 80GB HBM3" */
  char arch[16];    /**< as the compiler names it: "sm_90a" for compute capability 9.0 */
  int sms;          /**< multiprocessors */
  int shared_bytes; /**< of shared memory that one block can have */
} fg_gpu;

/** GPUs to plan for without having one, and their number in *count (may be NULL). Static. */
FG_API const fg_gpu *fg_known_gpus(int *count);

/**
 * The GPU of a CUDA context.
 * @return FG_OK; FG_NULL_POINTER: context or gpu; FG_UNSUPPORTED: a CPU context.
 */
FG_API fg_status fg_context_gpu(const fg_context *context, fg_gpu *gpu);

/** @}
 * @name Plans
 * @{ */

/** Whose rows are the tensor core's 64: level FG_FULL has a kernel for each. */
typedef enum fg_order {
  FG_DEFAULT_ORDER = 0, /**< of any other level */
  FG_A_BY_B = 1,        /**< A's, as in the ladder: for many rows */
  FG_B_BY_A = 2         /**< B's, the operands swapped: for few rows of A */
} fg_order;

/**
 * How a GPU level goes about a problem. As fg_problem::plan it overrides the library's own plan in whatever is not 0, and is
 * checked: FG_BAD_PLAN.
 */
typedef struct fg_plan {
  fg_level level;       /**< never FG_BEST in a plan that was made */
  fg_order order;       /**< of FG_FULL */
  int block_m, block_n; /**< a block of threads has so many rows and columns of D at a time, a tile; FG_FULL as few of
                             the rows as are enough */
  int stages;           /**< of the ring that blocks of K go through, 2 to 8, of FG_FULL to 16, FG_B_BY_A to 24; 0: none */
  int threads;          /**< of a block; follows from the level and the tile, and cannot be overridden */
  int blocks;           /**< of the grid: block i takes tiles i, i + blocks, ... With fg_problem::sm_limit at most that many.
                             FG_WGMMA, FG_TMA, FG_PIPELINE: as many as tiles */
  int cluster;          /**< blocks of a cluster, which divides `blocks`; more than 1: Hopper. FG_WGMMA to FG_PERSISTENT: 1;
                             FG_CLUSTER: 1, 2 or 4, tiles below each other; FG_A_BY_B: 1 or 2, tiles that share the larger
                             operand's rows; FG_B_BY_A: 1 to 8, one tile, and a range of K for each block */
  int split_k;          /**< ranges of K, as fg_problem::split_k; FG_B_BY_A: as many as blocks of a cluster, else 1 */
  int shared_bytes;     /**< of shared memory for a block; follows from the level, the tile and the stages */
  int64_t tiles;        /**< in all, at most 2^31 - 1, those that fill a cluster included; follows from the problem */
} fg_plan;

/**
 * The plan of a GPU level for a problem: a pure function of its arguments, the same everywhere. Of the problem no pointer is
 * looked at but problem->plan. What fg_gemm() refuses of operands, their alignment, strides and layouts, it does not see.
 * @return FG_OK; FG_NULL_POINTER: an argument; FG_BAD_SIZE, FG_BAD_ENUM: the problem, or gpu->sms below 1; FG_UNSUPPORTED: not a
 *         GPU level, none that this GPU runs, a kind, scaling, k, size or sm_limit that the level does not serve, and
 *         fg_message() says which, or more tiles than it can count; FG_BAD_PLAN: problem->plan.
 */
FG_API fg_status fg_plan_make(const fg_gpu *gpu, const fg_problem *problem, fg_plan *plan);

/**
 * The plan that fg_gemm() takes in this context: fg_plan_make()'s on the context's GPU, but for what the user's own tuned plans say, and
 * with FG_BEST for operands that FG_FULL cannot serve where they lie, which are left to FG_SHARED: the plan's level tells. Pointers are
 * looked at for their alignment alone, and may be NULL.
 * @return as fg_plan_make(); FG_NULL_POINTER also: context; FG_BAD_SIZE, FG_BAD_STRIDE: as fg_gemm(); FG_UNSUPPORTED also: a CPU
 *         context, operands that the level does not serve.
 */
FG_API fg_status fg_context_plan(const fg_context *context, const fg_problem *problem, fg_plan *plan);

/** @}
 * @name Tuning
 *
 * Where nothing is wished, FG_FULL takes its plan from a table of measured ones, if that has one for the GPU, n, k, scaling of B and
 * class of m, and else by a model of the machine. Tables that were made with `finegemm tune` lie in the library; the user's own, which
 * FG_PLANS in the environment names by its absolute path, comes before them. It is read when a CUDA context is made. One that cannot be
 * read, or is no table, is ignored: FG_LOG and fg_doctor() say why. docs/tuning.md has the format.
 * @{ */

/** A line of a table. */
typedef struct fg_tuned_plan {
  fg_gpu gpu;           /**< with these multiprocessors and such a name: that of the table is part of it */
  int64_t m, n, k;      /**< m: the largest of its class, all of which the plan is for */
  fg_scaling b_scaling; /**< FG_128X128 or FG_1X128 */
  fg_plan plan;         /**< level, order, block_m, block_n, stages, cluster and split_k; the rest is 0 */
  double us;            /**< what it took where it was measured, cold */
} fg_tuned_plan;

/**
 * Reads a table, sorted by n, k, m and scaling. Fills at most `capacity` plans (may be NULL with 0); *count is how many there are.
 * @return FG_OK; FG_NULL_POINTER: path, count, or plans with a capacity; FG_UNSUPPORTED: it cannot be read or is no table, and
 *         fg_message() says why; FG_OUT_OF_MEMORY.
 */
FG_API fg_status fg_tuned_read(const char *path, fg_tuned_plan *plans, int capacity, int *count);

/** The largest m that has the same plan of FG_FULL as this one, 0 or more, whatever n and k; for 0 that of 1. */
FG_API int64_t fg_class_of_m(int64_t m);

/**
 * Plans that are worth a try on a problem: first fg_plan_make()'s, then the others of FG_FULL in the order of their times by the model;
 * of another level there are no others. Fills at most `capacity` (may be NULL with 0); *count is how many there are.
 * @return as fg_plan_make(); FG_NULL_POINTER also: count, or plans with a capacity.
 */
FG_API fg_status fg_plan_candidates(const fg_gpu *gpu, const fg_problem *problem, fg_plan *plans, int capacity, int *count);

/**
 * Times fg_gemm() for `count` problems in turns, so that what changes meanwhile changes for all: us[i * rounds + r] is what problem i took
 * in round r, in microseconds by the device's clock. Each call is alone: before it so much memory is written, in the same stream, that
 * nothing of the operands is left in the device's caches. Before the first round each problem is called once, untimed: kernels are loaded
 * and addresses known by then. Blocks, and takes 512 MiB of the device's memory meanwhile. The emulator has no such clock: there a call
 * takes 1 us for each of the driver's functions that it calls.
 * @return as fg_gemm() and fg_prepare(); FG_NULL_POINTER also: problems, us; FG_BAD_SIZE also: a count or rounds below 1;
 *         FG_UNSUPPORTED also: a CPU context. Of a failure `us` may have some times.
 */
FG_API fg_status fg_time_cold(fg_context *context, const fg_problem *problems, int count, int rounds, double *us);

/** @}
 * @name Compiling ahead
 * @{ */

/** A kernel that fg_precompile() has seen to. */
typedef struct fg_kernel {
  char source[64];   /**< "lessons/05_shared.cu" */
  char defines[200]; /**< the plan's constants, as "BLOCK_M=64 BLOCK_N=64 A_IS_E5M2=0 B_IS_E5M2=0 KIND=0 SHARED_BYTES=19456" */
  int registers;     /**< of a thread; -1 where it came from the cache */
  int was_cached;    /**< 1: found compiled */
  int64_t bytes;     /**< of machine code and what belongs to it */
} fg_kernel;

/**
 * Compiles the kernel that fg_gemm() would use for the problem on such a GPU into the user's cache, if it is not there or in a
 * cache shipped with the program. Needs the run-time compiler, but no GPU and no driver. m, n and k are run-time values: one call
 * for each combination of kind, types and tile sizes is enough, and further ones find it cached; a batch is of the dense kind. FG_FULL
 * has kernels also by the rest of the plan, the scaling of B, and what fg_prepare() says of alignment, n, C and bias.
 * @return as fg_plan_make(); FG_UNSUPPORTED also: no compiler here, or one that does not know gpu->arch; FG_COMPILE_ERROR;
 *         FG_OUT_OF_MEMORY. A cache that cannot be written is no error: kernel->was_cached stays 0 the next time.
 */
FG_API fg_status fg_precompile(const fg_gpu *gpu, const fg_problem *problem, fg_kernel *kernel);

/** @}
 * @name The cache of compiled kernels
 *
 * The user's is FG_CACHE_DIR (empty: none), else $XDG_CACHE_HOME/finegemm, else $HOME/.cache/finegemm; FG_CACHE_PATH names more,
 * between colons, that are only read. docs/cache.md says what is trusted, and why. `directory` is an absolute path; NULL: the user's.
 * @{ */

/** A file of a cache. */
typedef struct fg_cached {
  char file[80];
  char kernel[200]; /**< the source, the architecture and the defines, from its key; "" if that cannot be read */
  char why[120];    /**< why it would not be loaded; "" if it would */
  int64_t bytes;
  int64_t used_s; /**< when it was last used, in seconds since 1970 */
} fg_cached;

/**
 * Reads and judges every file of a cache, the latest used first. Fills at most `capacity` entries (may be NULL with 0); *count is
 * how many there are. A directory that does not exist is empty.
 * @return FG_OK; FG_NULL_POINTER: count, or entries with a capacity; FG_UNSUPPORTED: the directory is not to be trusted or read, and
 *         fg_message() says why; FG_OUT_OF_MEMORY.
 */
FG_API fg_status fg_cache_look(const char *directory, fg_cached *entries, int capacity, int *count);

/**
 * Removes every kernel of a cache, and no other file. *count (may be NULL): how many.
 * @return FG_OK; FG_UNSUPPORTED: as fg_cache_look().
 */
FG_API fg_status fg_cache_empty(const char *directory, int *count);

/**
 * Copies every valid kernel of the user's cache to the directory `to`, made if need be, to be shipped with a program and named in
 * FG_CACHE_PATH where it arrives. *count (may be NULL): how many.
 * @return FG_OK; FG_NULL_POINTER: to; FG_UNSUPPORTED: not all could be copied, and fg_message() says why.
 */
FG_API fg_status fg_cache_ship(const char *to, int *count);

/** @}
 * @name Memory
 * @{ */

/**
 * Memory of the context's device, aligned to 256 bytes; of the host in a CPU context. For programs that use no other CUDA library:
 * any device memory will do for fg_gemm().
 * @return FG_OK; FG_NULL_POINTER: context or out; FG_OUT_OF_MEMORY; FG_DRIVER_ERROR. On failure *out is NULL (if out is not).
 */
FG_API fg_status fg_memory_allocate(fg_context *context, size_t bytes, void **out);

/** Waits for the device and frees. pointer NULL: nothing. @return FG_OK; FG_NULL_POINTER: context; FG_DRIVER_ERROR. */
FG_API fg_status fg_memory_free(fg_context *context, void *pointer);

/**
 * Copies between host and device memory, either way or within, and waits until it is done, and with it what was launched before in
 * the default stream.
 * @return FG_OK; FG_NULL_POINTER: context, or to or from where bytes is not 0; FG_DRIVER_ERROR.
 */
FG_API fg_status fg_memory_copy(fg_context *context, void *to, const void *from, size_t bytes);

/** @} */

#ifdef __cplusplus
}
#endif
#endif
