/* What of CUDA this machine has, found without linking to any of it. */
#ifndef FG_PROBE_H
#define FG_PROBE_H

/* A line for people, as "a driver for CUDA 13.0", or why not. */
enum { FG_PROBE_BYTES = 200 };

struct fg_probe {
  int driver; /* its CUDA version, as 13000; 0: no driver, or one that does not start */
  int nvrtc;  /* the run-time compiler's, as 13000; 0: none */
  int gpus;
  int hopper_gpus; /* those of compute capability 9.0 */
  char driver_text[FG_PROBE_BYTES], nvrtc_text[FG_PROBE_BYTES], gpu_text[FG_PROBE_BYTES];
};

/* fg_message() stays as it is. */
void fg_probe_cuda(struct fg_probe *probe);

#endif
