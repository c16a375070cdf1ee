#include "core.h"
#include "cpu.h"
#include "probe.h"

#include <cblas.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static fg_finding cpu_finding(void) {
  fg_finding finding = {.name = "cpu", .works = 1};
  char name[FG_CPU_NAME_BYTES];
  fg_cpu_name(name);
  snprintf(finding.found, sizeof finding.found, "%s, %d threads, %s", name, fg_cpu_threads(), fg_isa_name(fg_isa()));
  if (fg_isa() == FG_ISA_PLAIN)
    snprintf(finding.advice, sizeof finding.advice, "same bits, but slow: a processor with AVX2 or AVX-512, or unset FG_ISA");
  return finding;
}

static fg_finding blas_finding(void) {
  static const char *const flavours[] = {"sequential", "with threads of its own", "with OpenMP"};
  fg_finding finding = {.name = "blas", .works = 1};
  int flavour = openblas_get_parallel();
  snprintf(finding.found, sizeof finding.found, "%s, %s, core %s", openblas_get_config(),
           flavour >= 0 && flavour <= OPENBLAS_OPENMP ? flavours[flavour] : "?", openblas_get_corename());
  bool kernels_of_old = strcmp(openblas_get_corename(), "Prescott") == 0;
  if (kernels_of_old && fg_isa() != FG_ISA_PLAIN) /* seen on Sapphire Rapids: a sixth of the speed */
    snprintf(finding.advice, sizeof finding.advice,
             "OpenBLAS does not know this CPU and uses its slowest kernels: a newer OpenBLAS, or OPENBLAS_CORETYPE=%s",
             fg_isa() == FG_ISA_AVX512 ? "SkylakeX" : "Haswell");
  else if (flavour != OPENBLAS_OPENMP)
    snprintf(finding.advice, sizeof finding.advice, "install the OpenMP flavour of OpenBLAS (Debian: libopenblas0-openmp)%s",
             flavour == 1 ? ": its own threads get in the way of ours" : "");
  return finding;
}

static fg_finding finding_of(const char *name, int works, const char *found, const char *advice) {
  fg_finding finding = {.name = name, .works = works};
  snprintf(finding.found, sizeof finding.found, "%s", found);
  if (!works) snprintf(finding.advice, sizeof finding.advice, "%s", advice);
  return finding;
}

int fg_doctor(fg_finding *findings, int capacity) {
  struct fg_probe cuda;
  fg_probe_cuda(&cuda);
  const fg_finding all[] = {
      cpu_finding(),
      blas_finding(),
      finding_of("driver", cuda.driver != 0, cuda.driver_text, "for GPU levels: install NVIDIA's driver; CPU levels need none"),
      finding_of("gpu", cuda.gpus > 0, cuda.gpu_text,
                 "for GPU levels: a machine with a CUDA GPU, a Hopper one from wgmma upward"),
      finding_of("nvrtc", cuda.nvrtc != 0, cuda.nvrtc_text, "for GPU levels: install libnvrtc (pip: nvidia-cuda-nvrtc)"),
      finding_of("cache", 0, "this version has no GPU levels, so no kernels to keep", "nothing: CPU levels need no cache"),
  };
  enum { FINDINGS = sizeof all / sizeof all[0] };
  for (int i = 0; i < FINDINGS && i < capacity && findings; i++) findings[i] = all[i];
  return FINDINGS;
}
