/* What a kernel, compiled for the host, asks of the emulator: C11 on the emulator's side, C++17 on the kernel's. A kernel's image has
 * one variable, fg_emulator, that is set when it is loaded. The file is compiled into images, so it includes nothing.
 *
 * Every function knows by its return address which line of the kernel called. Those that block switch to another thread of the
 * cluster; those that find a fault do not return. Pointers are the host's; what is named a shared pointer must point into the
 * calling block's shared memory, and that is checked. */
#ifndef FG_KERNEL_SIDE_H
#define FG_KERNEL_SIDE_H

#ifndef __cplusplus
#include <stdbool.h>
#endif

struct emu_index {
  unsigned x, y, z;
};

/* A thread as the kernel sees it. */
struct emu_view {
  struct emu_index thread, block, block_size, grid_size;
  unsigned cluster_rank, cluster_size;
  unsigned char *shared;    /* the block's shared memory */
  unsigned shared_bytes;    /* of it */
  unsigned long long fused; /* multiplications fused with an addition: the cost model counts them */
};

enum emu_shuffle { EMU_SHUFFLE_INDEX, EMU_SHUFFLE_UP, EMU_SHUFFLE_DOWN, EMU_SHUFFLE_XOR };

struct emu_calls {
  struct emu_view *(*view)(void); /* the calling thread's */

  /* Of the instrumentation: an access to memory of any kind, before it happens; and a step, which a kernel has only so many of. */
  void (*access)(const void *address, unsigned bytes, bool is_write);
  void (*step)(void);
  /* An access by a type of so many bytes, at an address that is no multiple of them: then as access(), if it may be there. */
  void (*misaligned)(const void *address, unsigned bytes, bool is_write);

  /* The block, and the warp. `value` and `predicate` are the calling thread's. */
  void (*sync_threads)(void);
  void (*sync_warp)(unsigned mask);
  unsigned (*shuffle)(unsigned mask, unsigned value, enum emu_shuffle how, unsigned operand);
  unsigned (*ballot)(unsigned mask, bool predicate);
  bool (*elect)(void);
  void (*named_barrier)(int id, int threads, bool waits);
  void (*registers)(int count, bool gives); /* setmaxnreg */
  void (*stmatrix)(void *row, const unsigned m[4], bool transposed);

  /* mbarrier. `barrier` is a shared pointer. */
  void (*mbarrier_init)(void *barrier, unsigned arrivals);
  void (*fence_mbarrier_init)(void);
  void (*mbarrier_arrive)(void *barrier, unsigned expected_bytes, bool expects);
  void (*mbarrier_arrive_cluster)(void *barrier, unsigned rank);
  void (*mbarrier_wait)(void *barrier, unsigned parity, bool is_for_cluster);
  bool (*mbarrier_test)(void *barrier, unsigned parity);

  /* The async proxy and the copy engine. `at` is [x, y, z], z = 0 where rank is 2. */
  void (*fence_proxy_async)(void);
  void (*tma_prefetch)(const void *map);
  void (*tma_load)(void *to, const void *map, void *barrier, int rank, const int at[3], unsigned blocks, bool is_multicast);
  void (*tma_store)(const void *map, const void *from, int rank, const int at[3]);
  void (*bulk_load)(void *to, const void *from, unsigned bytes, void *barrier);
  void (*bulk_store)(void *to, const void *from, unsigned bytes);
  void (*bulk_send)(void *to, unsigned rank, const void *from, unsigned bytes, void *barrier);
  void (*bulk_commit)(void);
  void (*bulk_wait)(int pending, bool is_read_enough);

  /* Copies that threads ask for themselves: to a shared pointer. */
  void (*copy_four_bytes)(void *to, const void *from, bool is_there);
  void (*mbarrier_arrive_when_copied)(void *barrier);
  void (*prefetch)(const void *address);

  /* The tensor core. n columns; d has n / 2 numbers; a_registers or a_descriptor. Types as the kernel was compiled. */
  unsigned (*shared_address)(const void *in_shared);
  void (*wgmma_fence)(void);
  void (*wgmma)(float *d, int n, unsigned long long a_descriptor, const unsigned *a_registers, unsigned long long b_descriptor,
                bool accumulate, bool a_is_e5m2, bool b_is_e5m2);
  void (*wgmma_commit)(void);
  void (*wgmma_wait)(int pending);

  /* The cluster. */
  void (*cluster_arrive)(void);
  void (*cluster_wait)(void);
  void (*remote)(void *in_shared, unsigned rank, void *value, unsigned bytes, bool is_write); /* load_remote, store_remote */

  /* Global memory. */
  unsigned (*atomic_add)(unsigned *address, unsigned value);
  void (*threadfence)(void);

  /* What has no result in C, nor a useful one on a GPU: a division by zero (`array` NULL), or an index beyond that array, as "'int [4]'".
   * Does not return. */
  void (*no_result)(long index, const char *array);

  /* What the kernel used that is not modelled. Does not return. */
  void (*not_modelled)(const char *what);
};

/* What an image says of each of its kernels, in the array fg_kernels, up to one whose name is NULL. */
struct emu_kernel {
  const char *name;
  void (*entry)(void);      /* takes one struct, by value */
  unsigned argument_bytes;  /* of the struct that the kernel reads */
  unsigned threads, blocks; /* of __launch_bounds__: at most so many of a block; so many on a multiprocessor; 0: not said */
};

#endif
