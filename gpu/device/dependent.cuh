/* Dependent launches: a kernel that is launched while the one before it in the stream still runs. PTX ISA, griddepcontrol. */
#pragma once

/* The next launch may begin where this one leaves multiprocessors free; then waits until all that came before in the stream has
 * ended and its writes are seen. At once, both, where the launch was an ordinary one. Before the first access to memory; but for prefetch(). */
__device__ inline void wait_for_the_launch_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
