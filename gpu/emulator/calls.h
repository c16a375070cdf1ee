/* The functions of struct emu_calls (kernel_side.h says what each does), each where it belongs. The tests call them as kernels do. */
#ifndef FG_CALLS_H
#define FG_CALLS_H

#include "kernel_side.h"

extern const struct emu_calls emu_calls_table; /* calls.c: all of them, for an image to call */

/* calls.c */
struct emu_view *emu_call_view(void);
void emu_call_access(const void *address, unsigned bytes, bool is_write);
void emu_call_step(void);
void emu_call_misaligned(const void *address, unsigned bytes, bool is_write);
unsigned emu_call_atomic_add(unsigned *address, unsigned value);
void emu_call_threadfence(void);
void emu_call_no_result(long index, const char *array);
void emu_call_not_modelled(const char *what);

/* gates.c */
void emu_call_sync_threads(void);
void emu_call_sync_warp(unsigned mask);
unsigned emu_call_shuffle(unsigned mask, unsigned value, enum emu_shuffle how, unsigned operand);
unsigned emu_call_ballot(unsigned mask, bool predicate);
bool emu_call_elect(void);
void emu_call_named_barrier(int id, int threads, bool waits);
void emu_call_registers(int count, bool gives);
void emu_call_cluster_arrive(void);
void emu_call_cluster_wait(void);

/* mbarriers.c */
void emu_call_mbarrier_init(void *barrier, unsigned arrivals);
void emu_call_fence_mbarrier_init(void);
void emu_call_mbarrier_arrive(void *barrier, unsigned expected_bytes, bool expects);
void emu_call_mbarrier_arrive_cluster(void *barrier, unsigned rank);
void emu_call_mbarrier_wait(void *barrier, unsigned parity, bool is_for_cluster);
bool emu_call_mbarrier_test(void *barrier, unsigned parity);

/* clocks.c */
void emu_call_fence_proxy_async(void);

/* copy_engine.c */
void emu_call_tma_prefetch(const void *map);
void emu_call_tma_load(void *to, const void *map, void *barrier, int rank, const int at[3], unsigned blocks, bool is_multicast);
void emu_call_tma_store(const void *map, const void *from, int rank, const int at[3]);
void emu_call_bulk_load(void *to, const void *from, unsigned bytes, void *barrier);
void emu_call_bulk_store(void *to, const void *from, unsigned bytes);
void emu_call_bulk_send(void *to, unsigned rank, const void *from, unsigned bytes, void *barrier);
void emu_call_bulk_commit(void);
void emu_call_bulk_wait(int pending, bool is_read_enough);
void emu_call_remote(void *in_shared, unsigned rank, void *value, unsigned bytes, bool is_write);

/* thread_copies.c */
void emu_call_copy_four_bytes(void *to, const void *from, bool is_there);
void emu_call_mbarrier_arrive_when_copied(void *barrier);
void emu_call_prefetch(const void *address);

/* warpgroup.c */
unsigned emu_call_shared_address(const void *in_shared);
void emu_call_wgmma_fence(void);
void emu_call_wgmma(float *d, int n, unsigned long long a_descriptor, const unsigned *a_registers,
                    unsigned long long b_descriptor, bool accumulate, bool a_is_e5m2, bool b_is_e5m2);
void emu_call_wgmma_commit(void);
void emu_call_wgmma_wait(int pending);
void emu_call_stmatrix(void *row, const unsigned m[4], bool transposed);

#endif
